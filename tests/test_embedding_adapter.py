"""Voices: given embeddings judged, mapped or refused, and a speaker table that coqui reads."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import embedding_adapter
import run_pretrain
from embedding_adapter import EmbeddingAdapter, run_embeddings_stage
from xtts_ka.core.config import load_config
from xtts_ka.core.errors import UserError
from xtts_ka.core.stage_ledger import StageLedger
from xtts_ka.corpus import tables
from xtts_ka.corpus.embedding_files import FOLDER
from xtts_ka.corpus.tables import Clip
from xtts_ka.model.geometry import SPEAKER_WIDTH
from xtts_ka.model.speakers import read_speakers, suspect_ids
from xtts_ka.model.voice_space import unit

ROOT = Path(__file__).parents[1]
RATE = 22050
SPEAKERS, TAKES = 5, 5


def beat(speaker: int, take: int, seconds: float = 1.1) -> np.ndarray:
    """Noise in a rhythm of the speaker's own: steady spectra look alike to an untrained encoder, rhythms do not."""
    draw = np.random.default_rng([speaker, take])
    time = np.arange(int(seconds * RATE)) / RATE
    pulse = np.sin(2 * np.pi * 3 * 1.5**speaker * time + draw.uniform(0, 6)) > 0.3 + 0.1 * (speaker % 2)
    noise = draw.standard_normal(len(time)) * (0.02 + pulse)
    return (0.3 * noise / np.abs(noise).max()).astype(np.float32)


class Remembering:
    """XTTS's own encoder, with its results kept for all tests."""

    def __init__(self, encoder):
        self.encoder, self.voices = encoder, {}

    def speaker_embedding(self, speech):
        key = speech.numpy().tobytes()
        if key not in self.voices:
            self.voices[key] = self.encoder.speaker_embedding(speech)
        return self.voices[key].clone()

    def cond_latent(self, speech):
        return self.encoder.cond_latent(speech)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A data folder with 5 voices × 5 takes, in `data/split/train/audio`."""
    data = tmp_path_factory.mktemp("voices") / "data"
    audio = data / "split" / "train" / "audio"
    audio.mkdir(parents=True)
    clips = []
    for speaker in range(SPEAKERS):
        for take in range(TAKES):
            name = f"u{speaker}{take}"
            sound = beat(speaker, take)
            soundfile.write(audio / f"{name}.wav", sound, RATE, subtype="FLOAT")
            clips.append(Clip(name, "ერთი", f"s{speaker}", len(sound) / RATE, audio / f"{name}.wav", None))
    return data, clips


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The tiny base model of starter mode, one layer of width 64."""
    import tiny

    from xtts_ka.model.checkpoint import read_model

    return read_model(tiny.write_base_model(tmp_path_factory.mktemp("base") / "model"))


@pytest.fixture(scope="module")
def encoder(base):
    from xtts_ka.model.features import VoiceEncoder

    return Remembering(VoiceEncoder(base.config, base.state))


@pytest.fixture(scope="module")
def encodings(recordings, encoder):
    """file_id → XTTS's own (512,) embedding."""
    from xtts_ka.model.features import load_speech

    return {
        clip.file_id: encoder.speaker_embedding(load_speech(clip.audio_path)).numpy().reshape(-1)
        for clip in recordings[1]
    }


