"""Metrics as CSV."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path
from xtts_ka.core.jsonl import parse_jsonl
from xtts_ka.monitor.history import RunHistory

# also keeps spreadsheet formulas out of the header
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./]{0,63}")


class _OffsetTrack:
    """The lines of a split that survive the merging, as steps and byte offsets; and their metrics' names."""

    def __init__(self, metrics: tuple[str, ...]):
        self.last = -1
        self.metrics = metrics
        self.names: dict[str, None] = {}
        self.steps, self.offsets = array("q"), array("q")

    def append(self, step: int, session: int, record: dict, offset: int) -> None:
        self.last = step
        self.steps.append(step)
        self.offsets.append(offset)
        if not self.names.keys() >= record.keys():
            self.names.update(dict.fromkeys(record))

    def rewind(self, step: int, *, inclusive: bool) -> None:
        keep = int(np.searchsorted(np.frombuffer(self.steps, np.int64), step, "left" if inclusive else "right"))
        del self.steps[keep:], self.offsets[keep:]
        self.last = self.steps[-1] if keep else -1

    def columns(self) -> list[str]:
        """The known metrics first, in their order, then whatever else was logged."""
        logged = [name for name in self.names if name not in ("step", "split") and _METRIC_NAME.fullmatch(name)]
        return [m for m in self.metrics if m in logged] + sorted(set(logged) - set(self.metrics))


def export_csv(log: Path, target: Path, on_rows: Callable[[int, int], Any] | None = None) -> int:
    """Write every logged metric to `target`, one row per step with restarts merged; returns how many rows.

    Columns: `step`, the training metrics under their own names, the validation metrics as `val_…`; a cell is
    empty where nothing was logged, `nan` or `inf` where that was. `on_rows(done, total)` is told how far it
    got.
    """
    import csv

    history = RunHistory(log, _OffsetTrack)
    history.refresh()
    train, val = history.train, history.val
    steps = np.union1d(np.array(train.steps, np.int64), np.array(val.steps, np.int64))
    if not len(steps):
        raise UserError(f"{log} holds no metrics to export yet: let the full_pretrain stage log something first")
    with open(log, "rb") as file, atomic_path(target) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["step", *train.columns(), *(f"val_{name}" for name in val.columns())])
            cells = [_cells(file, track) for track in (train, val)]
            upcoming = [next(rows) for rows in cells]
            blanks = [[""] * len(track.columns()) for track in (train, val)]
            for done, step in enumerate(steps.tolist(), start=1):
                row = [step]
                for i, rows in enumerate(cells):
                    here = upcoming[i][0] == step
                    row += upcoming[i][1] if here else blanks[i]
                    upcoming[i] = next(rows) if here else upcoming[i]
                writer.writerow(row)
                if on_rows and (done % 100_000 == 0 or done == len(steps)):
                    on_rows(done, len(steps))
    return len(steps)


def _cells(file: BinaryIO, track: _OffsetTrack) -> Iterator[tuple[int, list]]:
    """Yield (step, cells) for each surviving line, then (-1, []) for ever."""
    columns = track.columns()
    for step, offset in zip(track.steps, track.offsets):
        file.seek(offset)
        record = parse_jsonl(file.readline()) or {}
        yield step, [_cell(record.get(name, "")) for name in columns]
    while True:
        yield -1, []


def _cell(value: Any) -> Any:
    """Numbers as they are, true as 1, null as NaN; texts and structures are no metrics and stay empty."""
    if value is None:
        return math.nan
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else math.nan  # what a column of whole numbers can hold
    return value if isinstance(value, float) else ""
