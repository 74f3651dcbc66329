"""Which clips make which batch: every clip once an epoch, similar lengths together, within a budget of positions.

An epoch of a million clips is never laid out. Its order is a permutation that can be evaluated at any place; it is cut
into windows of equal size, and the batches of a window are made when one of them is asked for. So a run resumes in the
middle of an epoch at no cost, and memory does not grow with the number of clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

WINDOW_BATCHES = 50  # clips are sorted by length among so many batches' worth of randomly drawn ones
_AT_ONCE = 2**15  # clips looked at together while counting batches
_ROUNDS = 4


class BatchPlan(Sequence[np.ndarray]):
    """The batches of one epoch as arrays of clip numbers, a function of its arguments alone.

    positions: of each clip, 1 or more. Within a window clips are sorted by length and packed while rows × longest stays
    within `budget` (a clip longer than that is a batch of its own), and the batches shuffled. padding: share of grid
    positions that will hold nothing.
    """

    def __init__(self, positions: np.ndarray, budget: int, seed: int, epoch: int):
        self.positions, self.budget, self.seeds = positions, budget, (seed, epoch)
        count = len(positions)
        typical = int(np.median(positions[:: max(1, count // 10_000)])) if count else 1
        windows = max(1, round(count * typical / (WINDOW_BATCHES * budget)))
        self._starts = (
            np.arange(windows + 1) * count // windows
        )  # equal windows: a small last one would be badly padded
        self._ends, self.padding = self._count()
        self._window = -1, []  # the last one that was asked for

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, batch: int) -> np.ndarray:
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        window = int(np.searchsorted(self._ends, batch, side="right"))
        if self._window[0] != window:
            self._window = window, self._batches(window)
        return self._window[1][batch - int(self._ends[window])]  # counted from the window's end

    def _count(self) -> tuple[np.ndarray, float]:
        """Number of the batch that each window ends before, and the padding."""
        counts, grid, full = [np.zeros(0, np.int64)], 0, 0
        step = max(1, _AT_ONCE * (len(self._starts) - 1) // max(1, len(self.positions)))
        for window in range(0, len(self._starts) - 1, step):
            starts = self._starts[window : window + step + 1]
            clips = self._order(starts[0], starts[-1])
            lengths, first = _rows(self.positions[clips].astype(np.int64), np.diff(starts))
            made = np.zeros(len(lengths), np.int64)
            for start, end in _pack(lengths, first, self.budget):
                made += end > start
                grid += int(((end - start) * np.take_along_axis(lengths, end[:, None] - 1, 1)[:, 0]).sum())
            counts.append(made)
            full += int(lengths.sum())
        return np.cumsum(np.concatenate(counts)), 1 - full / grid if grid else 0.0

    def _batches(self, window: int) -> list[np.ndarray]:
        start, end = self._starts[window : window + 2]
        clips = self._order(start, end)
        lengths = self.positions[clips].astype(np.int64)
        order = np.argsort(lengths, kind="stable")
        cuts = _pack(lengths[order][None], np.zeros(1, np.int64), self.budget)
        batches = [clips[order[int(start[0]) : int(end[0])]] for start, end in cuts]
        random = np.random.default_rng([*self.seeds, 1, window])
        return [batches[i] for i in random.permutation(len(batches))]

    def _order(self, start: int, end: int) -> np.ndarray:
        """Clips at these places of the epoch's order."""
        return permuted(np.arange(start, end), len(self.positions), self.seeds)


def _rows(lengths: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows of these sizes as rows sorted by length, filled up in front with zeros, and where each row begins."""
    width = int(sizes.max(initial=0))
    first = width - sizes
    rows = np.zeros((len(sizes), width), np.int64)
    rows[np.arange(width) >= first[:, None]] = lengths
    return np.sort(rows, axis=1), first


def _pack(lengths: np.ndarray, first: np.ndarray, budget: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut each row of sorted lengths, from its `first` on, into batches within the budget: the next (starts, ends) of all."""
    start, width = first, lengths.shape[1]
    ends = np.arange(1, width + 1)
    while (start < width).any():
        fitting = (lengths * (ends - start[:, None]) <= budget).sum(
            axis=1
        )  # grows along a row, so this is the last that fits
        end = np.minimum(np.maximum(start + 1, fitting), width)
        yield start, end
        start = end


def permuted(places: np.ndarray, size: int, seeds: Sequence[int]) -> np.ndarray:
    """The values of a random permutation of range(size) at `places`, computed there alone.

    A Feistel network over the next power of four (Luby & Rackoff 1988), walked until the value is below `size` (Black &
    Rogaway 2002, cycle walking).
    """
    half = max(2, (max(1, size - 1).bit_length() + 1) // 2)
    keys = np.random.default_rng(list(seeds)).integers(0, 2**63, _ROUNDS, np.uint64)

    def encrypt(values: np.ndarray) -> np.ndarray:
        left, right = values >> np.uint64(half), values & mask
        for key in keys:
            left, right = right, left ^ (mixed(right ^ key) & mask)
        return left << np.uint64(half) | right

    mask = np.uint64(2**half - 1)
    values = encrypt(places.astype(np.uint64))
    while (outside := values >= size).any():
        values[outside] = encrypt(values[outside])
    return values.astype(np.int64)


def mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: 64 bits of each value, well mixed (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
