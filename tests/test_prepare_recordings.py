"""From long recordings with subtitles to clips that create_metadata_files.py reads: espeak speech, planted faults."""

import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import planted_speech
import pytest
import soundfile
import spoken_letters
from planted_speech import EXTRA, MISSING, RATE, TAG, TONES, WRONG
from small_media import encode

import create_metadata_files
import prepare_recordings
from xtts_ka.core.errors import UserError
from xtts_ka.corpus import audio, preparation_store
from xtts_ka.corpus.tables import split_csv
from xtts_ka.recognition import preparation
from xtts_ka.recognition.heard import Heard

ROOT = Path(__file__).parents[1]
FAULTS = ["", "", TONES, "", EXTRA, "", MISSING, "", TAG, "", ""]


def make(folder: Path, name: str = "r", seed: int = 0, faults=FAULTS, suffix: str = ".flac"):
    """A recording of about 45 s with subtitles beside it; returns what was planted."""
    tape = planted_speech.Tape(seed)
    tape.pause(0.5, 1)
    for fault in faults:
        tape.plant(planted_speech.sentence(tape.rng)[:2], fault)
        tape.pause(0.6, 1.2)
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}{suffix}", tape.taken(), RATE)
    (folder / f"{name}.srt").write_text(planted_speech.srt(tape.planted, 0.1, seed), "utf-8")
    return tape.planted


def run(source, output, *flags) -> int:
    return prepare_recordings.main(
        ["--source", str(source), "--output_dir", str(output), "--processes", "1", *map(str, flags)]
    )


def table(output: Path, name: str = "metadata.csv", delimiter: str = "|") -> list[dict]:
    return list(csv.DictReader((output / name).open(encoding="utf-8"), delimiter=delimiter))


