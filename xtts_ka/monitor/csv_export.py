"""Writes the logged metrics as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path
from xtts_ka.core.jsonl import number
from xtts_ka.monitor.history import RunHistory


def export_csv(history: RunHistory, target: Path) -> int:
    """Write every logged metric to `target`, one row per step; returns the number of rows.

    Columns: `step`, the training metrics under their own names, those of validation as `val_…`, of samples as
    `samples_…`. A cell is empty
    where nothing was logged, and `nan` where that was no finite number. Raises UserError if there is no metric.
    """
    rows: dict[int, dict[str, float]] = {}
    for prefix, track in (("", history.train), ("val_", history.val), ("samples_", history.samples)):
        for record in track.records:
            row = rows.setdefault(record["step"], {"step": record["step"]})
            for name, value in record.items():
                if name not in ("step", "split") and name.isidentifier():  # a header "=HYPERLINK(…)" would be a formula
                    row[prefix + name] = number(value)
    if not rows:
        raise UserError(f"{history.path} holds no metrics to export yet: let the full_pretrain stage log something")
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    with atomic_path(target) as temporary, open(temporary, "w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))
    return len(rows)
