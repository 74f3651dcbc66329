"""Character and word error rates over many clips, with bootstrap intervals.

CER: edits between the letters (and spaces) said and heard, over the letters said; WER likewise of words. Rates are of
the whole set (sum of edits over sum of lengths), so a long clip weighs more than a short one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torchaudio.functional import edit_distance

RESAMPLES = 1000


class Rate(NamedTuple):
    """A share (0 where nothing is wrong, above 1 where more is heard than was said) with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f}–{100 * self.high:.1f})"


def character_error_rate(said: Sequence[str], heard: Sequence[str], seed: int = 0) -> Rate:
    """CER of `heard` against `said`, both as `listener.spoken_letters` gives them."""
    return bootstrap(*_edits(said, heard), seed)


def word_error_rate(said: Sequence[str], heard: Sequence[str], seed: int = 0) -> Rate:
    """WER, as `character_error_rate`."""
    return bootstrap(*_edits([text.split() for text in said], [text.split() for text in heard]), seed)


def _edits(said: Sequence[Sequence[str]], heard: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    edits = [edit_distance(expected, got) for expected, got in zip(said, heard, strict=True)]
    return np.array(edits, float), np.array([len(expected) for expected in said], float)


def bootstrap(parts: np.ndarray, wholes: np.ndarray, seed: int = 0) -> Rate:
    """sum(parts) / sum(wholes), and the 2.5th and 97.5th percentile of it over resampled clips (Efron 1979).

    The same arguments give the same interval. Raises ValueError where there is nothing to count.
    """
    if not wholes.sum() > 0:
        raise ValueError("no letters to count errors in")
    drawn = np.random.default_rng(seed).integers(0, len(wholes), (RESAMPLES, len(wholes)))
    rates = parts[drawn].sum(1) / np.maximum(wholes[drawn].sum(1), 1e-9)
    low, high = np.percentile(rates, (2.5, 97.5))
    return Rate(float(parts.sum() / wholes.sum()), float(low), float(high))
