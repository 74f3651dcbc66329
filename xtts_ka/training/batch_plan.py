"""Plans which clips make which optimizer step, and cuts a step into the micro-batches that memory holds at once.

The steps depend on the data, the seed, the epoch and the seconds of audio in a step, and on nothing else: a run that
goes on with another memory or another number of processes takes the same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xtts_ka.model.geometry import SAMPLE_RATE

PLAN_VERSION = 3  # raise when the same arguments give other steps: checkpoints count steps of a plan
UNIT_SECONDS = 40  # clips of similar length stay together in units of about this much audio; a step is whole units
WINDOW_UNITS = 50  # units among which clips are sorted by length


class Draw(NamedTuple):
    """One clip of a batch: its number, the epoch, and how many mel frames its voice sample has."""

    clip: int
    epoch: int
    cond_frames: int


class Room(NamedTuple):
    """What a micro-batch may take: rows × (positions of the longest row + per_row) stay within `positions`.

    per_row: what a row costs whatever its length (the encoding of its voice sample), in positions.
    """

    positions: int
    per_row: int = 0


class Batch(NamedTuple):
    """A step or a micro-batch before it is loaded: clip numbers, the epoch, and the mel frames of the voice samples."""

    clips: np.ndarray
    epoch: int
    cond_frames: int

    def draws(self) -> list[Draw]:
        return [Draw(clip, self.epoch, self.cond_frames) for clip in self.clips.tolist()]

    def cut(self, positions: np.ndarray, room: Room, processes: int = 1) -> list[Batch]:
        """The clips in micro-batches of similar length within `room`, as few as possible, a multiple of `processes`.

        positions: of every clip of the split. A clip that is too long for the room is a micro-batch of its own.
        """
        clips = self.clips[np.argsort(positions[self.clips], kind="stable")]
        costs = (positions[clips].astype(np.int64) + room.per_row).tolist()
        count = -(-len(_ends(costs, room.positions)) // processes) * processes
        ends = _evenly(costs, min(count, len(clips)))
        return [self._replace(clips=piece) for piece in np.split(clips, ends[:-1])]


def _ends(costs: list[int], limit: int) -> list[int]:
    """Where pieces of sorted rows end, as few as possible: rows × the last row's cost is at most `limit` in each."""
    ends, start = [], 0
    for place, cost in enumerate(costs):
        if place > start and (place + 1 - start) * cost > limit:
            ends.append(place)
            start = place
    return [*ends, len(costs)]


def _evenly(costs: list[int], count: int) -> list[int]:
    """Where `count` pieces of sorted rows end, the largest of them as small as possible."""
    low, high = 0, len(costs) * costs[-1]  # too small a limit, and one that suffices
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_ends(costs, middle)) <= count else (middle, high)
    ends = _ends(costs, high)
    while len(ends) < count:  # rows of equal cost
        sizes = np.diff([0, *ends])
        widest = int(sizes.argmax())
        ends.insert(widest, ends[widest] - int(sizes[widest]) // 2)
    return ends


def plan_epoch(
    positions: np.ndarray, samples: np.ndarray, step_samples: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """The epoch's steps in order, as arrays of clip numbers; depends on nothing but the arguments.

    positions, samples: each clip's length in the GPT's sequence and in audio samples (int64). Every step has about
    `step_samples`, the last one too. The clips are shuffled and cut into windows of WINDOW_UNITS units; within a
    window they are sorted by length and cut into units; then all units are shuffled, and consecutive ones make a step.
    A small step is one unit, whose clips are of similar length; a large one mixes all lengths.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(positions)).astype(np.int32)
    steps = max(1, round(int(samples.sum()) / step_samples))
    a_step = max(1, round(step_samples / (UNIT_SECONDS * SAMPLE_RATE)))  # its units
    windows = _places(samples[order], max(1, round(steps * a_step / WINDOW_UNITS)))
    # Every other window is sorted downwards: a unit that lies across two windows then holds clips of similar length.
    lengths = positions[order].astype(np.int32)
    lengths[windows % 2 == 1] *= -1
    order = order[np.lexsort((lengths, windows))]
    units = random.permutation(steps * a_step)[_places(samples[order], steps * a_step)]
    order = order[np.argsort(units, kind="stable")]
    ends = np.bincount(units // a_step, minlength=steps).cumsum()
    return [step for step in np.split(order, ends[:-1]) if len(step)]


def _places(weights: np.ndarray, parts: int) -> np.ndarray:
    """In which of `parts` parts of equal weight the middle of each item lies."""
    middles = weights.cumsum(dtype=np.float64)  # exact below 2^53
    scale = parts / middles[-1]
    middles -= weights / 2
    middles *= scale
    return np.minimum(middles, parts - 1, out=middles).astype(np.int32)


def padding(positions: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Share of the batches' grid positions that hold nothing."""
    grid = sum(len(clips) * int(positions[clips].max()) for clips in batches)
    return 1 - float(sum(int(positions[clips].sum()) for clips in batches)) / grid
