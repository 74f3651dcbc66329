"""EBU R128's own checks (EBU Tech 3341) where they apply to mono sound, and properties of the measure."""

import numpy as np
import pytest

from xtts_ka.corpus.loudness import SILENT, loudness


def tone(level: float, seconds: float, rate: int = 48_000, frequency: float = 1000.0) -> np.ndarray:
    return 10 ** (level / 20) * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_of_full_scale_has_minus_three(rate):
    assert loudness(tone(0, 2, rate, 997), rate) == pytest.approx(-3.01, abs=0.1)


def test_silence_around_does_not_count():
    speech = tone(-20, 3)
    padded = np.concatenate([tone(-75, 5), speech, np.zeros(5 * 48_000)])
    assert loudness(padded, 48_000) == pytest.approx(
        loudness(speech, 48_000), abs=0.5
    )  # of blocks that are half silence


def test_the_relative_gate():  # Tech 3341, case 3: -36, -23 and -36 give -23
    wave = np.concatenate([tone(-33, 10), tone(-20, 60), tone(-33, 10)])
    assert loudness(wave, 48_000) == pytest.approx(-23.0, abs=0.1)


def test_low_frequencies_weigh_less():
    assert loudness(tone(-20, 2, frequency=40), 48_000) < loudness(tone(-20, 2), 48_000) - 3


@pytest.mark.parametrize("samples", [1, 100, 5000])
def test_clips_shorter_than_a_block(samples):
    assert loudness(np.zeros(samples), 48_000) == SILENT
    assert loudness(tone(-6, 1)[:samples], 48_000) < 0
