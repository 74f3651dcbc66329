"""Speaks every text in every voice, in batches, and keeps each clip when it is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtts_ka.core.console import progress
from xtts_ka.core.digests import hash_value
from xtts_ka.evaluation.clip_store import ClipStore
from xtts_ka.evaluation.subjects import Subject
from xtts_ka.evaluation.texts import Text
from xtts_ka.speech.batch import TOGETHER, Piece, Spoken, derived_seed
from xtts_ka.speech.guard import Guard, Guarded, speak_guarded
from xtts_ka.speech.lengths import USUAL_RATE, fewest_codes, most_codes
from xtts_ka.speech.synthesis import PAUSE

VERSION = 1  # of how clips are made: raise it where the same input gives other clips


@dataclass(frozen=True)
class Task:
    """One clip to speak."""

    voice: str
    text: Text
    seed: int


def clip_keys(
    subject: Subject, tasks: Sequence[Task], rates: Mapping[str, float], guard: Guard | None = None
) -> list[str]:
    """A name for each clip that changes with everything it depends on."""
    voices = {name: subject.voice_key(name) for name in {task.voice for task in tasks}}
    guarded = [guard.key] if guard else []
    return [
        hash_value([VERSION, subject.key, voices[t.voice], _parts(subject, t, rates), *guarded])[:24] for t in tasks
    ]


def speak_all(
    subject: Subject,
    tasks: Sequence[Task],
    rates: Mapping[str, float],
    store: ClipStore,
    device: str,
    guard: Guard | None = None,
) -> list[str]:
    """Speak the batches that `store` does not hold yet; returns the keys of all tasks.

    What is in a batch does not depend on what is kept: rounding depends on the batch, and an evaluation that was
    interrupted must give the same bytes.
    """
    keys = clip_keys(subject, tasks, rates, guard)
    order = sorted(range(len(keys)), key=lambda place: len(tasks[place].text.expected))  # similar lengths end together
    batches = list(_batches(order, TOGETHER[device.partition(":")[0]]))
    due = [places for places in batches if any(store.get(keys[place]) is None for place in places)]
    with progress(total=sum(map(len, due)), what=f"speaking: {subject.label}", unit="clip") as bar:
        for places in due:
            _speak_batch(subject, [(keys[place], tasks[place]) for place in places], rates, store, guard)
            bar.update(len(places))
    return keys


def _batches(places: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _speak_batch(
    subject: Subject,
    batch: Sequence[tuple[str, Task]],
    rates: Mapping[str, float],
    store: ClipStore,
    guard: Guard | None,
) -> None:
    pieces = [
        [
            Piece(text, *subject.voice(task.voice), seed, most, fewest_codes(text, rates.get(task.voice, USUAL_RATE)))
            for text, seed, most in _parts(subject, task, rates)
        ]
        for _, task in batch
    ]
    began = time.perf_counter()
    spoken = iter(speak_guarded(subject.model, [piece for parts in pieces for piece in parts], guard))
    seconds = time.perf_counter() - began
    clips = [[next(spoken) for _ in parts] for parts in pieces]
    total = sum(len(part.spoken.wave) for parts in clips for part in parts)
    for (key, _), parts in zip(batch, clips, strict=True):
        wave = _joined([part.spoken for part in parts])
        share = sum(len(part.spoken.wave) for part in parts) / total
        codes = sum(len(part.spoken.codes) for part in parts)
        stopped = all(part.spoken.stopped for part in parts)
        facts = _guard_facts(parts) if guard else None
        if store.get(key) is None:
            store.put(key, wave, subject.rate, codes=codes, stopped=stopped, seconds_taken=seconds * share, guard=facts)


def _guard_facts(parts: Sequence[Guarded]) -> dict[str, Any]:
    """What the guard did about a clip: the attempts at its parts at most, the first ones' faults, and those left."""
    first = {fault for part in parts for fault in part.attempts[0].faults}
    left = {fault for part in parts for fault in part.best.faults}
    return {"attempts": max(len(part.attempts) for part in parts), "first": sorted(first), "left": sorted(left)}


def _parts(subject: Subject, task: Task, rates: Mapping[str, float]) -> list[tuple[str, int, int]]:
    """(text, seed, most codes) of each piece of a task."""
    rate = rates.get(task.voice, USUAL_RATE)
    return [
        (text, derived_seed(task.seed, task.voice, text), most_codes(text, rate))
        for text in task.text.pieces(subject.limit)
    ]


def _joined(parts: Sequence[Spoken]) -> np.ndarray:
    """The waves with a pause between two, as synthesize.py joins them."""
    waves: list[np.ndarray] = []
    for part in parts:
        waves += [part.wave, np.zeros(PAUSE, np.float32)]
    return np.concatenate(waves[:-1])