@pytest.fixture
def given_folder(recordings):
    """The embeddings folder, empty before and after."""
    folder = recordings[0] / FOLDER
    shutil.rmtree(recordings[0] / "embeddings", ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(recordings[0] / "embeddings")


def adapter_of(recordings, encoder, clips=None) -> EmbeddingAdapter:
    return EmbeddingAdapter(clips or recordings[1], encoder, recordings[0])


def cosine(a, b) -> float:
    return float(unit(np.asarray(a).reshape(-1)) @ unit(np.asarray(b).reshape(-1)))


def centroid_of(encodings, speaker: int) -> np.ndarray:
    return unit(np.mean([encodings[f"u{speaker}{take}"] for take in range(TAKES)], axis=0))


# ── the adapter, with XTTS's own encoder ────────────────────────────────────────────────────────────────────


def test_voices_from_audio(recordings, encoder, encodings, capsys):
    adapter = adapter_of(recordings, encoder)
    table = adapter.run()
    assert "no embeddings" in capsys.readouterr().out
    assert list(table) == [f"s{i}" for i in range(SPEAKERS)] and set(adapter.source.values()) == {"audio"}
    for entry in table.values():
        assert list(entry) == ["gpt_cond_latent", "speaker_embedding"]
        assert entry["gpt_cond_latent"].shape == (1, 32, 64)
        assert entry["speaker_embedding"].shape == (1, 512, 1)
        assert entry["gpt_cond_latent"].dtype == entry["speaker_embedding"].dtype == torch.float32
        assert float(entry["speaker_embedding"].norm()) == pytest.approx(1, abs=1e-6)
    kept = [f"u0{i}" for i in range(TAKES) if f"u0{i}" not in adapter.suspects]
    centroid = unit(np.mean([unit(encodings[name]) for name in kept], axis=0))
    np.testing.assert_allclose(table["s0"]["speaker_embedding"].numpy().reshape(-1), centroid, atol=1e-6)
    assert json.loads(json.dumps(adapter.metrics()))["voices_from"] == {"audio": SPEAKERS}


def test_only_known_speakers_become_voices(recordings, encoder, given_folder, capsys):
    np.save(given_folder / "u00.npy", np.ones(SPEAKER_WIDTH))
    clips = [replace(clip, speaker_known=clip.speaker_id != "s0") for clip in recordings[1]]
    adapter = adapter_of(recordings, encoder, clips)
    assert set(adapter.run()) == {"s1", "s2", "s3", "s4"}
    assert adapter.given.elsewhere == 1 and not adapter.given.unused
    unknown = adapter_of(recordings, encoder, [replace(clip, speaker_known=False) for clip in clips])
    assert unknown.run() == {} and unknown.metrics()["speakers"] == 0
    assert "the corpus names no speaker" in capsys.readouterr().err


def test_few_of_many_recordings_are_encoded(recordings, encoder, monkeypatch):
    monkeypatch.setattr(embedding_adapter, "UTTERANCES_PER_SPEAKER", 2)
    chosen = []
    for clips in (recordings[1], recordings[1][::-1]):
        adapter = adapter_of(recordings, encoder, clips)
        adapter.load()
        adapter.adapt()
        chosen.append(sorted(adapter.encoded))
    assert chosen[0] == chosen[1] and len(chosen[0]) == 2 * SPEAKERS


def test_vectors_of_xtts_itself_are_recognised(recordings, encoder, encodings, given_folder, capsys):
    for name, vector in encodings.items():
        np.save(given_folder / f"{name}.npy", 7 * vector.reshape(1, 512, 1))  # length does not matter
    adapter = adapter_of(recordings, encoder)
    adapter.run()
    assert adapter.verdict.in_space and adapter.ridge is None
    assert adapter.verdict.own == pytest.approx(1, abs=1e-6)
    assert set(adapter.source.values()) == {"given"} and "used as they are" in capsys.readouterr().out


def test_speaker_vectors_of_xtts_itself_are_recognised(recordings, encoder, encodings, given_folder):
    means = {f"s{i}": centroid_of(encodings, i) for i in range(SPEAKERS - 1)}
    np.savez(given_folder / "speakers.npz", **means)
    adapter = adapter_of(recordings, encoder)
    voices = adapter.run()
    assert adapter.verdict.in_space and adapter.verdict.pairs == SPEAKERS - 1
    assert adapter.source == {f"s{i}": "given" for i in range(SPEAKERS - 1)} | {f"s{SPEAKERS - 1}": "audio"}
    assert cosine(voices["s1"]["speaker_embedding"], means["s1"]) == pytest.approx(1, abs=1e-6)


def test_linear_image_of_the_space_is_mapped_back(recordings, encoder, encodings, given_folder, capsys):
    spin = np.random.default_rng(4).standard_normal((512, 700))
    torch.save({name: torch.tensor(vector @ spin) for name, vector in encodings.items()}, given_folder / "all.pth")
    adapter = adapter_of(recordings, encoder)
    table = adapter.run()
    assert adapter.verdict is None and adapter.ridge.useful, adapter.ridge
    assert adapter.ridge.cosine > 0.95 and adapter.ridge.cosine > adapter.ridge.chance
    assert set(adapter.source.values()) == {"mapped"} and "mapped" in capsys.readouterr().out
    true = [centroid_of(encodings, i) for i in range(SPEAKERS)]
    found = [table[f"s{i}"]["speaker_embedding"].numpy().reshape(-1) for i in range(SPEAKERS)]
    assert (np.array(found) @ np.array(true).T).argmax(axis=1).tolist() == list(range(SPEAKERS))


def test_useless_vectors_are_announced_and_not_used(recordings, encoder, given_folder, capsys):
    draw = np.random.default_rng(2)
    for clip in recordings[1]:
        np.save(given_folder / f"{clip.file_id}.npy", draw.standard_normal(512))
    adapter = adapter_of(recordings, encoder)
    adapter.run()
    assert not adapter.verdict.in_space and not adapter.ridge.useful
    assert set(adapter.source.values()) == {"audio"}
    assert "not used" in capsys.readouterr().err and adapter.metrics()["ridge"]["useful"] is False


def test_too_few_vectors_are_announced(recordings, encoder, given_folder, capsys):
    np.save(given_folder / "u00.npy", np.arange(1.0, 9.0))
    np.save(given_folder / "u01.npy", np.full(8, np.nan))
    adapter = adapter_of(recordings, encoder)
    adapter.run()
    said = capsys.readouterr().err
    assert "a map needs 8" in said and "u01.npy" in said and set(adapter.source.values()) == {"audio"}


def test_wrong_label_is_found_in_the_sound(recordings, encoder):
    clips = [replace(clip, speaker_id="s3") if clip.file_id == "u10" else clip for clip in recordings[1]]
    adapter = adapter_of(recordings, encoder, clips)
    adapter.load()
    adapter.adapt()
    assert len(adapter.suspects) <= 2 and " to s3" in adapter.suspects["u10"], adapter.told_apart


def test_unusable_recordings_are_named(recordings, encoder, tmp_path):
    for name, sound in (("brief", np.ones(2000, np.float32)), ("nan", np.full(RATE, np.nan, np.float32))):
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, subtype="FLOAT")
        clip = Clip(name, "ა", "s", 1.0, tmp_path / f"{name}.wav", None)
        with pytest.raises(UserError, match=f"{name}.wav"):
            adapter_of(recordings, encoder, [clip]).run()


