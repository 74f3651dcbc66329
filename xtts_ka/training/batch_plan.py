"""Plans which clips make which optimizer step, and cuts a step into the micro-batches that memory holds at once.

The steps depend on the data, the seed, the epoch, the seconds of audio in a step and the number of clips that may share
a voice sample, and on nothing else: a run that goes on with another memory or another number of processes takes the
same steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xtts_ka.model.geometry import SAMPLE_RATE

PLAN_VERSION = 3  # raise when the same arguments give other steps: checkpoints count steps of a plan
UNIT_SECONDS = 40  # clips of similar length stay together in units of about this much audio; a step is whole units
WINDOW_UNITS = 50  # units among which clips are sorted by length
CHUNK_GROUPS = 16  # groups of a speaker's clips that are sorted by length together


class Draw(NamedTuple):
    """One clip of a batch: its number, the epoch, how many mel frames its voice sample has, and which clips hear it.

    sharing: the clips of the step that hear the same voice sample, itself among them; empty: itself alone.
    """

    clip: int
    epoch: int
    cond_frames: int
    sharing: tuple[int, ...] = ()


class Room(NamedTuple):
    """What a micro-batch may take: rows × (positions of the longest row + per_row) stay within `positions`.

    per_row: what a row costs whatever its length (the encoding of its voice sample), in positions.
    """

    positions: int
    per_row: int = 0


class Batch(NamedTuple):
    """A step or a micro-batch before it is loaded: clip numbers, the epoch, and the mel frames of the voice samples.

    step: all clips of the step and the group of each; those of one group share a voice sample, also where the step is
    cut between them. None: each clip has its own.
    """

    clips: np.ndarray
    epoch: int
    cond_frames: int
    step: tuple[np.ndarray, np.ndarray] | None = None

    def draws(self) -> list[Draw]:
        members, group_of = defaultdict(list), {}
        for clip, group in zip(*(part.tolist() for part in self.step or ())):
            members[group].append(clip)
            group_of[clip] = group
        sharing = {clip: tuple(members[group]) for clip, group in group_of.items() if len(members[group]) > 1}
        return [Draw(clip, self.epoch, self.cond_frames, sharing.get(clip, ())) for clip in self.clips.tolist()]

    def _groups(self) -> np.ndarray:
        """The group of each of `clips`, numbered from 0."""
        if self.step is None:
            return np.arange(len(self.clips))
        order = np.argsort(self.step[0])
        places = order[np.searchsorted(self.step[0], self.clips, sorter=order)]
        return np.unique(self.step[1][places], return_inverse=True)[1]

    def cut(self, positions: np.ndarray, room: Room, processes: int = 1) -> list[Batch]:
        """The clips in micro-batches of similar length within `room`, as few as possible, a multiple of `processes`.

        positions: of every clip of the split. A clip that is too long for the room is a micro-batch of its own. Clips
        of a group stand together, sorted by the longest, so that few groups are cut apart.
        """
        groups = self._groups()
        longest = np.zeros(int(groups.max()) + 1, np.int64)
        np.maximum.at(longest, groups, positions[self.clips])
        order = np.lexsort((positions[self.clips], groups, longest[groups]))
        clips = self.clips[order]
        costs = (longest[groups[order]] + room.per_row).tolist()
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


def group_clips(speakers: np.ndarray, positions: np.ndarray, at_most: int, seed: int, epoch: int) -> np.ndarray:
    """Each clip's group, numbered: up to `at_most` clips of one speaker and of similar length.

    Half of a speaker's clips at most are a group, so that others are left for the voice sample. Groups are drawn anew
    in each epoch: a speaker's clips are shuffled, and CHUNK_GROUPS groups at a time sorted by length.
    """
    if at_most == 1:
        return np.arange(len(speakers))
    order = np.random.default_rng([seed, epoch, 3]).permutation(len(speakers))
    order = order[np.argsort(speakers[order], kind="stable")]
    own, counts = speakers[order], np.bincount(speakers)
    starts = np.cumsum(counts) - counts
    places = np.arange(len(order)) - starts[own]  # among the speaker's clips
    order = order[np.lexsort((positions[order], places // (CHUNK_GROUPS * at_most), own))]
    size = np.clip(counts // 2, 1, at_most)[own]
    begins = places % size == 0
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(begins) - 1
    return groups


def plan_epoch(
    positions: np.ndarray,
    samples: np.ndarray,
    step_samples: int,
    seed: int,
    epoch: int,
    groups: np.ndarray | None = None,
) -> list[np.ndarray]:
    """The epoch's steps in order, as arrays of clip numbers; depends on nothing but the arguments.

    positions, samples: each clip's length in the GPT's sequence and in audio samples (int64). Every step has about
    `step_samples`, the last one too. The clips are shuffled and cut into windows of WINDOW_UNITS units; within a
    window they are sorted by length and cut into units; then all units are shuffled, and consecutive ones make a step.
    A small step is one unit, whose clips are of similar length; a large one mixes all lengths.

    groups: of each clip, from `group_clips`; those of a group stay together (None: each clip alone).
    """
    random = np.random.default_rng([seed, epoch])
    if groups is None:
        groups = np.arange(len(positions))
    sizes, weights = np.bincount(groups), np.bincount(groups, samples)  # of the groups
    longest = np.zeros(len(sizes), np.int32)
    np.maximum.at(longest, groups, positions.astype(np.int32))
    order = random.permutation(len(sizes)).astype(np.int32)
    steps = max(1, round(int(samples.sum()) / step_samples))
    a_step = max(1, round(step_samples / (UNIT_SECONDS * SAMPLE_RATE)))  # its units
    windows = _places(weights[order], max(1, round(steps * a_step / WINDOW_UNITS)))
    # Every other window is sorted downwards: a unit that lies across two windows then holds clips of similar length.
    lengths = longest[order]
    lengths[windows % 2 == 1] *= -1
    order = order[np.lexsort((lengths, windows))]
    units = random.permutation(steps * a_step)[_places(weights[order], steps * a_step)]
    order = order[np.argsort(units, kind="stable")]
    ends = np.bincount(units // a_step, minlength=steps).cumsum()
    clip_ends = np.append(0, sizes[order].cumsum())[ends]
    return [step for step in np.split(_members(groups, sizes, order), clip_ends[:-1]) if len(step)]


def _members(groups: np.ndarray, sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The clips of the groups, in this order of the groups."""
    by_group, starts = np.argsort(groups, kind="stable").astype(np.int32), sizes.cumsum() - sizes
    ordered = sizes[order]
    shifts = np.repeat(starts[order] - (ordered.cumsum() - ordered), ordered)
    return by_group[shifts + np.arange(len(groups))]


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
