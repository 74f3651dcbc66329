"""The stand-in base's recipe up to its sounds: texts, speech, phoneme recogniser, DVAE, speaker encoder."""

import gzip
import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from starter_base import dvae, georgian_recogniser, make_base, mels, phonemes, sizes, speakers, speech, texts
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.model.features import dvae_mels

WORDS = {
    "es": "casa perro jamón lluvia queso noche verde gato",
    "pl": "dziękuję chleb woda miasto żaba kwiat",
    "ru": "дом хлеб ночь чай жить щука",
    "hi": "घर खाना पानी भाषा ठंडा",
}

GEORGIAN = "სახლი გზა ჭიქა ყვავი ხე ძაღლი ზღვა ქარი ფოთოლი ჟამი თუთა ცა " * 4


def rows(count: int) -> list[dict[str, str]]:
    random = np.random.default_rng(1)
    found = []
    for number in range(count):
        language = list(WORDS)[number % len(WORDS)]
        text = " ".join(random.choice(WORDS[language].split(), int(random.integers(3, 8)))) + "."
        phones = " ".join(texts.phonemes_of(text, language))
        found.append({"text": text, "language": language, "phonemes": phones})
    return found


def write(work, some):
    work.mkdir(exist_ok=True)
    (work / texts.TEXTS).write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in some).encode()))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    work = tmp_path_factory.mktemp("base")
    write(work, rows(48))
    speech.speak(work, processes=1)
    return work


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_texts_are_sentences_of_every_language_without_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "words_of", lambda language: (WORDS.get(language, "ana mela").split(), None))
    monkeypatch.setattr(texts, "LONG_LETTERS", (50, 60))
    texts.write_texts(tmp_path, 60)
    found = texts.read_texts(tmp_path)
    assert {row["language"] for row in found} == set(sizes.LANGUAGES)
    for row in found:
        assert set(row["text"][:-1]) <= set(texts.LETTERS[row["language"]][0] + " ,") and row["text"][-1] in ".?!"
        assert row["phonemes"] and not set(row["text"]) & set(GEORGIAN_LETTERS)
    assert 2 < sum(len(row["text"]) >= 45 for row in found) < 40


def test_words_are_read_as_words_by_espeak():
    words, shares = texts.words_of("cs")
    assert len(words) > 5000 and abs(shares.sum() - 1) < 1e-9
    assert "vlk" not in words and "v" not in words and "dobrý" in words  # without a vowel, espeak-ng spells them


def test_phonemes_are_without_stress_and_pauses():
    assert texts.phonemes_of("dům, noc.", "cs") == ["d", "u:", "m", "n", "o", "ts"]
    assert texts.phonemes_of("der computer ist cool", "de") == []  # espeak-ng speaks a word in English


# ── speech ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_speech_does_not_depend_on_the_number_of_processes(spoken, tmp_path):
    write(tmp_path, texts.read_texts(spoken))
    speech.speak(tmp_path, processes=2)
    for name in (speech.WAVES, speech.CLIPS):
        assert (tmp_path / "speech" / name).read_bytes() == (spoken / "speech" / name).read_bytes()


def test_killed_it_carries_on(spoken, tmp_path):
    write(tmp_path, texts.read_texts(spoken))
    folder = tmp_path / "speech"
    folder.mkdir()
    lines = (spoken / "speech" / speech.CLIPS).read_bytes().splitlines(keepends=True)
    (folder / speech.CLIPS).write_bytes(b"".join(lines[:20]) + lines[20][:9])
    (folder / speech.WAVES).write_bytes((spoken / "speech" / speech.WAVES).read_bytes()[:-1001])
    speech.speak(tmp_path, processes=1)
    for name in (speech.WAVES, speech.CLIPS):
        assert (folder / name).read_bytes() == (spoken / "speech" / name).read_bytes()


def test_a_clip_is_its_wave(spoken):
    found = speech.Speech(spoken)
    assert sum(clip.samples for clip in found.clips) == len(found.waves)
    wave = found.wave(3)
    assert wave.shape == (1, found.clips[3].samples) and 0.05 < wave.abs().max() <= 1


def test_the_split_follows_from_the_text_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "HELD_OUT", 0.25)
    splits = []
    for name, some in (("forth", rows(16)), ("back", rows(16)[::-1])):
        write(tmp_path / name, some)
        speech.speak(tmp_path / name, processes=1)
        splits.append({clip.text: clip.split for clip in speech.Speech(tmp_path / name).clips})
    assert splits[0] == splits[1] and set(splits[0].values()) == {"train", "val", "test"}


def test_there_are_14_voices_of_each_language_and_the_starters_are_among_them():
    assert len({voice.voice for voice in speech.voices()}) == len(speech.voices()) == 14 * len(sizes.LANGUAGES)
    assert {"es+f2", "es+f3", "es+Annie", "es+m1", "es+m3", "es+m7"} <= {voice.voice for voice in speech.voices()}