def refusal(capsys, *arguments) -> str:
    assert run(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    return line


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(source, output, what was planted)"""
    folder = tmp_path_factory.mktemp("prepared")
    planted = make(folder / "source")
    assert run(folder / "source", folder / "clips") == 0
    return folder / "source", folder / "clips", planted


def test_a_damaged_mp3_is_named_and_the_decoders_own_lines_stay_away(tmp_path, capfd):
    make(tmp_path / "source", suffix=".mp3", faults=["", "", ""])
    path = tmp_path / "source/r.mp3"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(range(100, 200)) * 4
    path.write_bytes(data)
    run(tmp_path / "source", tmp_path / "clips")
    captured = capfd.readouterr()
    assert not re.search("mpg123|Note:|Warning:", captured.err)
    assert re.search("r.mp3: .*a damaged mp3", captured.out)


def test_each_good_sentence_becomes_a_clip_at_its_place(prepared):
    source, output, planted = prepared
    clips = table(output)
    good = [sentence for sentence in planted if not sentence.fault]
    assert [clip["text"] for clip in clips] == [sentence.text for sentence in good]
    whole = soundfile.read(source / "r.flac", dtype="int16")[0]
    for clip, sentence in zip(clips, good):
        start, end = float(clip["source_start"]), float(clip["source_end"])
        assert sentence.start - 0.1 < start < sentence.start + 0.005 and -0.02 < end - sentence.end < 0.1
        wave, rate = soundfile.read(output / clip["audio_file"], dtype="int16")
        assert rate == RATE and clip["source_file"] == "r.flac" and float(clip["confidence"]) > 0.5
        assert np.abs(wave.astype(int) - whole[round(start * RATE) :][: len(wave)]).max() <= 1
        assert len(wave) == pytest.approx((end - start) * RATE, abs=30)


def test_each_planted_fault_is_listed_with_its_reason(prepared):
    _, output, planted = prepared
    left = table(output, "left_out.csv", ",")
    by_fault = {sentence.fault: sentence for sentence in planted}
    for fault, reason in ((TONES, "no_speech"), (MISSING, "no_speech"), (TAG, "noise_tag")):
        (row,) = [row for row in left if row["text"] and row["text"] in by_fault[fault].text]
        assert row["reason"] == reason
    spoken = [row for row in left if row["reason"] == "no_text"]
    middle = (by_fault[EXTRA].start + by_fault[EXTRA].end) / 2
    assert any(float(row["source_start"]) < middle < float(row["source_end"]) for row in spoken)


def test_the_page_shows_players_and_reasons(prepared):
    page = (prepared[1] / "recordings_report.html").read_text("utf-8")
    assert page.count("<audio") == 7 and "no_speech: 2" in page and "r.flac" in page
    sources = re.findall('src="([^"]+)"', page)
    assert all((prepared[1] / name).is_file() for name in sources)


def test_create_metadata_files_reads_what_was_written(prepared, tmp_path):
    _, output, _ = prepared
    arguments = [
        "--source",
        str(output),
        "--output_dir",
        str(tmp_path),
        "--max_seconds",
        "20",
        "--quiet",
        "--no_dnsmos",
    ]
    assert create_metadata_files.main(arguments) == 0
    rows = [
        row
        for split in ("train", "val", "test")
        for row in table(tmp_path / "split" / split, f"{split}_metadata.csv", ",")
    ]
    assert len(rows) == 7
    assert {row["speaker_id"] for row in rows} == {"clips_unknown"}


def test_the_same_command_again_does_nothing(prepared, capsys):
    source, output, _ = prepared
    before = {file: file.stat().st_mtime_ns for file in output.glob("wavs/*")}
    assert run(source, output) == 0
    assert "1 of 1 recordings are finished already" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in output.glob("wavs/*")}


def test_other_settings_and_a_changed_transcript_cut_anew_without_listening(tmp_path, monkeypatch):
    planted = make(tmp_path / "source")
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    monkeypatch.setattr(preparation.voice_activity, "listen", None)
    assert run(tmp_path / "source", tmp_path / "clips", "--max_seconds", "3") == 0
    clips = table(tmp_path / "clips")
    assert all(float(clip["source_end"]) - float(clip["source_start"]) <= 3.1 for clip in clips)
    assert {Path(clip["audio_file"]).name for clip in clips} == {f.name for f in (tmp_path / "clips/wavs").iterdir()}
    (tmp_path / "source/r.srt").write_text(planted_speech.srt(planted[:2], 0.1), "utf-8")
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    assert [clip["text"] for clip in table(tmp_path / "clips")] == [planted[0].text, planted[1].text]


def test_clips_by_the_rules_of_an_earlier_version_are_made_anew_and_that_is_said(tmp_path, monkeypatch, capsys):
    make(tmp_path / "source", faults=["", ""])
    monkeypatch.setattr(preparation_store, "PLANNING", 1)
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    monkeypatch.undo()
    monkeypatch.setattr(preparation.voice_activity, "listen", None)
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    out = capsys.readouterr().out
    assert "1 recordings were prepared by an earlier version" in out and "finished already" not in out
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    assert "earlier version" not in capsys.readouterr().out


def test_killed_amid_the_clips_it_carries_on_with_the_next(prepared, tmp_path):
    source, whole, _ = prepared
    output = tmp_path / "clips"
    slow = (
        "import time, sys, prepare_recordings; from xtts_ka.recognition import preparation as p; write = p.write_wav\n"
        "p.write_wav = lambda *a: (write(*a), print('cut', flush=True), time.sleep(0.3))\n"
        "sys.exit(prepare_recordings.main(sys.argv[1:]))"
    )
    flags = ["--source", source, "--output_dir", output, "--processes", "1"]
    with subprocess.Popen([sys.executable, "-c", slow, *map(str, flags)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        for line in iter(process.stdout.readline, b""):
            if line == b"cut\n" and len(list(output.glob("wavs/*.wav"))) == 3:
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    kept = {file: file.stat().st_mtime_ns for file in output.glob("wavs/*.wav")}
    assert 3 <= len(kept) < 7 and not (output / "metadata.csv").exists()
    assert run(source, output) == 0
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert same_files(output) == same_files(whole)


def same_files(output: Path) -> dict[str, bytes]:
    files = [output / "metadata.csv", output / "left_out.csv", *output.glob("wavs/*")]
    return {file.name: file.read_bytes() for file in files}


def test_several_processes_and_shards_give_the_same_clips(tmp_path):
    for number in range(3):
        make(tmp_path / "source", f"r{number}", number, ["", ""])
    assert run(tmp_path / "source", tmp_path / "one") == 0
    assert run(tmp_path / "source", tmp_path / "two", "--processes", 2) == 0
    for shard in ("1/2", "2/2"):
        assert run(tmp_path / "source", tmp_path / "shards", "--shard", shard) == 0
    assert same_files(tmp_path / "one") == same_files(tmp_path / "two") == same_files(tmp_path / "shards")
    assert len(table(tmp_path / "one")) == 6


def test_a_long_recording_is_heard_in_stretches(tmp_path, monkeypatch):
    planted = make(tmp_path / "source", faults=[""] * 6)
    monkeypatch.setattr(preparation, "STRETCH", 8.0)
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    assert [clip["text"] for clip in table(tmp_path / "clips")] == [sentence.text for sentence in planted]
    assert len(list(tmp_path.glob("clips/work/r/activity-*.npz"))) > 2


def test_a_film_with_the_sound_of_browsers_is_read_once_forwards(tmp_path):
    planted = make(tmp_path / "source", faults=["", "", ""], suffix=".wav")
    wave, rate = audio.read_mono(tmp_path / "source/r.wav")
    encode(tmp_path / "source/r.m4a", "aac", wave, rate)
    (tmp_path / "source/r.wav").unlink()
    assert run(tmp_path / "source/r.m4a", tmp_path / "clips") == 0
    clips = table(tmp_path / "clips")
    assert [clip["text"] for clip in clips] == [sentence.text for sentence in planted]
    assert [float(clip["source_start"]) for clip in clips] == pytest.approx([s.start for s in planted], abs=0.1)


def test_speakers_are_the_subtitles_the_folders_or_the_given_one(tmp_path):
    planted = make(tmp_path / "source/ნინო", "a", 0, ["", ""])
    make(tmp_path / "source", "b", 1, ["", ""])
    voices = "WEBVTT\n\n" + planted_speech.srt(planted, 0).replace(",", ".")
    (tmp_path / "source/ნინო/c.vtt").write_text(re.sub(r"\n(?=[ა-ჰ])", "\n<v ეკა>", voices), "utf-8")
    os.link(tmp_path / "source/ნინო/a.flac", tmp_path / "source/ნინო/c.flac")
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    named = {clip["source_file"]: clip["speaker_name"] for clip in table(tmp_path / "clips")}
    assert named["ნინო/a.flac"] == "ნინო" and named["b.flac"] == "" and named["ნინო/c.flac"].endswith("-ეკა")
    assert run(tmp_path / "source/b.flac", tmp_path / "given", "--speaker", "გია") == 0
    assert {clip["speaker_name"] for clip in table(tmp_path / "given")} == {"გია"}


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_subtitles_of_another_film_are_refused(tmp_path, capsys):
    make(tmp_path / "source", faults=[""] * 25)
    other = make(tmp_path / "other", seed=9, faults=[""] * 25)
    (tmp_path / "source/r.srt").write_text(planted_speech.srt(other, 0.1), "utf-8")
    assert "of another recording" in refusal(capsys, tmp_path / "source", tmp_path / "clips")
    assert not (tmp_path / "clips/metadata.csv").exists()


def test_text_in_another_alphabet_is_refused(tmp_path, capsys):
    make(tmp_path / "source", faults=["", ""])
    text = (tmp_path / "source/r.srt").read_text("utf-8")
    (tmp_path / "source/r.srt").write_text(re.sub("[ა-ჰ]+", "privet", text), "utf-8")
    assert "Georgian letters" in refusal(capsys, tmp_path / "source", tmp_path / "clips")


@pytest.mark.parametrize(
    "content, why", [(b"", "empty"), (b"RIFF\x24\x00\x00\x00WAVE", "WAV by its content"), (b"hello" * 100, "r.wav")]
)
def test_media_without_sound_are_refused(tmp_path, capsys, content, why):
    make(tmp_path / "source", faults=[""])
    (tmp_path / "source/r.flac").unlink()
    (tmp_path / "source/r.wav").write_bytes(content)
    assert why in refusal(capsys, tmp_path / "source", tmp_path / "clips")


def test_channels_that_cancel_each_other_are_named(tmp_path, capsys):
    make(tmp_path / "source", faults=[""])
    wave, rate = soundfile.read(tmp_path / "source/r.flac")
    soundfile.write(tmp_path / "source/r.flac", np.stack([wave, -wave], axis=1), rate)
    assert "its channels cancel each other" in refusal(capsys, tmp_path / "source", tmp_path / "clips")


def test_a_film_without_sound_is_refused(tmp_path, capsys):
    make(tmp_path / "source", faults=[""])
    (tmp_path / "source/r.flac").unlink()
    with av.open(str(tmp_path / "source/r.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    assert "it holds no sound" in refusal(capsys, tmp_path / "source", tmp_path / "clips")


def test_a_truncated_recording_is_left_out_and_the_others_go_on(tmp_path, capsys):
    make(tmp_path / "source", "a", 0, ["", ""], ".wav")
    make(tmp_path / "source", "b", 1, ["", ""], ".wav")
    whole = (tmp_path / "source/a.wav").read_bytes()
    (tmp_path / "source/a.wav").write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path / "source", tmp_path / "clips") == 0
    assert "a.wav: left out, cut short" in capsys.readouterr().out
    assert {clip["source_file"] for clip in table(tmp_path / "clips")} == {"b.wav"}
    (problem,) = [row for row in table(tmp_path / "clips", "left_out.csv", ",") if row["reason"] == "recording"]
    assert problem["source_file"] == "a.wav"


def test_recordings_without_transcripts_are_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / f"source/{number}.wav").touch()
    assert "none of the 300 recordings" in refusal(capsys, tmp_path / "source", tmp_path / "clips")
    assert not (tmp_path / "clips").exists()


def test_what_cannot_be_meant_is_refused(tmp_path, capsys):
    make(tmp_path / "source", "a", 0, [""])
    make(tmp_path / "source", "b", 0, [""])
    srt = tmp_path / "source/a.srt"
    assert "does not exist" in refusal(capsys, tmp_path / "nowhere", tmp_path / "clips")
    assert "inside the source" in refusal(capsys, tmp_path / "source", tmp_path / "source/clips")
    assert "belong to one recording" in refusal(capsys, tmp_path / "source", tmp_path / "clips", "--transcript", srt)
    assert "leave no clip" in refusal(capsys, tmp_path / "source", tmp_path / "clips", "--min_seconds", 30)
    (tmp_path / "empty").mkdir()
    assert "has no recordings" in refusal(capsys, tmp_path / "empty", tmp_path / "clips")
    with pytest.raises(SystemExit):
        run(tmp_path / "source", tmp_path / "clips", "--shard", "3/2")


# ── with a recogniser ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def oracle(tmp_path, monkeypatch):
    """A recogniser's folder, and in its place one that knows what is planted: asked for a recording, it hears that."""
    known: dict[Path, list] = {}

    def hear(path, spans, _):
        rows, times = [], []
        for sentence in known[Path(path)]:
            for (start, _), phrase in zip(sentence.phrases, sentence.spoken.rstrip(".").split(", ")):
                if not any(begin <= start < end for begin, end in spans):
                    continue
                _, heard = spoken_letters.say([phrase])
                rows.append(heard.log_probs)
                end = next(end for begin, end in sentence.phrases if begin == start)
                times.append(np.linspace(start + 0.02, end - 0.02, len(heard.times)))
        return Heard(np.concatenate(rows), np.concatenate(times))

    monkeypatch.setattr(preparation, "hear", hear)
    monkeypatch.setattr(preparation, "own", lambda *_: None)
    (tmp_path / "recogniser").mkdir()
    (tmp_path / "recogniser/recogniser.json").write_text("{}")
    return tmp_path / "recogniser", known


def test_a_plain_text_is_found_in_the_recording(tmp_path, oracle):
    planted = make(tmp_path / "source", faults=["", WRONG, "", MISSING, "", EXTRA, "", ""])
    oracle[1][tmp_path / "source/r.flac"] = planted
    (tmp_path / "source/r.srt").unlink()
    (tmp_path / "source/r.txt").write_text("\n\n".join(sentence.text for sentence in planted), "utf-8")
    assert run(tmp_path / "source", tmp_path / "clips", "--asr", oracle[0]) == 0
    assert [clip["text"] for clip in table(tmp_path / "clips")] == [s.text for s in planted if not s.fault]
    assert not list(tmp_path.glob("clips/work/r/heard*"))
    reasons = {row["reason"] for row in table(tmp_path / "clips", "left_out.csv", ",")}
    assert {"not_read", "no_text"} <= reasons <= {"not_read", "no_text", "not_heard", "unsure", "wrong_length"}


def test_a_book_read_in_several_recordings(tmp_path, oracle):
    parts = [make(tmp_path / "source", f"r{n}", n, ["", "", ""]) for n in range(2)]
    oracle[1].update({tmp_path / f"source/r{n}.flac": part for n, part in enumerate(parts)})
    book = tmp_path / "book.txt"
    book.write_text("\n".join(sentence.text for part in parts for sentence in part), "utf-8")
    assert run(tmp_path / "source", tmp_path / "clips", "--asr", oracle[0], "--transcript", book) == 0
    assert [clip["text"] for clip in table(tmp_path / "clips")] == [s.text for part in parts for s in part]
    assert not table(tmp_path / "clips", "left_out.csv", ",")  # the chapter of the other recording is not missing


def test_texts_with_times_are_checked_when_asked_for(tmp_path, oracle):
    planted = make(tmp_path / "source", faults=["", "", "", ""])
    oracle[1][tmp_path / "source/r.flac"] = planted
    other = planted[1]
    text = (tmp_path / "source/r.srt").read_text("utf-8").replace(other.text, other.text[-2::-1] + ".")
    (tmp_path / "source/r.srt").write_text(text, "utf-8")
    assert run(tmp_path / "source", tmp_path / "clips", "--asr", oracle[0]) == 0
    assert [clip["text"] for clip in table(tmp_path / "clips")] == [planted[n].text for n in (0, 2, 3)]
    assert {float(clip["confidence"]) for clip in table(tmp_path / "clips")} == {1.0}
    (row,) = table(tmp_path / "clips", "left_out.csv", ",")
    assert row["reason"] == "not_heard"


def test_without_a_text_a_command_writes_down_what_it_hears(tmp_path):
    planted = make(tmp_path / "source", faults=["", "", ""])
    (tmp_path / "source/r.srt").unlink()
    count = f"sh -c 'echo x >> {tmp_path}/calls; echo დილა მშვიდობისა' {{wav}}"
    assert run(tmp_path / "source", tmp_path / "clips", "--asr", count) == 0
    clips = table(tmp_path / "clips")
    assert {(clip["text"], clip["confidence"]) for clip in clips} == {("დილა მშვიდობისა", "1.000")}
    assert float(clips[0]["source_start"]) == pytest.approx(planted[0].start, abs=0.1)
    calls = len((tmp_path / "calls").read_text().split())
    assert calls == 2 * len(clips)  # each is heard twice, for the confidence
    assert run(tmp_path / "source", tmp_path / "clips", "--asr", count, "--min_confidence", "0.6") == 0
    assert len((tmp_path / "calls").read_text().split()) == calls  # what was heard is kept


def test_a_text_without_times_needs_a_recogniser_of_ours(tmp_path, capsys):
    make(tmp_path / "source", faults=[""])
    (tmp_path / "source/r.srt").rename(tmp_path / "source/r.txt")
    (tmp_path / "source/r.txt").write_text("დილა მშვიდობისა", "utf-8")
    assert "has no times" in refusal(capsys, tmp_path / "source", tmp_path / "clips", "--asr", "cat {wav}")
    config = tmp_path / "config.json"
    config.write_text(f'{{"data_dir": "{tmp_path}/data", "output_model_path": "{tmp_path}/model"}}')
    assert "no recogniser of Georgian" in refusal(capsys, tmp_path / "source", tmp_path / "clips", "--config", config)
    assert not (tmp_path / "clips/metadata.csv").exists()


def test_the_projects_recogniser_is_the_one_that_the_pipeline_has_trained(tmp_path, capsys, monkeypatch):
    """With the trained stand-in base, whose recogniser has a number of steps of its own."""
    make(tmp_path / "source", faults=[""])
    (tmp_path / "source/r.srt").unlink()
    table = split_csv(tmp_path / "data", "train")
    for file, content in ((tmp_path / "base/STARTER.json", '{"base": "trained"}'), (table, "")):
        file.parent.mkdir(parents=True)
        file.write_text(content)
    config = tmp_path / "config.json"
    config.write_text(
        f'{{"data_dir": "{tmp_path}/data", "base_model_path": "{tmp_path}/base", "starter": {{"recogniser_steps": 7}}}}'
    )

    def ensure(settings):
        raise UserError(f"{settings.recogniser.max_steps} steps")

    monkeypatch.setattr("xtts_ka.recognition.train_recogniser.ensure_recogniser", ensure)
    said = refusal(capsys, tmp_path / "source", tmp_path / "clips", "--asr", "--config", config)
    assert "at hand (7 steps)" in said
