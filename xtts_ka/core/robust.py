"""Statistics that single outliers do not move."""

from __future__ import annotations

import math

import numpy as np


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean over `window` rows (of an even number, one more), fewer at the ends; NaN is left out."""
    known = ~np.isnan(values)
    sums = np.cumsum(np.stack([np.where(known, values, 0.0), known]), axis=1)
    sums = np.concatenate([np.zeros((2, 1)), sums], axis=1)
    index, half = np.arange(len(values)), window // 2
    total, count = sums[:, np.minimum(index + half + 1, len(values))] - sums[:, np.maximum(index - half, 0)]
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def rolling_median(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving median over `window` (odd) rows, mirrored at the ends."""
    if not len(values):
        return values
    padded = np.pad(values, window // 2, mode="symmetric")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def deviation(residuals: np.ndarray) -> float:
    """1.4826 × median absolute deviation: estimates a standard deviation, whatever the outliers; NaN of nothing."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals)))) if len(residuals) else math.nan
