"""When will the training be done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtts_ka.monitor.history import Table


@dataclass(frozen=True)
class Eta:
    """Seconds of training left, give or take `plus_minus`; and the present pace."""

    seconds: float
    plus_minus: float
    seconds_per_step: float


def estimate_time_left(
    train: Table, total_steps: int, *, lines: int = 500, enough: int = 40, stretches: int = 20
) -> Eta | None:
    """Time left at the pace of the newest lines, or None while there are fewer than four.

    The newest lines (of the newest session alone once it has `enough`: it may run on another machine) are cut
    into stretches; the pace is the mean of the middle half of their paces. So validation and checkpoints,
    which are in every stretch, count, while pauses (in a few stretches) and the way back after a restart
    (between sessions) do not. The uncertainty is the spread of the stretches' paces (1.48 × median absolute
    deviation): how far off the estimate is if the pace goes on varying as it did.
    """
    recent = slice(-lines, None)
    step, time, session = train["step"][recent], train["time"][recent], train["session"][recent]
    steps, seconds = np.diff(step), np.diff(time)
    usable = (np.diff(session) == 0) & (seconds > 0)  # NaN and a clock set back are not
    present = usable & (session[1:] == session[-1:])
    usable = present if present.sum() >= enough else usable
    steps, seconds = steps[usable], seconds[usable]
    if len(steps) < 3:
        return None
    parts = np.array_split(np.arange(len(steps)), min(stretches, max(3, len(steps) // 5)))
    pace = np.sort([seconds[part].sum() / steps[part].sum() for part in parts])
    quarter = max(1, len(pace) // 4)  # of three stretches, the middle one
    middle = float(pace[quarter : len(pace) - quarter].mean())
    spread = 1.4826 * float(np.median(np.abs(pace - np.median(pace))))
    left = max(0, total_steps - int(train["step"][-1]))
    return Eta(left * middle, left * spread, middle)


def training_seconds(train: Table) -> float:
    """Seconds spent in training: what lies between lines of one session, long pauses left out."""
    gaps, lines = np.diff(train["time"]), train["lines"][1:]
    usable = (gaps > 0) & (np.diff(train["session"]) == 0)
    gaps, lines = gaps[usable], lines[usable]
    if not len(gaps):
        return 0.0
    usual = float(np.median(gaps / lines))
    return float(gaps[gaps <= np.maximum(600.0, 20 * usual * lines)].sum())
