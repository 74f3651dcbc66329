"""Where in a long recording somebody speaks, and how loud it is: one pass over it in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtts_ka.core.torch_settings import one_thread
from xtts_ka.corpus import audio
from xtts_ka.corpus.resampling import resampled
from xtts_ka.corpus.silero import CHUNK, RATE, SECONDS_PER_CHUNK, SpeechStream

FRAME = 160  # samples of one level: 10 ms
SECONDS_PER_FRAME = FRAME / RATE
SILENT = -100.0  # dB below full scale: the level of digital silence
BLOCK_SECONDS = 60  # decoded at a time
LEAD = 1.6  # seconds before `start` that are heard as well: whole chunks, frames, and samples at all usual rates


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """speech: probability that somebody speaks, (chunks,); level: dB below full scale, (frames,); both float16."""

    seconds: float
    speech: np.ndarray
    level: np.ndarray


def joined(parts: Iterable[Activity]) -> Activity:
    """The activity of consecutive stretches of a recording; all but the last have whole chunks."""
    parts = list(parts)
    speech, level = (np.concatenate([getattr(part, name) for part in parts]) for name in ("speech", "level"))
    return Activity(sum(part.seconds for part in parts), speech, level)


def listen(path: Path | str, start: float = 0.0, seconds: float | None = None) -> Activity:
    """The activity of a recording from `start` on. Errors as in `audio.stream`.

    start: a multiple of 0.16 s (whole chunks and frames); seconds: None up to the end.
    """
    return activity(at_rate(path, start, seconds), lead=min(LEAD, start))


def at_rate(path: Path | str, start: float = 0.0, seconds: float | None = None) -> Iterator[np.ndarray]:
    """Yield the sound from LEAD before `start` on, at RATE, in blocks of BLOCK_SECONDS."""
    lead = min(LEAD, start)
    wanted = None if seconds is None else seconds + lead
    for wave, rate in audio.stream(path, BLOCK_SECONDS, start - lead, wanted):
        yield resampled(wave, rate, RATE)


def activity(blocks: Iterable[np.ndarray], lead: float = 0.0) -> Activity:
    """The activity of sound at RATE; its first `lead` seconds are heard and not returned."""
    judge = SpeechStream()
    speech, level, samples = [], [], 0
    rest, whole = np.zeros(0, np.float32), 5 * CHUNK  # whole chunks and whole frames
    for block in blocks:
        samples += len(block)
        rest = np.concatenate([rest, block])
        usable = len(rest) // whole * whole
        with one_thread():
            speech.append(judge(rest[:usable]).astype(np.float16))
        level.append(_levels(rest[:usable]))
        rest = rest[usable:]
    speech.append(judge(np.pad(rest, (0, -len(rest) % CHUNK))).astype(np.float16))
    level.append(_levels(np.pad(rest, (0, -len(rest) % FRAME))))
    chunks, frames = (round(lead / length) for length in (SECONDS_PER_CHUNK, SECONDS_PER_FRAME))
    return Activity(max(0.0, samples / RATE - lead), np.concatenate(speech)[chunks:], np.concatenate(level)[frames:])


def _levels(wave: np.ndarray) -> np.ndarray:
    power = wave.reshape(-1, FRAME).var(axis=1, dtype=np.float64)
    return (10 * np.log10(power + 10 ** (SILENT / 10))).astype(np.float16)
