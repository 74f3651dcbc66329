"""Estimates when the training will end, and how long it has taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtts_ka.core.robust import deviation
from xtts_ka.monitor.history import Table

NEWEST_LINES = 500  # lines from which the pace is measured
ENOUGH_LINES = 40  # lines from which the newest session alone decides: it may run on another machine
STRETCHES = 20


@dataclass(frozen=True)
class Eta:
    """Seconds of training left, their uncertainty, and the present pace."""

    seconds: float
    plus_minus: float
    seconds_per_step: float


def estimate_time_left(train: Table, total_steps: int) -> Eta | None:
    """Time left at the pace of the newest lines, or None while there are fewer than four.

    The newest lines are cut into stretches; the pace is the mean of the middle half of the stretches' paces. So
    validation and checkpoints, which are in every stretch, count; pauses (in a few stretches) and the time between
    a stop and the restart (between two sessions) do not. The uncertainty is the spread of the stretches' paces
    (1.48 × median absolute deviation): the error of the estimate if the pace goes on varying as it did.
    """
    step, time, session = (train[name][-NEWEST_LINES:] for name in ("step", "time", "session"))
    steps, seconds = np.diff(step), np.diff(time)
    usable = (np.diff(session) == 0) & (seconds > 0)  # leaves out NaN, and a clock that was set back
    newest = usable & (session[1:] == session[-1:])
    if newest.sum() >= ENOUGH_LINES:
        usable = newest
    steps, seconds = steps[usable], seconds[usable]
    if len(steps) < 3:
        return None
    parts = np.array_split(np.arange(len(steps)), min(STRETCHES, max(3, len(steps) // 5)))
    paces = np.sort([seconds[part].sum() / steps[part].sum() for part in parts])
    quarter = max(1, len(paces) // 4)  # with three stretches, the middle one is left
    pace = float(paces[quarter:-quarter].mean())
    left = max(0, total_steps - int(train["step"][-1]))
    return Eta(left * pace, left * deviation(paces), pace)


def training_seconds(train: Table) -> float:
    """Seconds spent in training: the time between lines of one session, without long pauses."""
    gaps = np.diff(train["time"])
    gaps = gaps[(gaps > 0) & (np.diff(train["session"]) == 0)]
    return float(gaps[gaps <= max(600.0, 20 * float(np.median(gaps)))].sum()) if len(gaps) else 0.0
