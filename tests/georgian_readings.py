"""The hand-written readings in georgian/readings/, a table for each module of xtts_ka/georgian that reads text.

A line is a written text, a tab, and what an educated Georgian reads aloud; lines that start with "# " are headings.
"""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "georgian/readings"


def pairs(module: str) -> list[tuple[str, str]]:
    """(written, reading) of each line of the module's table."""
    lines = (FOLDER / f"{module}.tsv").read_text(encoding="utf-8").splitlines()
    return [(line.split("\t")[0], line.split("\t")[1]) for line in lines if not line.startswith("# ")]


def readings(module: str) -> pytest.MarkDecorator:
    """Runs a test with each (written, reading) of the module's table."""
    rows = pairs(module)
    return pytest.mark.parametrize(("written", "reading"), rows, ids=[written for written, _ in rows])
