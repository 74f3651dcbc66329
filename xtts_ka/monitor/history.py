"""Reads a run's `metrics.jsonl` as it grows and merges restarts.

After a crash the trainer logs again the steps since the last checkpoint. Here each step appears once, with the
values logged last. Damaged lines are counted and skipped.

    history = RunHistory("logs/metrics.jsonl")
    history.refresh()
    history.train.table()["loss"]      # float64, one value per logged step; see `Track`
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from xtts_ka.core.jsonl import number, parse_jsonl

TRAIN_METRICS = ("loss", "loss_text", "loss_mel", "lr", "grad_norm", "audio_s_per_s", "data_wait_s", "time")
UNSEEN = "unseen_"  # before the names of the losses over speakers that training does not hear
VAL_METRICS = ("loss", "loss_text", "loss_mel", *(UNSEEN + name for name in ("loss", "loss_text", "loss_mel")), "time")
SAMPLE_METRICS = ("cer", "wer", "similarity", "fault_rate", "recogniser_cer", "seconds", "time")
Table = dict[str, np.ndarray]

_LARGEST_STEP = 10**12
_TAIL_BYTES = 64  # compared on every refresh, to notice that the log was replaced


class Track:
    """The lines of one split (train, val or samples), with strictly increasing steps."""

    def __init__(self, metrics: tuple[str, ...]):
        self.metrics = metrics
        self.records: list[dict[str, Any]] = []  # as logged
        self._columns = {name: array("d") for name in ("step", "session", *metrics)}

    @property
    def last(self) -> int:
        """The last step, or -1."""
        return self.records[-1]["step"] if self.records else -1

    def append(self, record: dict[str, Any], session: int) -> None:
        """Add a line whose step is larger than `last`. `session` is the number of restarts before it."""
        self.records.append(record)
        values = (record["step"], session, *(number(record.get(name)) for name in self.metrics))
        for column, value in zip(self._columns.values(), values):
            column.append(0.0 if abs(value) < 1e-30 else value)  # so that ratios do not overflow

    def cut(self, step: int) -> None:
        """Forget the lines of `step` and later: a restart logs them again."""
        keep = bisect_left(self.records, step, key=lambda record: record["step"])
        del self.records[keep:]
        for column in self._columns.values():
            del column[keep:]

    def table(self) -> Table:
        """float64 columns of equal length: `step`, `session`, and each metric, NaN where no number was logged."""
        return {name: np.array(column) for name, column in self._columns.items()}

    @property
    def nonfinite(self) -> list[int]:
        """Steps whose loss is NaN, infinite or null."""
        table = self.table()
        return table["step"][np.isnan(table["loss"])].astype(int).tolist()


@dataclass(frozen=True)
class Choice:
    """The checkpoint that was exported because it was understood best of `candidates`; its CER, NaN if damaged."""

    step: int
    cer: float
    candidates: int


class RunHistory:
    """A run's metrics with restarts merged. Each `refresh()` reads the lines appended since the one before.

    A `start` event with `resumed` undoes everything after its step. A line whose step is not larger than the last one
    does too, for the case that the `start` line is damaged.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._reset()

    def _reset(self) -> None:
        """Forget everything; the next read begins at the start of the file."""
        self._offset = 0
        self._tail = b""  # the bytes before the offset
        self.damaged = 0  # lines that are neither a metric nor an event
        self._begin()

    def _begin(self) -> None:
        self.train, self.val, self.samples = Track(TRAIN_METRICS), Track(VAL_METRICS), Track(SAMPLE_METRICS)
        self.restarts: list[int] = []  # the step from which each restart carried on
        self.resumed_at = 0
        self.total_steps: int | None = None
        self.run_id: str | None = None
        self.last_event: str | None = None  # start, finish or stop, whichever came last
        self.last_time = math.nan
        self.skipped: list[int] = []  # steps skipped because their loss or gradient was not finite
        self.choice: Choice | None = None
        self.splits: list[tuple[int, int]] = []  # (step, pieces per batch from then on): out of GPU memory

    def refresh(self) -> bool:
        """Read the lines appended since the last call; True when anything changed. A replaced log is read anew."""
        data = self._read_from(self._offset - len(self._tail))
        replaced = not data.startswith(self._tail)
        if replaced:  # renamed away, truncated or rewritten
            self._reset()
            data = self._read_from(0)
        new = data[len(self._tail) :]
        end = new.rfind(b"\n") + 1
        if parse_jsonl(new[end:]) is not None:  # a whole line whose newline is not written yet
            end = len(new)
        lines = [line for line in new[:end].split(b"\n") if line.strip()]
        for line in lines:
            self._add(parse_jsonl(line))
        self._offset += end
        self._tail = (self._tail + new[:end])[-_TAIL_BYTES:]
        return replaced or bool(lines)

    def _read_from(self, offset: int) -> bytes:
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                return file.read()
        except FileNotFoundError:
            return b""

    def _add(self, record: dict[str, Any] | None) -> None:
        if record is None:
            self.damaged += 1
            return
        split, step = record.get("split"), record.get("step")
        tracks = {"train": self.train, "val": self.val, "samples": self.samples}
        track = tracks.get(split) if isinstance(split, str) else None
        if track is None or not _is_step(step) or not ("loss" in record or track is self.samples):
            self._add_event(record)
        else:
            if step <= track.last:
                self._undo(step)
                track.cut(step)
            track.append(record, len(self.restarts))
        if not math.isnan(time := number(record.get("time"))):
            self.last_time = time

    def _add_event(self, record: dict[str, Any]) -> None:
        event, given = record.get("event"), record.get("step")
        if not isinstance(event, str):
            self.damaged += 1
            return
        step = given if _is_step(given) else 0
        if event == "start":
            self._start(record, step)
        elif event == "choice":
            self.choice = _choice(record, step)
        elif event == "skip":
            self.skipped.append(step)
        elif event == "oom" and (parts := number(record.get("parts"))) >= 1:
            self.splits.append((step, int(parts)))
        if event in ("start", "finish", "stop"):
            self.last_event = event

    def _start(self, record: dict[str, Any], step: int) -> None:
        if record.get("resumed") is True:
            self._undo(step)
        else:
            self._begin()
        self.resumed_at = step
        if (total := number(record.get("total_steps"))) >= 1:
            self.total_steps = int(total)
        if isinstance(record.get("run_id"), str):
            self.run_id = record["run_id"]

    def _undo(self, step: int) -> None:
        """Note a restart from `step` and forget what was logged after it."""
        self.choice = None
        for track in (self.train, self.val, self.samples):
            track.cut(step + 1)
        self.skipped = [skipped for skipped in self.skipped if skipped <= step]
        self.splits = [split for split in self.splits if split[0] <= step]
        self.restarts.append(step)


def _choice(record: dict[str, Any], step: int) -> Choice:
    candidates = record.get("candidates")
    found = [each for each in candidates if isinstance(each, dict)] if isinstance(candidates, list) else []
    own = next((each for each in found if each.get("step") == step), {})
    cer = own.get("cer")
    return Choice(step, number(cer.get("value") if isinstance(cer, dict) else None), len(found))


def _is_step(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _LARGEST_STEP
