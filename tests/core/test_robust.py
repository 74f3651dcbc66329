"""Means and medians of curves with gaps and outliers."""

import math

import numpy as np
import pytest

from xtts_ka.core.robust import deviation, rolling_median, smooth


def test_smooth_is_a_centred_mean_without_gaps():
    values = np.array([1.0, 2.0, 6.0, np.nan, 4.0])
    np.testing.assert_allclose(smooth(values, 3), [1.5, 3.0, 4.0, 5.0, 4.0])
    assert np.isnan(smooth(np.array([np.nan]), 3)).all() and len(smooth(values[:0], 3)) == 0


def test_deviation_of_a_normal_sample_with_outliers_is_its_standard_deviation():
    values = np.random.default_rng(1).normal(5.0, 2.0, 10_000)
    values[:100] = 1e6
    assert deviation(values) == pytest.approx(2.0, rel=0.05)
    assert math.isnan(deviation(values[:0]))


def test_rolling_median_is_mirrored_at_the_ends():
    assert rolling_median(np.array([1.0, 9.0, 2.0, 3.0, 3.0]), 3).tolist() == [1.0, 2.0, 3.0, 3.0, 3.0]
    assert len(rolling_median(np.empty(0), 3)) == 0
