"""Starter speech: the sentence file, the voices, and the folder they make."""

import csv
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.text import normalise
from xtts_ka.starter.speech import (
    SAMPLE_RATE,
    VOICES,
    read_sentences,
    speak_corpus,
    synthesise,
    trim_silence,
    voices_for,
)

pytest.importorskip("espeakng_loader", reason="starter speech needs espeakng-loader")

ROOT = Path(__file__).parents[2]
SENTENCE_FILE = ROOT / "data" / "starter_sentences_ka.txt"
LETTERS = "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"
SENTENCE = "ტყეში ჩიტების ჟღურტული და ფოთლების შრიალი ისმოდა."


@pytest.fixture(autouse=True)
def no_progress_bar(monkeypatch):
    monkeypatch.setattr("xtts_ka.core.console._verbosity", 0)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return read_sentences(SENTENCE_FILE)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


# ── the sentences ───────────────────────────────────────────────────────────────────────────────────────────


def test_sentences_are_many_unique_and_plain(sentences):
    assert len(sentences) >= 400 and len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert re.fullmatch(rf"[{LETTERS}]+(?:(?:,? |-)[{LETTERS}]+)*[.!?]", sentence), sentence
        assert 3 <= len(sentence.split()) <= 24, sentence


def test_sentences_cover_every_letter_and_word_beginning(sentences):
    assert len(LETTERS) == 33
    for letter in LETTERS:
        assert sum(letter in sentence for sentence in sentences) >= 15, letter
    words = re.findall(rf"[{LETTERS}]+", " ".join(sentences))
    assert {word[0] for word in words} == set(LETTERS)
    assert set("აეიოუსდთმნრლვცქხბ") <= {word[-1] for word in words}  # what Georgian words do end in


def test_sentences_cover_the_consonant_clusters(sentences):
    words = re.findall(rf"[{LETTERS}]+", " ".join(sentences))
    clusters = {cluster for word in words for cluster in re.findall(r"[^აეიოუ]{2,}(?=[აეიოუ])", word)}
    initial = {match.group() for word in words if (match := re.match(r"[^აეიოუ]{2,}(?=[აეიოუ])", word))}
    assert len(clusters) >= 120 and len(initial) >= 120
    expected = "გვ მწვრთნ ბრწყ მხრ სკ წყ ცხრ ფსკ თქვ მზ ხმლ გრძ ბღვრ შხ ჩრდ დღ ტკბ სწრ კვლ რძ"
    assert set(expected.split()) <= initial
    assert any("ვეფხვი" in sentence for sentence in sentences)


def test_sentences_are_already_normal(sentences):
    for sentence in sentences:
        assert normalise(sentence) == sentence


def test_read_sentences_passes_over_blank_lines_and_a_bom(tmp_path):
    path = tmp_path / "s.txt"
    path.write_bytes("\ufeffერთი.\r\n\r\n  ორი.  \n".encode())
    assert read_sentences(path) == ["ერთი.", "ორი."]


@pytest.mark.parametrize(
    "content, message", [(None, "No such file"), (b"\n \n", "hold none"), (b"\xff\xfe\x00", "UTF-8")]
)
def test_read_sentences_names_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "s.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_sentences(path)
    assert str(path) in str(error.value)


# ── the voices ──────────────────────────────────────────────────────────────────────────────────────────────


