"""Statistics that single outliers do not move."""

from __future__ import annotations

import math

import numpy as np


def smooth(values: np.ndarray, weights: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean over `window` rows, weighted by lines; NaN is passed over."""
    if len(values) == 0:
        return values
    half = max(0, window // 2)
    weights = np.where(np.isnan(values), 0.0, weights)
    sums = np.stack([np.nan_to_num(values) * weights, weights])
    sums = np.concatenate([np.zeros((2, 1)), np.cumsum(sums, axis=1)], axis=1)
    index = np.arange(len(values))
    first, end = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    total, weight = sums[:, end] - sums[:, first]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


def rolling_median(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving median over `window` (odd) rows, mirrored at the ends."""
    half = window // 2
    padded = np.pad(values, half, mode="symmetric") if len(values) else values
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1) if len(values) else values


def deviation(residuals: np.ndarray) -> float:
    """1.4826 × median absolute deviation: a standard deviation that outliers do not move."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals)))) if len(residuals) else math.nan
