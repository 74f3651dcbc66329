"""XTTS's sample rate, mel hop and code stride, and the lengths that follow from them."""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 22050  # Hz, of everything the GPT hears
CODE_STRIDE = 1024  # samples per audio code
MEL_HOP = 256  # samples per conditioning mel frame


def code_count(samples: int) -> int:
    """Audio codes of a clip: one per started 1024 samples, as coqui's GPT counts them."""
    return -(-samples // CODE_STRIDE)


def frames_of(samples: np.ndarray | int):
    """Mel frames of a clip: one per 256 samples and one more (centred windows)."""
    return samples // 256 + 1


def codes_of(samples: np.ndarray | int):
    """Audio codes of a clip: one per started 1024 samples."""
    return (samples + 1023) // 1024  # not -(-n // 1024): lengths are stored unsigned