def test_every_voice_speaks_audibly_and_unlike_the_others():
    spoken = {v.speaker_id: synthesise(SENTENCE, v.voice, v.rate, v.pitch) for v in VOICES}
    assert len(spoken) == len(VOICES) >= 4
    assert len({(v.rate, v.pitch) for v in VOICES}) == len({v.voice for v in VOICES}) == len(VOICES)
    spectra = []
    for audio in spoken.values():
        assert audio.dtype == np.float32 and audio.ndim == 1
        assert 0.3 < np.abs(audio).max() <= 1.0 and audio.std() > 0.02
        assert 2.0 < len(audio) / SAMPLE_RATE < 6.0  # 45 letters at some 10 to 18 a second
        frames = audio[: len(audio) // 512 * 512].reshape(-1, 512)
        spectrum = np.log(np.abs(np.fft.rfft(frames * np.hanning(512))).mean(0) + 1e-6)
        spectra.append(spectrum - spectrum.mean())
    distances = [np.abs(a - b).mean() for i, a in enumerate(spectra) for b in spectra[:i]]
    assert min(distances) > 0.1  # the timbre differs, not the volume alone


def test_speech_depends_on_its_arguments_alone():
    voice = VOICES[0].voice
    first = synthesise(SENTENCE, voice)
    synthesise("სხვა წინადადება.", VOICES[-1].voice, 120, 10)  # leaves espeak-ng's oscillators elsewhere
    time.sleep(1.1)  # espeak-ng left alone seeds its noise with the clock's seconds
    assert np.array_equal(synthesise(SENTENCE, voice), first)
    script = (
        "import hashlib; from xtts_ka.starter.speech import synthesise; "
        f"print(hashlib.sha256(synthesise({SENTENCE!r}, {voice!r})).hexdigest())"
    )
    command = [sys.executable, "-c", script]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(first).hexdigest()


def test_rate_and_pitch_are_obeyed():
    assert len(synthesise(SENTENCE, "ka", rate=120)) > 1.3 * len(synthesise(SENTENCE, "ka", rate=220))
    assert not np.array_equal(synthesise(SENTENCE, "ka", pitch=20), synthesise(SENTENCE, "ka", pitch=80))


@pytest.mark.parametrize(
    "voice, text", [("de+m3", "Guten Morgen, wie geht es dir?"), ("en-us", "Good morning, how are you?")]
)
def test_other_languages_speak_too(voice, text):
    assert 0.8 < len(synthesise(text, voice)) / SAMPLE_RATE < 4.0
    assert not np.array_equal(synthesise("Radio", "de"), synthesise("Radio", "en-us"))
    assert [v.voice for v in voices_for("de")] == [v.voice.replace("ka+", "de+") for v in VOICES]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((SENTENCE, "zz"), "no language 'zz'"),
        ((SENTENCE, ""), "no language ''"),
        ((SENTENCE, "ka+nobody"), "no timbre 'nobody'"),
        ((SENTENCE, "ka+"), "no timbre ''"),
        (("  ", "ka"), "nothing to speak"),
        (("...", "ka"), "nothing to speak"),
    ],
)
def test_an_impossible_argument_is_one_clear_error(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        synthesise(*arguments)
    assert "\n" not in str(error.value)


def test_trim_leaves_fifty_milliseconds_on_either_side():
    tone = np.sin(np.arange(2000, dtype=np.float32)) + np.float32(2)  # never near zero
    expected = np.concatenate([np.zeros(1102), tone, np.zeros(1102)])  # 0.05 s of 22,050 Hz is 1102.5 samples
    for before, after in ((0, 0), (5000, 100), (300, 9000)):
        audio = np.concatenate([np.zeros(before, np.float32), tone, np.zeros(after, np.float32)])
        np.testing.assert_array_equal(trim_silence(audio), expected)


# ── the folder ──────────────────────────────────────────────────────────────────────────────────────────────


def test_corpus_is_an_ordinary_recordings_folder(tmp_path, sentences):
    chosen = sentences[:20]
    facts = speak_corpus(chosen, tmp_path / "speech", seed=7, max_clips=24)
    with open(tmp_path / "speech" / "metadata.csv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="|"))
    assert len(rows) == 24 and list(rows[0]) == ["audio_file", "text", "speaker_name"]
    assert {row["text"] for row in rows[:20]} == set(chosen)  # each is spoken once before any is spoken again
    assert len({(row["text"], row["speaker_name"]) for row in rows}) == 24
    counts = [sum(row["speaker_name"] == v.speaker_id for row in rows[:20]) for v in VOICES]
    assert sorted(counts) == [3, 3, 3, 3, 4, 4]
    seconds = 0.0
    for row in rows:
        audio, rate = soundfile.read(tmp_path / "speech" / row["audio_file"], dtype="float32")
        info = soundfile.info(tmp_path / "speech" / row["audio_file"])
        assert (rate, info.channels, info.subtype, info.format) == (22050, 1, "PCM_16", "WAV")
        floor = np.abs(audio).max() * 10 ** (-50 / 20)
        assert np.abs(audio[:1102]).max() <= floor + 1e-4 and np.abs(audio[-1102:]).max() <= floor + 1e-4
        assert np.abs(audio[1102:1104]).max() > floor / 2  # and no more silence than that
        seconds += len(audio) / rate
    audio_files = {row["audio_file"] for row in rows}
    assert set(contents(tmp_path / "speech")) == {"metadata.csv", "STARTER.json"} | audio_files
    marker = json.loads((tmp_path / "speech" / "STARTER.json").read_text(encoding="utf-8"))
    assert marker == facts and marker["starter"] is True
    assert marker["clips"] == 24 and marker["seconds"] == pytest.approx(seconds, abs=0.01)
    assert [v["speaker_id"] for v in marker["voices"]] == [v.speaker_id for v in VOICES]


def test_corpus_is_the_same_byte_for_byte_and_follows_the_seed(tmp_path, sentences):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        speak_corpus(sentences[:9], tmp_path / name, VOICES[:3], seed=seed, max_clips=12)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_a_clip_does_not_depend_on_how_many_are_made(tmp_path, sentences):
    for name, clips in (("few", 5), ("many", 11)):
        speak_corpus(sentences[:6], tmp_path / name, VOICES[:2], seed=3, max_clips=clips)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    wavs = [name for name in few if name.endswith(".wav")]
    assert len(wavs) == 5 and all(few[name] == many[name] for name in wavs)


def test_one_voice_varies_its_rate_and_pitch_a_little(tmp_path):
    steady = len(trim_silence(synthesise(SENTENCE, VOICES[0].voice, VOICES[0].rate, VOICES[0].pitch)))
    lengths = set()
    for seed in range(8):
        speak_corpus([SENTENCE], tmp_path / str(seed), VOICES[:1], seed=seed, max_clips=1)
        lengths.add(soundfile.info(tmp_path / str(seed) / "wavs" / "s00001_espeak_f1.wav").frames)
    assert len(lengths) >= 5
    assert max(lengths) > 1.04 * min(lengths)  # so the rate varies, not the pitch alone
    assert 0.85 * steady < min(lengths) and max(lengths) < 1.15 * steady  # 12 words a minute of 165 is 7 %


def test_no_more_clips_than_sentences_times_voices(tmp_path):
    assert speak_corpus(["ერთი ორი სამი."], tmp_path / "x", VOICES[:2], seed=1, max_clips=50)["clips"] == 2


def test_an_existing_folder_is_never_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "take.wav").write_bytes(b"precious")
    with pytest.raises(UserError, match="already exists"):
        speak_corpus([SENTENCE], tmp_path / "mine", seed=1, max_clips=1)
    assert contents(tmp_path / "mine") == {"take.wav": b"precious"}


@pytest.mark.parametrize(
    "bad, voices, clips, message",
    [
        (["კარგი.", "ა|ბ"], VOICES, 4, "sentence 2"),
        (["კარგი.", "..."], VOICES, 4, "nothing to speak"),
        ([SENTENCE], voices_for("zz"), 4, "no language 'zz'"),
    ],
)
def test_a_bad_request_leaves_nothing_behind(tmp_path, bad, voices, clips, message):
    with pytest.raises(UserError, match=re.escape(message)):
        speak_corpus(bad, tmp_path / "speech", voices, seed=1, max_clips=clips)
    assert list(tmp_path.iterdir()) == []
