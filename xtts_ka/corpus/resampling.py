"""Sound at another sample rate."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.signal import resample_poly
from torchaudio.functional import resample

LARGEST_RATIO = 1000  # of sample rates; above it torchaudio's resampling filters take gigabytes


def resampled(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Mono samples at `rate` Hz → float32 samples at `wanted` Hz."""
    samples = np.asarray(wave, np.float32)
    if rate // math.gcd(rate, wanted) > LARGEST_RATIO:
        samples, rate = resample_poly(samples, wanted, rate).astype(np.float32), wanted
    return samples if rate == wanted else resample(torch.from_numpy(samples), rate, wanted).numpy()