# ── the stage and the script ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def project(recordings, base, tmp_path):
    """A config beside a copy of the data with real split tables."""
    data = tmp_path / "data"
    shutil.copytree(recordings[0], data)
    clips = [
        replace(clip, audio_path=data / clip.audio_path.relative_to(recordings[0]))
        for clip in recordings[1]
        if clip.speaker_id in ("s0", "s1")
    ]
    tables.write_splits(data, {"train": clips[1:], "val": clips[:1], "test": []})
    config = tmp_path / "config.json"
    raw = {
        "data_dir": "data",
        "base_model_path": str(base.folder),
        "output_model_path": "out",
        "starter": {"enabled": True},
    }
    config.write_text(json.dumps(raw))
    return config, clips


def test_stage_writes_what_coqui_reads(project, base, encodings):
    from TTS.tts.layers.xtts.xtts_manager import SpeakerManager

    config = load_config(project[0])
    swapped = [replace(clip, speaker_id="s1") if clip.file_id == "u00" else clip for clip in project[1]]
    folder = Path(config.data_dir) / FOLDER
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    spin = draw.standard_normal((512, 40))
    codes = {"s0": draw.standard_normal(40), "s1": draw.standard_normal(40)}
    middle = np.mean([*encodings.values()], axis=0)
    for clip in project[1]:  # another space, in which the speakers are far apart
        vector = codes[clip.speaker_id] + (encodings[clip.file_id] - middle) @ spin
        np.save(folder / f"{clip.file_id}.npy", vector)
    metrics = run_embeddings_stage(config, swapped, base)
    manager = SpeakerManager(Path(config.output_model_path) / "speakers_base.pth")
    assert manager.speaker_names == ["s0", "s1"]
    latent, embedding = manager.speakers["s0"].values()  # as coqui's `synthesize` unpacks them
    assert latent.shape == (1, 32, 64) and embedding.shape == (1, 512, 1)
    assert metrics["speakers"] == 2 and metrics["given"]["utterances"] == metrics["ridge"]["pairs"] == 10
    assert metrics["ridge"]["useful"] and metrics["voices_from"] == {"mapped": 2}
    (row,) = tables.read_drop_report(config.data_dir)
    assert row[:3] == ("u00", "suspect", "suspect_speaker") and "closer to s0" in row[3]
    assert metrics["suspects"] == 1 and suspect_ids(config.data_dir) == {"u00"}
    json.dumps(metrics)


