"""Counts clipped samples: those at full scale, and those in flat tops below it, which clipping leaves where a recording
is turned down afterwards.

A flat top is a run of RUN or more samples at the largest or the smallest value of a channel. Rounding makes such runs
of quiet or slow sound too. They are told apart by the samples just below: a smooth peak, x = top - c·t², is within w of
its top for a time of 2·√(w/c), and within the next 3 w for as long again, whatever c and w are. Clipping leaves five to
twenty times as many samples at the top as beside it.

Not found: soft clipping, whose tops are round; tops that a lossy codec, a filter or another sample rate has bent; flat
tops in a recording that is louder elsewhere on both sides.
"""

from __future__ import annotations

import numpy as np

FULL_SCALE = 0.99  # a sample of this amplitude counts as clipped: 8-bit audio ends at 127/128, mp3 rounds peaks off
RUN = 3  # samples
STEP = 0.005  # of the amplitude, at least: samples within half a step of the top are at it, since dither scatters them
COARSEST = 1 / 16  # of the amplitude: where values lie further apart than this, nothing can be told
CLEARLY = 3  # times as many samples in flat tops as in the three steps beside them; smooth peaks have 1 to 1.5


def clipped_samples(block: np.ndarray) -> int:
    """Of float samples (n, channels), n > 0, how many are clipped, over all channels."""
    count = 0
    for channel in np.ascontiguousarray(block.T):
        high, low = float(channel.max()), float(channel.min())
        amplitude = (high - low) / 2
        near = STEP / 2 * amplitude
        if max(high, -low) >= FULL_SCALE:
            count += int(np.count_nonzero(np.abs(channel) >= FULL_SCALE))
        for top, at_top in (high, channel > high - near), (low, channel < low + near):
            if abs(top) < FULL_SCALE and (flat := _in_runs(at_top)):
                count += flat if flat > CLEARLY * _beside(np.abs(channel - top), amplitude) else 0
    return count


def _in_runs(at_top: np.ndarray) -> int:
    """How many are true and stand in runs."""
    places = np.flatnonzero(at_top)
    lengths = np.diff(np.flatnonzero(np.diff(places, prepend=-2, append=len(at_top) + 1) > 1))
    return int(lengths[lengths >= RUN].sum())


def _beside(distance: np.ndarray, amplitude: float) -> float:
    """How many samples lie in the three steps next to the top, from which all have this distance.

    Infinite where the steps are too coarse to tell.
    """
    off = distance[distance >= STEP / 2 * amplitude]
    step = max(STEP * amplitude, float(off.min(initial=np.inf)))
    return int(np.count_nonzero(off < 3.5 * step)) if step <= COARSEST * amplitude else np.inf
