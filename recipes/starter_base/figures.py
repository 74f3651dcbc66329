"""`figures.json` in the work folder: what each step measured. Steps may run side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filelock import FileLock

from xtts_ka.core.files import read_json, write_json

FIGURES = "figures.json"


def note(work: Path, step: str, facts: dict[str, Any]) -> None:
    """Write what `step` measured, in place of what it said before."""
    with FileLock(work / f".{FIGURES}.lock"):
        figures = read_json(work / FIGURES) if (work / FIGURES).is_file() else {}
        write_json(work / FIGURES, {**figures, step: facts})
