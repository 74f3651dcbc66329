"""Clipped samples are counted at every level, and sound that only looks flat is not."""

import numpy as np
import pytest

from xtts_ka.corpus.clipping import clipped_samples

RATE = 22_050
TIME = np.arange(RATE) / RATE
NOISE = np.random.default_rng(0).standard_normal(RATE)
VOICE = np.sin(2 * np.pi * 110 * TIME + 3 * np.sin(2 * np.pi * 3 * TIME)) * np.sin(2 * np.pi * 4 * TIME) ** 2


def share(wave: np.ndarray, bits: int = 16) -> float:
    steps = 2 ** (bits - 1)
    levels = np.clip(np.round(wave * steps), -steps, steps - 1) / steps
    return clipped_samples(levels.astype(np.float32).reshape(len(wave), -1)) / levels.size


@pytest.mark.parametrize("level", [1.0, 0.98, 0.7, 0.1, 0.01])
def test_what_is_clipped_is_found_at_any_level(level):
    clipped = np.clip(1.5 * VOICE, -1, 1)
    true = np.mean(np.abs(clipped) == 1)
    assert share(level * clipped) == pytest.approx(true, rel=0.2)
    assert share(level * np.stack([clipped, 0.1 * VOICE], axis=1)) == pytest.approx(true / 2, rel=0.2)
    above = np.minimum(1.5 * VOICE, 1) / 2
    assert share(level * above) == pytest.approx(true / 2, rel=0.2)
    if level > 0.05:
        assert share(level * clipped + NOISE / 2**17) == pytest.approx(true, rel=0.2), "with dither"


SOUND = {
    "speech-like": VOICE,
    "noise": 0.1 * NOISE,
    "quiet noise": 3 * NOISE / 2**15,
    "tone of 50 Hz": np.sin(2 * np.pi * 50 * TIME),
    "tone of 440 Hz": np.sin(2 * np.pi * 440 * TIME),
    "triangle": np.abs(TIME * 200 % 2 - 1),
    "square of two values": np.sign(np.sin(2 * np.pi * 100 * TIME)),
    "clicks of one side": 1.0 * (np.arange(RATE) % 5000 == 1),
    "single samples at the top": np.clip(NOISE / 2.5, -1, 1),
    "silence": 0 * TIME,
    "constant": 1 + 0 * TIME,
    "one sample": TIME[:1],
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", SOUND)
def test_what_is_not_clipped_is_left(kind, bits):
    assert [share(level * SOUND[kind], bits) for level in (0.9, 0.5, 0.05, 0.003)] == [0] * 4
