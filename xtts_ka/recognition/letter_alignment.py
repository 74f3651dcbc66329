"""Aligns the letters that were heard with those that should have been said, runs of lost or added letters kept whole.

Plain edit distance scatters a doubled word over the letters around it. Here a run of missing or added letters costs
something to begin and little to go on (affine gaps; O. Gotoh, "An improved algorithm for matching biological
sequences", 1982), and letters added before the first or after the last are cheaper still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WRONG = 4  # cost of another letter
BEGIN, GO_ON = 6, 2  # of a run of lost or added letters: its first letter, each further one
AT_END_BEGIN, AT_END_GO_ON = 4, 1  # of added letters before the first or after the last
_NEVER = 10**8


@dataclass(frozen=True, slots=True)
class Alignment:
    """pairs: for each letter of `expected` the position in `heard` it stands against, or -1 where it is missing.

    added: runs of heard letters that stand against nothing: (letters of `expected` before the run, start, end).
    """

    pairs: list[int]
    added: list[tuple[int, int, int]]


def align(expected: str, heard: str) -> Alignment:
    """The cheapest alignment; of equals, the one whose added letters come first."""
    e, h = (np.array([ord(letter) for letter in text], np.int64) for text in (expected, heard))
    closed, best = _costs(e, h)
    return _trace(e, h, closed, best)


def _added_cost(row: int, rows: int) -> tuple[int, int]:
    return (AT_END_BEGIN, AT_END_GO_ON) if row in (0, rows) else (BEGIN, GO_ON)


def _costs(e: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cost of aligning e[:i] with h[:j] if no letters are added at its end, the same in any case), (len+1, len+1)."""
    rows, columns = len(e), len(h)
    closed = np.full((rows + 1, columns + 1), _NEVER)
    best = np.empty_like(closed)
    closed[0, 0] = 0
    missing = np.full(columns + 1, _NEVER)  # cheapest alignment that ends in a missing letter
    steps = np.arange(columns + 1)
    for i in range(rows + 1):
        if i:
            missing = np.minimum(best[i - 1] + BEGIN, missing + GO_ON)
            closed[i] = missing
            closed[i, 1:] = np.minimum(closed[i, 1:], best[i - 1, :-1] + WRONG * (h != e[i - 1]))
        begin, go_on = _added_cost(i, rows)
        best[i] = closed[i]
        cheapest = np.minimum.accumulate(closed[i] - go_on * steps)
        best[i, 1:] = np.minimum(best[i, 1:], cheapest[:-1] + begin - go_on + go_on * steps[1:])
    return closed, best


def _trace(e: np.ndarray, h: np.ndarray, closed: np.ndarray, best: np.ndarray) -> Alignment:
    i, j = len(e), len(h)
    pairs, added = [-1] * i, []
    while i or j:
        if best[i, j] < closed[i, j]:
            begin, go_on = _added_cost(i, len(e))
            before = np.arange(j)
            costs = closed[i, :j] + begin + go_on * (j - before - 1)
            start = int(np.flatnonzero(costs == best[i, j])[0])
            added.append((i, start, j))
            j = start
        elif j and closed[i, j] == best[i - 1, j - 1] + WRONG * int(h[j - 1] != e[i - 1]):
            i, j = i - 1, j - 1
            pairs[i] = j
        else:
            i -= _missing_run(closed, best, i, j)
    return Alignment(pairs, added[::-1])


def _missing_run(closed: np.ndarray, best: np.ndarray, i: int, j: int) -> int:
    """How many letters before `i` are missing in a row, where the last one is."""
    before = np.arange(i)
    costs = best[:i, j] + BEGIN + GO_ON * (i - before - 1)
    return i - int(np.flatnonzero(costs == closed[i, j])[-1])
