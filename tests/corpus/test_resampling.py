import numpy as np
import pytest

from xtts_ka.corpus.resampling import resampled


def tone(rate, hertz=440.0, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 47_999])  # the last has no small ratio to 16,000
def test_a_tone_stays_what_it_is(rate):
    made = resampled(tone(rate), rate, 16_000)
    assert made.dtype == np.float32 and abs(len(made) - 16_000) <= 1
    middle = slice(1_000, 15_000)
    np.testing.assert_allclose(made[middle], tone(16_000)[middle], atol=0.02)


def test_the_same_rate_changes_nothing():
    wave = tone(16_000)
    np.testing.assert_array_equal(resampled(wave, 16_000, 16_000), wave)
