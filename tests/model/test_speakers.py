"""The speaker table: which clips a voice is computed from, coqui's own latents, and what is refused."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import Clip, write_drop_report
from xtts_ka.model.features import VoiceEncoder, load_speech
from xtts_ka.model.speakers import clip_speech, read_speakers, reference_clips, speaker_table, suspect_ids
from xtts_ka.model.voice_space import unit


@pytest.fixture(scope="module")
def encoder(base):
    return VoiceEncoder(base.config, base.state)


@pytest.fixture(scope="module")
def clips(tiny_recordings):
    """Six clips of each of two speakers, s0 and s1."""
    return [
        Clip(path.stem, "ერთი", f"s{i % 2}", soundfile.info(path).duration, path, None)
        for i, path in enumerate(tiny_recordings)
    ]


@pytest.fixture(scope="module")
def voices():
    """speaker_id → (512,)."""
    return {f"s{i}": unit(np.random.default_rng(i).standard_normal(512)) for i in range(2)}


def test_reference_clips_are_good_ones_and_fill_half_a_minute():
    def clip(name, seconds):
        return Clip(name, "ა", "s", seconds, Path("/nowhere"), None)

    clips = [clip("short", 1.0), clip("long", 25.0), *(clip(f"good{i}", 8.0) for i in range(5))]
    chosen = [c.file_id for c in reference_clips(clips, {"good0"})]
    assert len(chosen) == 4 and set(chosen) == {"good1", "good2", "good3", "good4"}
    assert [c.file_id for c in reference_clips(clips[:2])] == ["long", "short"]
    assert [c.file_id for c in reference_clips(clips[:1], {"short"})] == ["short"]  # better than none
    assert reference_clips(clips[::-1]) == reference_clips(clips)


def test_the_table_holds_the_embeddings_and_coquis_latents_of_the_joined_clips(clips, encoder, voices):
    table = speaker_table(clips, encoder, voices)
    assert list(table) == ["s0", "s1"]
    for name, entry in table.items():
        assert list(entry) == ["gpt_cond_latent", "speaker_embedding"]  # coqui unpacks them in this order
        embedding = entry["speaker_embedding"]
        assert embedding.shape == (1, 512, 1) and embedding.dtype == torch.float32
        np.testing.assert_allclose(embedding.reshape(-1).numpy(), voices[name], atol=1e-6)
    chosen = reference_clips([clip for clip in clips if clip.speaker_id == "s1"])
    joined = torch.cat([load_speech(clip.audio_path) for clip in chosen], dim=1)
    expected = encoder._xtts.get_gpt_cond_latents(joined, 22050, length=30, chunk_length=6)
    torch.testing.assert_close(table["s1"]["gpt_cond_latent"], expected)


def test_latents_follow_a_trained_gpt_and_embeddings_stay(clips, base, encoder, voices):
    table = speaker_table(clips, encoder, voices)
    kept = {name: entry["gpt_cond_latent"].clone() for name, entry in table.items()}
    embeddings = {name: entry["speaker_embedding"] for name, entry in table.items()}
    same = speaker_table(clips, encoder, embeddings)
    torch.testing.assert_close(same["s1"]["gpt_cond_latent"], kept["s1"])
    trained = {k: v * 1.1 if k.startswith("gpt.conditioning") else v for k, v in base.state.items()}
    moved = speaker_table(clips, VoiceEncoder(base.config, trained), embeddings)
    assert list(moved["s0"]) == ["gpt_cond_latent", "speaker_embedding"]
    assert not torch.allclose(moved["s0"]["gpt_cond_latent"], kept["s0"], atol=1e-4)
    assert torch.equal(moved["s0"]["speaker_embedding"], table["s0"]["speaker_embedding"])
    torch.testing.assert_close(table["s0"]["gpt_cond_latent"], kept["s0"])
    with pytest.raises(UserError, match="s1 has no recording"):
        speaker_table([clip for clip in clips if clip.speaker_id == "s0"], encoder, embeddings)


def test_a_clip_too_short_to_encode_is_named_and_a_long_one_cut(tmp_path):
    for seconds in (0.2, 31.0):
        soundfile.write(tmp_path / f"{seconds}.wav", tiny.noise(seconds), 22050)
    with pytest.raises(UserError, match=r"0\.2\.wav is shorter than 0\.33 s"):
        clip_speech(Clip("a", "ა", "s", 0.2, tmp_path / "0.2.wav", None))
    assert clip_speech(Clip("b", "ა", "s", 31.0, tmp_path / "31.0.wav", None)).shape == (1, 30 * 22050)


def test_recordings_without_a_finite_latent_are_named(clips, voices):
    class Broken:
        def cond_latent(self, speech):
            return torch.full((1, 32, 64), math.nan)

    with pytest.raises(UserError, match="speaker s0 give no finite"):
        speaker_table(clips, Broken(), voices)


def test_suspects_are_read_from_the_drop_report(tmp_path):
    (tmp_path / "split").mkdir()
    write_drop_report(
        tmp_path,
        [
            ("u1", "suspect", "suspect_speaker", "cosine 0.1", "u1.wav", "ა"),
            ("u2", "suspect", "odd_transcript", "", "u2.wav", "ბ"),
            ("u3", "dropped", "too_short", "", "u3.wav", "გ"),
        ],
    )
    assert suspect_ids(tmp_path) == {"u1"}


def test_tables_that_are_not_xttss_are_refused(tmp_path):
    path = tmp_path / "speakers_xtts.pth"
    sound = {"gpt_cond_latent": torch.zeros(1, 32, 8), "speaker_embedding": torch.zeros(1, 512, 1)}
    torch.save({"s": sound}, path)
    assert read_speakers(path).keys() == {"s"}
    torch.save({}, path)  # where the speakers of all recordings are unknown
    assert read_speakers(path) == {}
    for table in (
        [],
        [sound],
        {1: sound},
        {"s": dict(reversed(sound.items()))},
        {"s": {**sound, "gpt_cond_latent": torch.zeros(1, 31, 8)}},
        {"s": {**sound, "gpt_cond_latent": torch.zeros(32, 8)}},
        {"s": {**sound, "speaker_embedding": torch.zeros(1, 512)}},
        {"s": {**sound, "speaker_embedding": torch.zeros(1, 512, 1).half()}},
    ):
        torch.save(table, path)
        with pytest.raises(UserError, match="no table of XTTS speakers"):
            read_speakers(path)
    path.write_bytes(pickle.dumps({"s0": 1}))
    with pytest.raises(UserError, match="python run_pretrain.py"):
        read_speakers(path)
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        read_speakers(path)
