"""Writes the logged metrics as CSV."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path
from xtts_ka.monitor.history import RunHistory, Track

# Other names are left out: in a spreadsheet, a header such as "=HYPERLINK(…)" would be a formula.
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./]{0,63}")


def export_csv(history: RunHistory, target: Path) -> int:
    """Write every logged metric to `target`, one row per step; returns the number of rows.

    Columns: `step`, the training metrics under their own names, the validation metrics as `val_…`. A cell is
    empty where nothing was logged, and `nan` or `inf` where that was logged. Raises UserError if there is no metric.
    """
    tracks = (history.train, history.val)
    by_step = [{record["step"]: record for record in track.records} for track in tracks]
    columns = [_columns(track) for track in tracks]
    steps = sorted(by_step[0].keys() | by_step[1].keys())
    if not steps:
        raise UserError(
            f"{history.path} holds no metrics to export yet: let the full_pretrain stage log something first"
        )
    with atomic_path(target) as temporary, open(temporary, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["step", *columns[0], *(f"val_{name}" for name in columns[1])])
        for step in steps:
            records = [found.get(step, {}) for found in by_step]
            writer.writerow([step, *(_cell(r.get(name, "")) for r, names in zip(records, columns) for name in names)])
    return len(steps)


def _columns(track: Track) -> list[str]:
    """The names of the logged metrics: first those of `Track.metrics`, then any others by name."""
    logged = {name for record in track.records for name in record if _METRIC_NAME.fullmatch(name)} - {"step", "split"}
    return [name for name in track.metrics if name in logged] + sorted(logged - set(track.metrics))


def _cell(value: Any) -> int | float | str:
    """Numbers as they are, true as 1, null as NaN, texts and structures as an empty cell."""
    if value is None:
        return math.nan
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else math.nan  # pandas reads a column of integers as int64
    return value if isinstance(value, float) else ""
