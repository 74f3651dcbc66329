"""Speaking with a model folder: what is read, by whom, and which folders are refused."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import tiny
import torch
from tiny import encode
from TTS.tts.layers.xtts.gpt import GPT

from xtts_ka.core import console
from xtts_ka.core.errors import UserError
from xtts_ka.georgian.text import normalise, split_sentences
from xtts_ka.model.checkpoint import read_model
from xtts_ka.model.vocabulary import load_tokenizer
from xtts_ka.speech import synthesis
from xtts_ka.speech.batch import Drawn, Spoken
from xtts_ka.speech.guard import Attempt, Guarded
from xtts_ka.speech.synthesis import PAUSE, speak

TEXT = "ბ-ნი ი. ჭავჭავაძე დაიბადა 1837 წ. სოფ. ყვარელში. II მსოფლიო ომი მოგვიანებით იყო!"


@pytest.fixture(scope="module")
def finished_model(tmp_path_factory):
    root = tmp_path_factory.mktemp("speech")
    base = read_model(tiny.write_base_model(root / "base"))
    return tiny.write_georgian_model(root / "model", base)


@pytest.fixture
def folder(finished_model, tmp_path):
    return shutil.copytree(finished_model, tmp_path / "model")


@pytest.fixture
def heard(monkeypatch):
    """(token ids, voice's latents) that the GPT is given; it is cut after four codes."""
    given = []
    original = GPT.compute_embeddings

    def compute(self, cond_latents, text_inputs):
        given.append((text_inputs[0].tolist(), cond_latents))
        return original(self, cond_latents, text_inputs)

    monkeypatch.setattr(GPT, "compute_embeddings", compute)
    monkeypatch.setattr(synthesis, "most_codes", lambda text, rate: 4)
    return given


def test_each_sentence_is_spoken_in_turn_by_the_voice_asked_for(folder, tmp_path, heard):
    seconds = speak(folder, TEXT, "დათო", tmp_path / "a.wav", "cpu", seed=1, attempts=1)
    tokenizer = load_tokenizer(folder / "vocab.json")
    pieces = split_sentences(normalise(TEXT), 40)
    drawn = sorted(pieces, key=len, reverse=True)  # the longest first
    assert [ids for ids, _ in heard] == [encode(tokenizer, piece) for piece in drawn] and len(pieces) > 2
    voice = torch.load(folder / "speakers_xtts.pth", weights_only=True)["დათო"]
    assert all(torch.equal(latents, voice["gpt_cond_latent"]) for _, latents in heard)
    wave, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 24000 and len(wave) == round(seconds * rate) and np.isfinite(wave).all() and np.abs(wave).max() > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[1], wave != 0, [1]])))
    pauses = [end - start for start, end in edges.reshape(-1, 2) if end - start >= PAUSE]
    assert len(pauses) == len(pieces) - 1 and max(pauses) < PAUSE + 100


def test_the_same_seed_gives_the_same_sound_and_the_first_voice_speaks_by_default(folder, tmp_path, heard, capsys):
    for name, speaker, seed in (("a", None, 1), ("b", "ეკა", 1), ("c", "ეკა", 2)):
        speak(folder, "მზე ანათებს.", speaker, tmp_path / f"{name}.wav", "cpu", seed)
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c
    assert capsys.readouterr().out.count("voice: ეკა, the first of 2") == 1


def test_a_sentence_with_a_fault_is_tried_again_and_verbose_tells(folder, tmp_path, heard, capsys, monkeypatch):
    monkeypatch.setattr(console, "_verbosity", 2)
    speak(folder, "მზე ანათებს.", "ეკა", tmp_path / "a.wav", "cpu", 1, attempts=2)
    assert len(heard) == 2 and heard[0][0] == heard[1][0]
    told = capsys.readouterr().out
    assert (
        "guard: " in told
        and "მზე ანათებს.: 2 attempts (no_stop, too_short; no_stop, too_short); faults left: no_stop" in told
    )


def test_without_a_guard_nothing_is_checked_and_the_models_own_limit_holds(
    folder, tmp_path, heard, capsys, monkeypatch
):
    monkeypatch.setattr(synthesis, "speak_guarded", lambda model, pieces, guard: asked.extend([guard, *pieces]) or [])
    asked = []
    with pytest.raises(ValueError):  # nothing comes back
        speak(folder, "მზე ანათებს.", "ეკა", tmp_path / "a.wav", "cpu", 1, attempts=0)
    assert asked[0] is None and asked[1].most_codes > 500 and asked[1].fewest_codes == 0


def test_the_rate_of_the_voice_bounds_its_sentences(folder, tmp_path, monkeypatch):
    facts = folder / "xtts_v2_ka_config.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"letters_per_second": {"ეკა": 2.0}}))
    asked = []

    def spoken(model, pieces, guard):
        asked.extend(pieces)
        clip = Spoken(np.ones(9, np.float32), (1,), True)
        return [Guarded((Attempt(Drawn((1,), True), frozenset(), 0.0),), clip) for _ in pieces]

    monkeypatch.setattr(synthesis, "speak_guarded", spoken)
    for voice in ("ეკა", "დათო"):
        speak(folder, "მზე ანათებს.", voice, tmp_path / "a.wav", "cpu", 1)
    slow, usual = asked
    assert slow.most_codes > 3 * usual.most_codes and slow.fewest_codes > 3 * usual.fewest_codes > 0


def test_the_old_letters_are_read_as_the_model_was_trained(folder, tmp_path, heard):
    speak(folder, "ჴელი", None, tmp_path / "a.wav", "cpu", 1, attempts=1)
    assert heard[0][0] == encode(load_tokenizer(folder / "vocab.json"), "ხელი")


def refused(folder, tmp_path, words, text="მზე", speaker=None):
    with pytest.raises(UserError, match=words):
        speak(folder, text, speaker, tmp_path / "a.wav", "cpu", 1)
    assert not (tmp_path / "a.wav").exists()


def test_unknown_speakers_and_empty_texts_are_refused(folder, tmp_path, heard):
    refused(folder, tmp_path, "speaker 'x' is not in .*choose one of ეკა, დათო", speaker="x")
    refused(folder, tmp_path, "holds nothing to read aloud", text="…!")
    assert heard == []


def test_a_model_without_voices_says_how_it_speaks(folder, tmp_path, heard):
    torch.save({}, folder / "speakers_xtts.pth")
    refused(folder, tmp_path, "has no voice, .* xtts-ka tts .* --speaker_wav")


def test_unfinished_and_damaged_folders_are_refused(folder, tmp_path, heard):
    facts = json.loads((folder / "xtts_v2_ka_config.json").read_text())
    (folder / "xtts_v2_ka_config.json").write_text(json.dumps(facts | {"archaic": "drop"}))
    refused(folder, tmp_path, "does not say how the model reads Georgian")
    (folder / "xtts_v2_ka_config.json").unlink()
    refused(folder, tmp_path, "finish the full_pretrain stage first")
    (folder / "xtts_v2_ka_config.json").write_text(json.dumps(facts))
    for name in ("speakers_xtts.pth", "model.pth", "vocab.json", "config.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        refused(folder, tmp_path, name)
        (folder / name).write_bytes(content)
    assert heard == []
