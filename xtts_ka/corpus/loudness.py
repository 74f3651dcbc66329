"""Loudness as EBU R128 measures it: LUFS by ITU-R BS.1770-4, of mono sound.

The K-weighting filters are those of BS.1770-4 at 48 kHz, designed anew for other rates from their analogue parameters
(B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", 2018).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy.signal import sosfilt

BLOCK, STEP = 0.4, 0.1  # seconds of a gating block, and between the beginnings of two
_SHELF = 3.999843853973347, 0.7071752369554196, 1681.9744509555319  # gain in dB, quality, centre in Hz
_HIGH_PASS = 0.0, 0.5003270373238773, 38.13547087602444
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS; LU below the loudness of what passes the first
SILENT = -100.0  # LUFS given to what never passes the gates


@functools.cache
def _k_weighting(rate: int) -> np.ndarray:
    """(2, 6): a high shelf for the head's effect, and a high pass."""
    sections = []
    for gain, quality, centre in (_SHELF, _HIGH_PASS):
        k = math.tan(math.pi * min(centre, 0.45 * rate) / rate)
        v, a0 = 10 ** (gain / 20), 1 + k / quality + k * k
        if gain:
            b = v**0.4996667741545416
            top = [v + b * k / quality + k * k, 2 * (k * k - v), v - b * k / quality + k * k]
        else:
            top = [a0, -2 * a0, a0]  # BS.1770's high pass has the numerator 1, −2, 1
        sections.append([value / a0 for value in (*top, a0, 2 * (k * k - 1), 1 - k / quality + k * k)])
    return np.array(sections)


def loudness(wave: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS of mono samples (n,); what is shorter than a block is measured as one."""
    weighted = sosfilt(_k_weighting(rate), np.asarray(wave, np.float64))
    size, step = round(BLOCK * rate), round(STEP * rate)
    sums = np.concatenate([[0.0], np.cumsum(weighted**2)])
    begins = np.arange(0, max(1, len(wave) - size + 1), step)
    power = (sums[np.minimum(begins + size, len(wave))] - sums[begins]) / max(1, min(size, len(wave)))
    for gate in (ABSOLUTE_GATE, RELATIVE_GATE):
        floor = gate if gate == ABSOLUTE_GATE else _lufs(float(power.mean())) + gate
        power = power[power > 10 ** ((floor + 0.691) / 10)]
        if not len(power):
            return SILENT
    return _lufs(float(power.mean()))


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(max(power, 1e-12))
