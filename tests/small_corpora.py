"""Small corpora made on the spot, shared by the tests of metadata: real recordings of tones, Georgian sentences."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import soundfile

from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.tables import SPLITS, read_split

WHO = ("ბიჭი", "გოგონა", "მეზობელი", "მოხუცი", "მწყემსი")
WHERE = ("ეზოში", "ტყეში", "სახლში", "ბაღში")
WHAT = ("მღერის", "კითხულობს", "თამაშობს", "ისვენებს")
SENTENCES = [" ".join(parts) + "." for parts in itertools.product(WHO, WHERE, WHAT)]  # 80, all different

# of 12 clips, 2 or more validate
ALL = MetadataOptions(max_seconds=11.6, max_drop_fraction=1.0, val_fraction=0.4, test_fraction=0.1)


def speak(path: Path, number: int, *, rate: int = 8_000, channels: int = 1) -> Path:
    """0.6 s unlike those of any other `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.4 * np.sin(2 * np.pi * (100 + 10 * number) * np.arange(round(0.6 * rate)) / rate)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate)
    return path


def coqui(folder: Path, count: int = 20) -> Path:
    """A small corpus in coqui's format."""
    for i in range(count):
        speak(folder / f"wavs/c{i:02d}.wav", i)
    rows = [f"wavs/c{i:02d}.wav|{SENTENCES[i]}|{'გია' if i % 2 else 'nino'}\n" for i in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("audio_file|text|speaker_name\n" + "".join(rows), encoding="utf-8")
    return folder


def add_row(folder: Path, row: str | bytes) -> None:
    with open(folder / "metadata.csv", "ab") as table:
        table.write((row.encode() if isinstance(row, str) else row) + b"\n")


def clips_of(data_dir: Path) -> dict:
    clips = [clip for split in SPLITS for clip in read_split(data_dir, split)]
    by_id = {clip.file_id: clip for clip in clips}
    assert len(by_id) == len(clips)
    assert all(clip.audio_path.is_file() for clip in clips)
    return by_id


def number_of(recording: Path) -> int:
    """The number that `speak` was given."""
    wave, rate = soundfile.read(recording)
    return round((np.argmax(np.abs(np.fft.rfft(wave))) * rate / len(wave) - 100) / 10)


def assert_pairs(data_dir: Path) -> dict:
    """The clips, once each is seen to have the text of its own sound: SENTENCES[number]."""
    clips = clips_of(data_dir)
    assert {c.file_id: c.text for c in clips.values()} == {
        c.file_id: SENTENCES[number_of(c.audio_path)] for c in clips.values()
    }
    return clips
