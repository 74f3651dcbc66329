"""What a run has logged: `metrics.jsonl` read as it grows, with restarts merged, in bounded memory.

A refresh costs time proportional to the new lines only. After a crash the trainer logs again what it had done
since the last checkpoint; here each step appears once, with its last value. Damaged lines are counted and
passed over.

    history = RunHistory("logs/metrics.jsonl")
    history.refresh()
    history.train.table()["loss"]      # float64, one value per row; see `Track`
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.jsonl import LARGEST_VALUE, JsonlTail, number

TRAIN_METRICS = ("loss", "loss_text", "loss_mel", "lr", "grad_norm", "audio_s_per_s", "data_wait_s", "time")
VAL_METRICS = ("loss", "loss_text", "loss_mel", "time")
Table = dict[str, np.ndarray]

_LARGEST_STEP = 10**12


# ── reading a file that grows ───────────────────────────────────────────────────────────────────────────────


# ── one split's lines ───────────────────────────────────────────────────────────────────────────────────────


class Track:
    """One split's lines with strictly increasing steps: the newest exactly, older ones as means of several.

    However long the run, at most 2·EXACT + COARSE rows are kept. `table()` returns float64 columns of equal
    length: `step` (the last of the row), `lines` (how many it stands for; 1 = exact), `session` (counts
    restarts), `low`, `low_step`, `high`, `high_step` (extremes of the loss), and one mean per metric, NaN
    where it was not logged.
    """

    EXACT, COARSE, FOLD = 8192, 4096, 16
    SHAPE = ("step", "lines", "session", "low", "low_step", "high", "high_step")

    def __init__(self, metrics: tuple[str, ...]):
        self.last = -1
        self.metrics = metrics
        self._nonfinite: list[int] = []
        self._get = itemgetter(*metrics)
        self._fresh: list[tuple] = []
        self._exact = self._coarse = np.empty((0, len(self.SHAPE) + len(metrics)))

    @property
    def nonfinite(self) -> list[int]:
        """Steps whose loss was NaN, infinite or null (of a long run, the newest 1000)."""
        self._flush()
        return self._nonfinite

    def append(self, step: int, session: int, record: dict, offset: int) -> None:
        """Add a line; `step` must be larger than `last`."""
        try:
            values = self._get(record)
        except KeyError:
            values = tuple(record.get(name, math.nan) for name in self.metrics)
        self._fresh.append((step, session, *values))
        self.last = step
        if len(self._fresh) >= self.EXACT:
            self._flush()

    def rewind(self, step: int, *, inclusive: bool) -> None:
        """Forget the lines after `step` (and the one at it, if `inclusive`): they were undone."""
        self._flush()
        side = "left" if inclusive else "right"
        self._exact = self._exact[: np.searchsorted(self._exact[:, 0], step, side)]
        self._coarse = self._coarse[: np.searchsorted(self._coarse[:, 0], step, side)]
        self._nonfinite = [bad for bad in self._nonfinite if bad < step + (not inclusive)]
        newest = self._exact if len(self._exact) else self._coarse
        self.last = int(newest[-1, 0]) if len(newest) else -1

    def table(self) -> Table:
        """The rows as named columns."""
        self._flush()
        rows = np.concatenate([self._coarse, self._exact])
        return dict(zip(self.SHAPE + self.metrics, rows.T.copy()))

    def _flush(self) -> None:
        if not self._fresh:
            return
        try:
            fresh = np.array(self._fresh, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            fresh = np.array([[number(value) for value in line] for line in self._fresh])
        self._fresh = []
        step, session, values = fresh[:, :1], fresh[:, 1:2], fresh[:, 2:]
        values[~(np.abs(values) <= LARGEST_VALUE)] = np.nan
        values[np.abs(values) < 1 / LARGEST_VALUE] = 0.0  # so that no ratio overflows
        loss = values[:, :1]
        self._nonfinite += step[np.isnan(loss)].astype(int).tolist()
        rows = np.hstack([step, np.ones_like(step), session, loss, step, loss, step, values])
        self._exact = np.concatenate([self._exact, rows])
        if len(self._exact) > 2 * self.EXACT:
            old, self._exact = self._exact[: -self.EXACT], self._exact[-self.EXACT :]
            self._coarse = np.concatenate([self._coarse, _merged(old, np.arange(len(old)) // self.FOLD)])
            del self._nonfinite[:-1000]
        if len(self._coarse) > self.COARSE:
            lines = self._coarse[:, 1]
            share = lines.sum() / (self.COARSE // 2)
            self._coarse = _merged(self._coarse, (np.cumsum(lines) - lines) // share)


def _merged(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Merge the rows of each group (`groups` never decreases): means by lines, extremes of the loss."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    lines, values = rows[:, 1:2], rows[:, 7:]
    weights = np.where(np.isnan(values), 0.0, lines)
    weight = np.add.reduceat(weights, starts)
    total = np.add.reduceat(weights * np.nan_to_num(values), starts)
    merged = rows[np.append(starts[1:], len(rows)) - 1].copy()  # step and session of the last row
    merged[:, 1] = np.add.reduceat(lines[:, 0], starts)
    merged[:, 3:5] = rows[np.lexsort((rows[:, 3], groups))[starts], 3:5]  # NaN sorts last
    merged[:, 5:7] = rows[np.lexsort((-rows[:, 5], groups))[starts], 5:7]
    merged[:, 7:] = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return merged


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Restart:
    """Where a run carried on after a stop: the step it began from, and when (unix seconds, or NaN)."""

    step: int
    time: float


class RunHistory:
    """A run's metrics, merged. Call `refresh()` as often as you like; it reads what is new.

    A `start` event with `resumed` undoes everything after its step. Should that line be damaged, two lines in
    a row that step back mean the same, while a single one is damage itself and dropped.
    """

    def __init__(self, path: Path | str, tracks: Callable[[tuple[str, ...]], Any] = Track):
        self.path = Path(path)
        self.version = 0  # grows whenever a refresh changed something
        self._new_track = tracks
        self.clear()

    def clear(self) -> None:
        """Forget everything; the next refresh reads from the start of the file."""
        self._log = JsonlTail()
        self._begin()
        self.damaged = 0  # lines that are no metric and no event

    def _begin(self) -> None:
        self.train, self.val = self._new_track(TRAIN_METRICS), self._new_track(VAL_METRICS)
        self.restarts: deque[Restart] = deque(maxlen=1000)
        self.restart_count = self._session = self.resumed_at = 0
        self.total_steps: int | None = None
        self.run_id: str | None = None
        self.last_event: str | None = None  # start, finish or stop, whichever came last
        self.last_time = math.nan
        self.skipped: list[int] = []  # steps that were skipped because they were not finite (the newest 1000)
        self.splits: list[tuple[int, int]] = []  # (step, pieces a batch is cut into since): the GPU's memory ran out
        self._suspect: tuple | None = None

    def refresh(self, on_bytes: Callable[[int], Any] | None = None) -> bool:
        """Read what was appended (all of it, if the file was replaced). True when anything changed."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            changed = self._log.offset > 0
            self.clear()
            self.version += changed
            return changed
        changed = False
        with file:
            if self._log.replaced(file):
                self.clear()
                changed = True
            for records, offsets, read in self._log.new_lines(file):
                self._merge(records, offsets)
                changed = changed or bool(records)
                if on_bytes:
                    on_bytes(read)
        self.version += changed
        return changed

    def _merge(self, records: list[dict | None], offsets: list[int]) -> None:
        tracks = {"train": self.train, "val": self.val}
        for record, offset in zip(records, offsets):
            if record is None:
                self.damaged += 1
                continue
            split, step = record.get("split"), record.get("step")
            track = tracks.get(split) if isinstance(split, str) else None
            numbered = type(step) is int and 0 <= step <= _LARGEST_STEP
            if track is None or not numbered or "loss" not in record:
                self._event(record, step)
                tracks = {"train": self.train, "val": self.val}
            elif step <= track.last:
                self._step_back(track, step, record, offset)
            else:
                if self._suspect is not None:
                    self._suspect, self.damaged = None, self.damaged + 1
                track.append(step, self._session, record, offset)
        for record in reversed(records):
            if record is not None and not math.isnan(time := number(record.get("time"))):
                self.last_time = time
                break

    def _event(self, record: dict, step: Any) -> None:
        event = record.get("event")
        if not isinstance(event, str):
            self.damaged += 1
            return
        step = step if type(step) is int and 0 <= step <= _LARGEST_STEP else 0
        if event in ("start", "finish", "stop"):
            self.last_event = event
        elif event == "skip":
            self.skipped = [*self.skipped[-999:], step]
        elif event == "oom" and (parts := number(record.get("parts"))) >= 1:
            self.splits = [*self.splits[-999:], (step, int(parts))]
        if event != "start":
            return
        self.resumed_at = step
        if record.get("resumed") is True:
            self._undo(None, step)
            self._suspect = None
            self._restarted(step, number(record.get("time")))
        else:
            self._begin()
            self.last_event, self.resumed_at = event, step
        total = number(record.get("total_steps"))
        self.total_steps = int(total) if total >= 1 else self.total_steps
        self.run_id = record["run_id"] if isinstance(record.get("run_id"), str) else self.run_id

    def _step_back(self, track: Any, step: int, record: dict, offset: int) -> None:
        previous, self._suspect = self._suspect, (track, step, record, offset)
        if previous is None:
            return
        first, first_step, first_record, first_offset = previous
        self._undo(first, first_step)
        self._restarted(first_step, number(first_record.get("time")))
        first.append(first_step, self._session, first_record, first_offset)
        if step > track.last:
            track.append(step, self._session, record, offset)
            self._suspect = None

    def _undo(self, relogged: Any, step: int) -> None:
        """Forget what a restart at `step` undoes; the line at `step` itself comes again in `relogged`."""
        for track in (self.train, self.val):
            if track.last >= step:
                track.rewind(step, inclusive=track is relogged)
        self.skipped = [skipped for skipped in self.skipped if skipped <= step]
        self.splits = [split for split in self.splits if split[0] <= step]

    def _restarted(self, step: int, time: float) -> None:
        self._session += 1
        self.restart_count += 1
        self.restarts.append(Restart(step, time))


# ── smoothing and the time left ─────────────────────────────────────────────────────────────────────────────


# ── export ──────────────────────────────────────────────────────────────────────────────────────────────────
