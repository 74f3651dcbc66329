"""DNSMOS: Microsoft's estimate of how listeners would rate the sound, 1 to 5, where the extra `dnsmos` is installed."""

from __future__ import annotations

import functools
import importlib.util
from math import gcd

import numpy as np
from scipy.signal import resample_poly

RATE = 16_000  # Hz at which it listens


@functools.cache
def installed() -> bool:
    """Whether the packages of the extra are there: `pip install 'xtts-ka[dnsmos]'`."""
    return all(importlib.util.find_spec(name) for name in ("speechmos", "onnxruntime"))


def overall(wave: np.ndarray, rate: int) -> float | None:
    """The overall rating (P.835 OVRL; C. Reddy et al., 2022) of a clip, None where the extra is not installed.

    A clip under 0.1 s, in which there is nothing to rate, has none either.
    """
    if not installed() or len(wave) < 0.1 * rate:
        return None
    from speechmos import dnsmos

    common = gcd(rate, RATE)
    sound = resample_poly(wave, RATE // common, rate // common)
    return float(dnsmos.run(np.clip(sound, -1, 1), sr=RATE)["ovrl_mos"])
