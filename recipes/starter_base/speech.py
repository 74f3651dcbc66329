"""Step 2: espeak-ng speaks the sentences in 14 timbres of each language, on all cores.

    work/speech/waves.i16      all samples, mono int16 at 22,050 Hz, one clip behind the other
    work/speech/clips.jsonl    a line for each clip, in the same order: see `Clip`
    work/speech/done.json      when all are spoken: what was asked for

A clip is a function of its row, text and the seed, however many processes speak. Killed, the next run carries on behind
the last clip that both files hold.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from starter_base.sizes import LANGUAGES
from starter_base.texts import read_texts
from xtts_ka.core.console import duration, progress, say
from xtts_ka.core.digests import hash_to_unit, hash_value
from xtts_ka.core.files import append_bytes, read_json, write_json
from xtts_ka.model.geometry import CODE_STRIDE, SAMPLE_RATE
from xtts_ka.starter.speech import EspeakVoice, speak_naturally, voices_for

if TYPE_CHECKING:
    from torch import Tensor

FOLDER, WAVES, CLIPS, DONE = "speech", "waves.i16", "clips.jsonl", "done.json"
HELD_OUT = 0.01  # share of the texts in val, and as many in test
MOST_SECONDS = 11.6  # XTTS's recipe takes no longer clips; here they are in no split
SEED = 14
AT_ONCE = 32  # clips of one task of a process
# timbre, words a minute, pitch, beside the six of xtts_ka/starter/speech.py
MORE_TIMBRES = (
    ("f1", 170, 55),
    ("f4", 158, 48),
    ("f5", 176, 60),
    ("m2", 166, 38),
    ("m4", 150, 50),
    ("m5", 180, 42),
    ("m6", 162, 34),
    ("m8", 172, 54),
)


class Clip(NamedTuple):
    """start, samples: where its wave stands in `waves.i16`.

    split: train, val or test, by a hash of the text; LONG_SPLIT: in none.
    """

    text: str
    language: str
    phonemes: str  # espeak-ng's names with spaces between them
    voice: str  # language and timbre: es+f2
    start: int
    samples: int
    split: str


LONG_SPLIT = "too long"


class Speech:
    """What was spoken. clips: in the order of the texts; waves: all samples, memory-mapped int16."""

    def __init__(self, work: Path):
        folder = work / FOLDER
        read_json(folder / DONE, "the speech", "run make_base.py --steps speech")
        rows = (folder / CLIPS).read_text(encoding="utf-8").splitlines()
        self.clips = [Clip(*json.loads(row)) for row in rows]
        self.waves = np.memmap(folder / WAVES, "<i2", "r")
        self.digest = hash_value(rows)

    def wave(self, number: int) -> Tensor:
        """(1, samples) float32 in [-1, 1] at 22,050 Hz."""
        import torch

        clip = self.clips[number]
        return torch.from_numpy(self.waves[clip.start : clip.start + clip.samples].astype(np.float32) / 32768)[None]

    @classmethod
    def awaited(cls, work: Path) -> Speech:
        """What was spoken, when another process has spoken it."""
        while not (work / FOLDER / DONE).is_file():
            time.sleep(0.2)
        return cls(work)

    def of(self, *splits: str) -> list[int]:
        """The numbers of the clips in these splits."""
        return [number for number, clip in enumerate(self.clips) if clip.split in splits]


@functools.cache
def voices() -> list[EspeakVoice]:
    """14 of each language."""
    found = []
    for language in LANGUAGES:
        six = [voice._replace(speaker_id=voice.voice) for voice in voices_for(language)]
        more = [(f"{language}+{timbre}", rate, pitch) for timbre, rate, pitch in MORE_TIMBRES]
        found += six + [EspeakVoice(name, name, rate, pitch) for name, rate, pitch in more]
    return found


def run(work: Path, options: Any) -> None:
    speak(work, options.processes, options.clips)


def speak(work: Path, processes: int = os.cpu_count() or 1, clips: int | None = None, seed: int = SEED) -> None:
    """Speak the first `clips` sentences of `work/texts.jsonl.gz`, or all."""
    folder, rows = work / FOLDER, read_texts(work, clips)
    wanted = {"clips": len(rows), "seed": seed}
    if (folder / DONE).is_file() and read_json(folder / DONE) == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    done, start = _carry_on(folder, rows)
    tasks = [(seed, n, rows[n : n + AT_ONCE]) for n in range(done, len(rows), AT_ONCE)]
    with progress(total=len(rows), initial=done, what="speech", unit="clip") as bar:
        for numbered, spoken in zip(tasks, _spoken(tasks, processes)):
            lines: list[str] = []
            for row, wave in zip(numbered[2], spoken):
                clip = clip_of(row, start, len(wave), numbered[1] + len(lines), seed)
                lines.append(json.dumps(clip, ensure_ascii=False))
                start += len(wave)
            append_bytes(folder / WAVES, b"".join(wave.tobytes() for wave in spoken))
            append_bytes(folder / CLIPS, ("\n".join(lines) + "\n").encode("utf-8"))
            bar.update(len(lines))
    write_json(folder / DONE, wanted)
    say(f"speech      {len(rows)} clips, {duration(start / SAMPLE_RATE)}")


def _carry_on(folder: Path, rows: list[dict[str, str]]) -> tuple[int, int]:
    """(clips, samples) that are there, of these rows; what stands behind them, or is of other rows, is cut off."""
    lines = (folder / CLIPS).read_bytes().split(b"\n")[:-1] if (folder / CLIPS).is_file() else []
    whole = (folder / WAVES).stat().st_size // 2 if (folder / WAVES).is_file() else 0
    clips = [Clip(*json.loads(line)) for line in lines]
    same = (clip.text == row["text"] and clip.start + clip.samples <= whole for clip, row in zip(clips, rows))
    count = sum(1 for _ in itertools.takewhile(bool, same))
    samples = clips[count - 1].start + clips[count - 1].samples if count else 0
    for file, size in ((CLIPS, sum(len(line) + 1 for line in lines[:count])), (WAVES, 2 * samples)):
        with open(folder / file, "ab") as opened:
            opened.truncate(size)
    return count, samples


Task = tuple[int, int, list[dict[str, str]]]  # seed, number of the first row, rows


def _spoken(tasks: list[Task], processes: int) -> Iterator[list[np.ndarray]]:
    """The waves of each task, int16, in order."""
    if processes == 1:
        yield from map(_speak_some, tasks)
        return
    # Not forked: a parent that has used CUDA or threads may hang its forked children.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_speak_some, tasks)


def _speak_some(task: Task) -> list[np.ndarray]:
    seed, first, rows = task
    waves = []
    for number, row in enumerate(rows, first):
        wave = speak_naturally(f"{number}", row["text"], _voice(row["language"], number, seed), seed)
        waves.append((wave * 32767).round().clip(-32768, 32767).astype("<i2"))
    return waves


def _voice(language: str, number: int, seed: int) -> EspeakVoice:
    own = [voice for voice in voices() if voice.voice.startswith(f"{language}+")] or voices_for(language)
    return own[int(hash_to_unit(f"{seed} voice {number}") * len(own))]


def clip_of(row: dict[str, str], start: int, samples: int, number: int, seed: int) -> Clip:
    """The clip of a row of the texts, with this number."""
    where = hash_to_unit(row["text"])
    split = "val" if where < HELD_OUT else "test" if where < 2 * HELD_OUT else "train"
    if samples > MOST_SECONDS * SAMPLE_RATE:
        split = LONG_SPLIT
    voice = _voice(row["language"], number, seed).voice
    return Clip(row["text"], row["language"], row["phonemes"], voice, start, samples, split)


def facts(speech: Speech) -> dict[str, Any]:
    """What the base's card says of its speech."""
    hours = sum(clip.samples for clip in speech.clips) / SAMPLE_RATE / 3600
    names = {clip.voice for clip in speech.clips}
    return {"clips": len(speech.clips), "hours": round(hours, 2), "voices": len(names), "languages": list(LANGUAGES)}


def all_clips(work: Path, speech: Speech, codes: np.ndarray) -> list[Clip]:
    """The clips that have codes. Where fewer of the texts were spoken here, the others' waves are elsewhere."""
    missing = range(len(speech.clips), len(codes))
    rows = read_texts(work, len(codes)) if missing else []
    return speech.clips + [clip_of(rows[n], 0, int(codes[n]) * CODE_STRIDE, n, SEED) for n in missing]
