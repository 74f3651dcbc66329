"""Counts wrong letters and words of what was heard against what should have been said, with confidence intervals.

Texts here are letters and single spaces, as `recognition.listener.spoken_letters` gives them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from rapidfuzz.distance import Levenshtein

RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True, slots=True)
class Errors:
    """Edit distances of one clip. letters counts the spaces between words too, as the usual character error rate."""

    letters: int
    wrong_letters: int
    words: int
    wrong_words: int

    @property
    def perfect(self) -> bool:
        return self.wrong_letters == 0


def count_errors(expected: str, heard: str) -> Errors:
    """Insertions, deletions and substitutions between the two, at most as many as `expected` is long.

    The limit keeps rates between 0 and 1: a clip in which nothing is right is wrong once, however long it babbles on
    (which is counted as a fault of its own).
    """
    words = expected.split()
    return Errors(
        len(expected),
        min(Levenshtein.distance(expected, heard), len(expected)),
        len(words),
        min(Levenshtein.distance(words, heard.split()), len(words)),
    )


def marked(expected: str, heard: str) -> list[tuple[str, str]]:
    """`heard` in pieces (kind, letters): "equal", "wrong", "extra", or "missing" with letters of `expected`."""
    pieces = []
    for op in Levenshtein.opcodes(expected, heard):
        letters = heard[op.dest_start : op.dest_end]
        if op.tag == "delete":
            pieces.append(("missing", expected[op.src_start : op.src_end]))
        else:
            pieces.append(({"equal": "equal", "replace": "wrong", "insert": "extra"}[op.tag], letters))
    return pieces


class Figure(TypedDict):
    """A measured value with the bounds of its 95 % interval; all None where there was nothing to measure."""

    value: float | None
    low: float | None
    high: float | None


def ratio(parts: Sequence[float], wholes: Sequence[float], groups: Sequence[Hashable]) -> Figure:
    """Sum of `parts` over the sum of `wholes`, with its percentile bootstrap interval (Efron).

    groups: what is drawn with replacement is a group (clips of one text), since the same text is hard for every voice;
    clips drawn one by one would give intervals that are too narrow. The draws are the same in every call.
    """
    number = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    where = [number[group] for group in groups]
    sums = np.zeros((2, len(number)))
    np.add.at(sums[0], where, parts)
    np.add.at(sums[1], where, wholes)
    if not sums[1].sum():
        return {"value": None, "low": None, "high": None}
    drawn = np.random.default_rng(0).integers(len(number), size=(RESAMPLES, len(number)))
    top, bottom = sums[0][drawn].sum(axis=1), sums[1][drawn].sum(axis=1)
    low, high = np.quantile(top[bottom > 0] / bottom[bottom > 0], [0.025, 0.975])
    return {"value": _rounded(sums[0].sum() / sums[1].sum()), "low": _rounded(low), "high": _rounded(high)}


def mean(values: Sequence[float], groups: Sequence[Hashable]) -> Figure:
    """The mean of `values` with its interval, as `ratio`."""
    return ratio(values, [1.0] * len(values), groups)


def _rounded(value: float) -> float:
    """Six decimals: sums in another order (other threads) must not change a report's bytes."""
    return round(float(value), 6)
