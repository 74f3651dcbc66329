"""JSON-lines logs: append whole lines, and read back those that are whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xtts_ka.core.files import append_bytes, json_bytes


def append_jsonl(path: Path | str, record: dict) -> None:
    """Append one JSON object as one line, in a single write, so that a kill leaves at most one torn last line.

    A full disk raises OSError and leaves the log as it was.
    """
    separator = b"" if _ends_with_newline(path) else b"\n"  # keeps a torn last line apart from this one
    append_bytes(path, separator + json_bytes(record))


def _ends_with_newline(path: Path | str) -> bool:
    """Whether the last byte of `path` is a newline; True for a missing or empty file."""
    try:
        with open(path, "rb") as file:
            return file.seek(0, os.SEEK_END) == 0 or os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
    except FileNotFoundError:
        return True


def read_jsonl(path: Path | str) -> Iterator[dict]:
    """Yield the objects of a JSONL file. Lines that are torn or hold no JSON object are skipped."""
    with open(path, "rb") as log:
        for line in log:
            if (record := parse_jsonl(line)) is not None:
                yield record


def parse_jsonl(line: bytes) -> dict | None:
    """The JSON object in a line, or None if there is none. Drops `crc`, the checksum that older versions wrote."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record.pop("crc", None)
    return record


def number(value: Any) -> float:
    """`value` as a float; NaN for text, null, true …, and beyond ±1e30: that is damage, and sums would overflow."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e30:
        return math.nan
    return float(value)
