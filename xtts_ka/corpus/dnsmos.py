"""DNSMOS: Microsoft's estimate of how listeners would rate the sound, 1 to 5, where the extra `dnsmos` is installed.

The network is the one that speechmos' wheel carries; it is run here without that package's code, which computes a
second rating besides (and imports numba for it) with as many threads as there are cores.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly

RATE = 16_000  # Hz at which it listens
SECONDS = 9.01  # that it listens to at once; a shorter clip is repeated
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)  # of speechmos: the network's output → the rating, highest power first


@functools.cache
def installed() -> bool:
    """Whether the packages of the extra are there: `pip install 'xtts-ka[dnsmos]'`."""
    return all(importlib.util.find_spec(name) for name in ("speechmos", "onnxruntime"))


@functools.cache
def _network() -> Any:
    import onnxruntime

    spec = importlib.util.find_spec("speechmos")
    assert spec is not None and spec.submodule_search_locations
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = Path(spec.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def overall(wave: np.ndarray, rate: int) -> float | None:
    """The overall rating (P.835 OVRL; C. Reddy et al., 2022) of a clip, None where the extra is not installed.

    A clip under 0.1 s, in which there is nothing to rate, has none either. Of a long clip, the mean over pieces of
    SECONDS that begin a second apart.
    """
    if not installed() or len(wave) < 0.1 * rate:
        return None
    sound = np.clip(resample_poly(wave, RATE, rate), -1, 1).astype(np.float32)
    length = int(SECONDS * RATE)
    while len(sound) < length:
        sound = np.append(sound, sound)
    starts = range(0, (int(len(sound) // RATE - SECONDS) + 1) * RATE, RATE)
    pieces = [sound[start : start + length] for start in starts if start + length <= len(sound)]
    outputs = [_network().run(None, {"input_1": piece[None]})[0][0][2] for piece in pieces]
    return float(np.mean(np.polyval(_OVERALL, outputs)))
