"""JSON-lines logs: append whole lines, read them back, follow a growing file."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from xtts_ka.core.files import append_bytes, json_bytes

_SEAL_BYTES = len(b', "crc": "01234567"}')


def append_jsonl(path: Path | str, record: dict) -> None:
    """Append one JSON object as one line, in a single write, so that a kill leaves at most one torn last line.

    A full disk raises OSError and leaves the log as it was. `crc`, the line's last key, tells a damaged line.
    """
    line = json_bytes(record)
    if record:
        line = line[:-2] + _seal(line[:-2]) + b"\n"
    append_bytes(path, line if _ends_whole(path) else b"\n" + line)  # a torn line from a kill must not swallow it


def _ends_whole(path: Path | str) -> bool:
    """Whether `path` is missing, empty, or ends with a line break."""
    try:
        with open(path, "rb") as file:
            return file.seek(0, os.SEEK_END) == 0 or os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
    except FileNotFoundError:
        return True


def read_jsonl(path: Path | str) -> Iterator[dict]:
    """Yield the objects of a JSONL file, passing over torn or foreign lines (a kill may leave one)."""
    with open(path, "rb") as log:
        for line in log:
            if (record := parse_jsonl(line)) is not None:
                yield record


def parse_jsonl(line: bytes) -> dict | None:
    """The object that a line of a JSONL file holds, or None for a damaged or foreign one."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return unsealed(line, record) if isinstance(record, dict) else None


def unsealed(line: bytes, record: dict) -> dict | None:
    """`record`, read from `line`, without its checksum; None where that does not match. A line without one is believed."""
    if record.pop("crc", None) is None:
        return record
    line = line.rstrip()
    return record if line.endswith(_seal(line[:-_SEAL_BYTES])) else None


def _seal(line: bytes) -> bytes:
    """The end of a JSONL line whose beginning is `line`: a checksum of that as the last key of the object."""
    return b', "crc": "%08x"}' % zlib.crc32(line)


LARGEST_VALUE = 1e30  # beyond it a number is damage, and would overflow the means


def number(value: Any) -> float:
    """`value` as a float; NaN for whatever is not a finite number of sensible size (text, null, true …)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_VALUE:
        return math.nan
    return float(value)


class JsonlTail:
    """The lines appended to a JSONL file since the last call, and whether it is still the same file."""

    CHUNK = 1 << 20
    # a longer one is damage (such as a run of zeros after a power cut) and is skipped unread
    LONGEST_LINE = 1 << 20
    # bytes remembered from the start and from before the offset: an inode number may be given out again
    _SEAM = 64

    def __init__(self) -> None:
        self.offset = 0
        self._identity: tuple[int, int] | None = None
        self._head = self._seam = b""
        self._skipping = False

    def replaced(self, file: BinaryIO) -> bool:
        """True when `file` is not the one read so far, continued: renamed away, truncated or written anew."""
        status = os.fstat(file.fileno())
        if self._identity is None:
            return False
        if self._identity != (status.st_dev, status.st_ino) or status.st_size < self.offset:
            return True
        head = file.read(len(self._head))
        file.seek(self.offset - len(self._seam))
        return head != self._head or file.read(len(self._seam)) != self._seam

    def new_lines(self, file: BinaryIO) -> Iterator[tuple[list[dict | None], list[int], int]]:
        """Yield (objects, their byte offsets, bytes read) a chunk at a time; None is a damaged line."""
        status = os.fstat(file.fileno())
        self._identity = (status.st_dev, status.st_ino)
        file.seek(self.offset)
        rest = b""
        while block := file.read(self.CHUNK):
            read, block = len(block), rest + block
            if self._skipping:
                end = block.find(b"\n") + 1
                self.offset += end or len(block)
                block, self._skipping = (block[end:], False) if end else (b"", True)
            end = block.rfind(b"\n") + 1
            whole, rest = block[:end], block[end:]
            records, offsets = self._parse(whole)
            self.offset += end
            if len(rest) > self.LONGEST_LINE:
                records, offsets = [*records, None], [*offsets, self.offset]
                self.offset += len(rest)
                rest, self._skipping = b"", True
            yield records, offsets, read
        if (last := parse_jsonl(rest)) is not None:  # whole, though its newline is missing
            self.offset += len(rest)
            yield [last], [self.offset - len(rest)], 0
        self._remember(file)

    def _parse(self, whole: bytes) -> tuple[list[dict | None], list[int]]:
        lines = whole.split(b"\n")[:-1]
        offsets = list(accumulate((len(line) + 1 for line in lines), initial=self.offset))[:-1]
        if not all(map(bytes.strip, lines)):
            kept = [(line, offset) for line, offset in zip(lines, offsets) if line.strip()]
            lines, offsets = [line for line, _ in kept], [offset for _, offset in kept]
        try:  # a whole chunk at once is twice as fast as line by line
            records = json.loads((b"[" + b",\n".join(lines) + b"]").decode("utf-8"))
        except (ValueError, RecursionError):
            records = []
        if len(records) != len(lines):
            return [parse_jsonl(line) for line in lines], offsets
        pairs = zip(lines, records)
        return [unsealed(line, record) if isinstance(record, dict) else None for line, record in pairs], offsets

    def _remember(self, file: BinaryIO) -> None:
        file.seek(0)
        self._head = file.read(min(self._SEAM, self.offset))
        file.seek(max(0, self.offset - self._SEAM))
        self._seam = file.read(min(self._SEAM, self.offset))