# ── mels ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_mels_are_those_that_the_dvae_takes_in(spoken, tmp_path):
    found, clips = speech.Speech(spoken), [4, 1, 7]
    loaded = mels.load_mels(spoken, found, clips, "cpu")
    save_torch(tmp_path / "mel_stats.pth", loaded.scale)
    for place, (clip, wanted) in enumerate(
        zip(clips, dvae_mels([found.wave(c) for c in clips], tmp_path / "mel_stats.pth"))
    ):
        assert loaded.frames[place] == wanted.shape[1]
        whole, left = loaded.pieces(np.array([place]), np.array([0]), wanted.shape[1] + 3)
        assert torch.allclose(whole[0, :-3], wanted.T, atol=2e-3) and int(left) == wanted.shape[1], clip
        assert torch.allclose(whole[0, -3:] * loaded.scale, torch.tensor(mels.SILENCE))


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tiny(monkeypatch):
    """Small networks and batches; every clip that is not for training is for validation."""
    torch.set_num_threads(1)
    for module, name, value in (
        (phonemes, "DIM", 16),
        (phonemes, "LAYERS", 1),
        (phonemes, "BATCH_FRAMES", {"cpu": 600}),
        (dvae, "BATCH", {"cpu": 3}),
        (dvae, "SETTINGS", dvae.SETTINGS.model_copy(update={"segment_codes": 8})),
        (dvae, "STARTED_ANEW", (2,)),
        (speakers, "BATCH", {"cpu": 2}),
        (georgian_recogniser, "DIM", 16),
        (georgian_recogniser, "LAYERS", 1),
        (georgian_recogniser, "BATCH_FRAMES", {"cpu": 600}),
        (
            georgian_recogniser,
            "training_texts",
            lambda: [f"{word} დილა {i * 'კი '}".strip() for i, word in enumerate(GEORGIAN.split())],
        ),
        (georgian_recogniser, "judged_texts", lambda: ["თეთრი ღრუბელი", "წვიმს"]),
        (sizes, "DVAE", {"hidden": 8, "codebook_dim": 4}),
        (sizes, "SPEAKER_ENCODER", {"filters": [4, 4, 4, 4]}),
        (speech.Speech, "of", lambda self, *splits: [n for n in range(48) if (n < 30) == ("train" in splits)]),
    ):
        monkeypatch.setattr(module, name, value)


def make(work, out, *more):
    minutes = [f"--minutes-{step}=0" for step in ("phonemes", "dvae", "speakers", "georgian")]
    return make_base.main(["--work", str(work), "--out", str(out), "--device", "cpu", "--quiet", *minutes, *more])


def test_a_step_leaves_its_network_and_is_not_done_twice(spoken, tmp_path, tiny, capsys):
    assert make(spoken, tmp_path, "--steps", "phonemes,dvae,speakers") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"phonemes", "dvae", "speaker_encoder"} and figures["dvae"]["codes_used"] >= 1
    book = load_file(tmp_path / dvae.WEIGHTS)["codebook.embed"]
    assert book.shape == (4, 1024) and book.isfinite().all()
    assert load_file(tmp_path / "mel_stats.safetensors")["mel_stats"].min() > 0
    assert make(spoken, tmp_path, "--steps", "georgian,judge", "--processes", "1") == 0
    georgian = json.loads((tmp_path / "figures.json").read_text())["georgian"]
    assert georgian["natural"]["value"] > 0 and georgian["through the codes"]["high"] > 0
    before = {file: file.stat().st_mtime_ns for file in spoken.glob("*.safetensors")}
    assert len(before) == 5 and make(spoken, tmp_path, "--steps", "phonemes,dvae,speakers") == 0
    assert before == {file: file.stat().st_mtime_ns for file in spoken.glob("*.safetensors")}


def test_a_killed_step_carries_on_from_its_checkpoint(spoken, tmp_path, tiny, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    (work / "speech").symlink_to(spoken / "speech")
    step = phonemes.PhonemePart.train_step

    def killed(self, batch, number, tools):
        if number == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, number, tools)

    monkeypatch.setattr(phonemes.PhonemePart, "train_step", killed)
    assert make(work, tmp_path, "--steps", "phonemes") != 0
    assert not (work / phonemes.WEIGHTS).exists()
    monkeypatch.setattr(phonemes.PhonemePart, "train_step", step)
    assert make(work, tmp_path, "--steps", "phonemes") == 0
    starts = [line for line in read_jsonl(work / "logs/phonemes/metrics.jsonl") if line.get("event") == "start"]
    assert [(line["step"], line["resumed"]) for line in starts] == [(0, False), (13, True)]


def test_the_dvae_is_told_what_the_recogniser_hears_differently():
    torch.manual_seed(0)
    network = phonemes.PhonemeNetwork(5, 4, dim=16, layers=1).eval().requires_grad_(False)
    hearing = dvae.Hearing(network, torch.ones(80))
    true, batch = torch.randn(2, 80, 16), {"frames": torch.tensor([16, 8])}
    assert hearing(true.clone(), true, batch) == pytest.approx(0, abs=1e-5)
    other = torch.randn(2, 80, 16)
    outside = torch.where(torch.arange(16) < 8, true, other)
    outside[0] = true[0]
    assert hearing(outside, true, batch) == pytest.approx(0, abs=1e-5)  # behind the second clip's end
    made = other.requires_grad_()
    loss = hearing(made, true, batch)
    loss.backward()
    assert loss > 0.01 and made.grad[0].abs().max() > 0 and made.grad[1, :, 8:].abs().max() == 0
