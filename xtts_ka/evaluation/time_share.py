"""Keeps samples within their share of the training's time: each round is measured, the next waits until it fits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from xtts_ka.training.metrics_log import TimeSpent, time_spent

MOST_ROUNDS = 100  # in a training: 150 MB of wavs, and again as much in TensorBoard's files


class TimeShare:
    """share: of the time since training began at step 0, over all restarts, as `log` says (None: it begins now).

    first: seconds that a round is taken to last before one was measured.
    """

    def __init__(
        self,
        share: float,
        total_steps: int,
        first: float,
        log: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._share, self._clock, self._began = share, clock, clock()
        self._steps = total_steps / MOST_ROUNDS  # between two rounds, at least
        before = time_spent(log) if log and log.is_file() else TimeSpent()
        self._before, self.spent = before.training, before.samples
        self.expected, self._last = before.last_round or first, before.last_step

    @property
    def elapsed(self) -> float:
        """Seconds of training up to now, samples included."""
        return self._before + self._clock() - self._began

    def allows(self, step: int) -> bool:
        """Whether a round as long as the last one fits into the share now."""
        apart = self._last is None or abs(step - self._last) >= self._steps
        return apart and self.spent + self.expected <= self._share * self.elapsed

    @property
    def until_first(self) -> float:
        """Seconds of training after which the first round fits."""
        return self.expected / self._share

    def took(self, seconds: float, step: int) -> None:
        """Count a round that took so long, whatever came of it."""
        self.spent += seconds
        self.expected, self._last = seconds, step
