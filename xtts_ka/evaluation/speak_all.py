"""Speaks every text in every voice, in batches, and keeps each clip when it is finished."""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xtts_ka.core.console import progress
from xtts_ka.core.digests import hash_value
from xtts_ka.corpus.tables import Clip
from xtts_ka.evaluation.clip_store import ClipStore
from xtts_ka.evaluation.subjects import Subject
from xtts_ka.evaluation.texts import Text
from xtts_ka.georgian.alphabet import georgian_letters
from xtts_ka.model.geometry import CODE_STRIDE, SAMPLE_RATE
from xtts_ka.speech.batch import Piece, Spoken, speak_together
from xtts_ka.speech.synthesis import PAUSE

VERSION = 1  # of how clips are made: raise it where the same input gives other clips
USUAL_RATE = 13.0  # letters a second, where a voice has no recordings to count in
LIMIT_FACTOR, LIMIT_SECONDS = 1.5, 1.0  # a clip may take this many times its usual time, and this much more
TOGETHER = {"cpu": 8, "cuda": 32}  # pieces in a batch


@dataclass(frozen=True)
class Task:
    """One clip to speak."""

    voice: str
    text: Text
    seed: int


def letter_rates(clips: Sequence[Clip]) -> dict[str, float]:
    """Letters a second of each known speaker, over all their recordings, pauses included."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for clip in clips:
        if clip.speaker_known:
            counts[clip.speaker_id][0] += len(georgian_letters(clip.text))
            counts[clip.speaker_id][1] += clip.duration
    return {name: letters / seconds for name, (letters, seconds) in counts.items() if letters}


def longest(text: str, rate: float) -> float:
    """The seconds that a clip of `text` may take, at a usual `rate` in letters a second."""
    return LIMIT_FACTOR * len(georgian_letters(text)) / rate + LIMIT_SECONDS


def most_codes(text: str, rate: float) -> int:
    """The audio codes at which a clip is cut: those of its `longest` time."""
    return math.ceil(longest(text, rate) * SAMPLE_RATE / CODE_STRIDE)


def clip_keys(subject: Subject, tasks: Sequence[Task], rates: Mapping[str, float]) -> list[str]:
    """A name for each clip that changes with everything it depends on."""
    voices = {name: subject.voice_key(name) for name in {task.voice for task in tasks}}
    return [hash_value([VERSION, subject.key, voices[t.voice], _parts(subject, t, rates)])[:24] for t in tasks]


def speak_all(
    subject: Subject, tasks: Sequence[Task], rates: Mapping[str, float], store: ClipStore, device: str
) -> list[str]:
    """Speak the batches that `store` does not hold yet; returns the keys of all tasks.

    What is in a batch does not depend on what is kept: rounding depends on the batch, and an evaluation that was
    interrupted must give the same bytes.
    """
    keys = clip_keys(subject, tasks, rates)
    order = sorted(range(len(keys)), key=lambda place: len(tasks[place].text.expected))  # similar lengths end together
    batches = list(_batches(order, TOGETHER[device.partition(":")[0]]))
    due = [places for places in batches if any(store.get(keys[place]) is None for place in places)]
    with progress(total=sum(map(len, due)), what=f"speaking: {subject.label}", unit="clip") as bar:
        for places in due:
            _speak_batch(subject, [(keys[place], tasks[place]) for place in places], rates, store)
            bar.update(len(places))
    return keys


def _batches(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _speak_batch(
    subject: Subject, batch: Sequence[tuple[str, Task]], rates: Mapping[str, float], store: ClipStore
) -> None:
    pieces = [
        [Piece(text, *subject.voice(task.voice), seed, most) for text, seed, most in _parts(subject, task, rates)]
        for _, task in batch
    ]
    began = time.perf_counter()
    spoken = iter(speak_together(subject.model, [piece for parts in pieces for piece in parts]))
    seconds = time.perf_counter() - began
    clips = [[next(spoken) for _ in parts] for parts in pieces]
    total = sum(len(part.wave) for parts in clips for part in parts)
    for (key, _), parts in zip(batch, clips, strict=True):
        wave = _joined(parts)
        share = sum(len(part.wave) for part in parts) / total
        codes, stopped = sum(part.codes for part in parts), all(part.stopped for part in parts)
        if store.get(key) is None:
            store.put(key, wave, subject.rate, codes=codes, stopped=stopped, seconds_taken=seconds * share)


def _parts(subject: Subject, task: Task, rates: Mapping[str, float]) -> list[tuple[str, int, int]]:
    """(text, seed, most codes) of each piece of a task."""
    rate = rates.get(task.voice, USUAL_RATE)
    return [(text, _seed(task, text), most_codes(text, rate)) for text in task.text.pieces(subject.limit)]


def _seed(task: Task, text: str) -> int:
    digest = hashlib.sha256(f"{task.seed}\0{task.voice}\0{text}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _joined(parts: Sequence[Spoken]) -> np.ndarray:
    """The waves with a pause between two, as synthesize.py joins them."""
    waves: list[np.ndarray] = []
    for part in parts:
        waves += [part.wave, np.zeros(PAUSE, np.float32)]
    return np.concatenate(waves[:-1])