def test_the_same_input_gives_the_same_bytes(project, base):
    config = load_config(project[0])
    table = Path(config.output_model_path) / "speakers_base.pth"
    run_embeddings_stage(config, project[1], base)
    first = table.read_bytes()
    run_embeddings_stage(config, project[1][::-1], base)
    assert table.read_bytes() == first


def test_the_script_runs_the_stage_under_the_lock_and_enters_it_in_the_record(project, capsys):
    flags = ["--config", str(project[0])]
    out = project[0].parent / "out" / "speakers_base.pth"
    with StageLedger(out.with_name("pretrain_progress.json")).lock.hold():
        assert embedding_adapter.main(flags) == 2
        assert "another run (pid" in capsys.readouterr().err and not out.exists()
    assert embedding_adapter.main(flags) == 0
    said = capsys.readouterr().out
    assert "embeddings: never run" in said and "speakers_base.pth (2): s0; s1" in said
    stamp = out.stat().st_mtime_ns
    assert embedding_adapter.main(flags) == 0
    said = capsys.readouterr().out
    assert "embeddings up to date" in said and "s0; s1" in said and out.stat().st_mtime_ns == stamp
    assert run_pretrain.main([*flags, "--dry-run"]) == 0
    assert "embeddings     skip  up to date" in capsys.readouterr().out
    out.write_bytes(pickle.dumps({"s0": 1}))
    assert embedding_adapter.main([*flags, "--quiet"]) == 0  # the record knows that this is not its file
    assert capsys.readouterr().out == "" and len(read_speakers(out)) == 2
    stamp = out.stat().st_mtime_ns
    assert embedding_adapter.main([*flags, "--force"]) == 0
    assert "embeddings: --only" in capsys.readouterr().out and out.stat().st_mtime_ns > stamp
    assert not out.with_name("speakers_xtts.pth").exists()  # the training stage's file


def test_script_without_base_model(project, capsys):
    raw = json.loads(project[0].read_text()) | {"base_model_path": "nowhere", "starter": {"enabled": False}}
    project[0].write_text(json.dumps(raw))
    assert embedding_adapter.main(["--config", str(project[0])]) == 2
    assert "hf download" in capsys.readouterr().err
    assert not (project[0].parent / "out").exists()


def test_help_is_quick_and_loads_nothing_heavy():
    probe = (
        "import sys, embedding_adapter\n"
        "try: embedding_adapter.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'transformers', 'matplotlib', 'TTS'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "--force" in done.stdout and "example:" in done.stdout
    assert done.stdout.rstrip().endswith("[]")
