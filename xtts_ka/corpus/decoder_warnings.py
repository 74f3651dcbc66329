"""Keeps what libmpg123 prints from the terminal: its lines name no file.

It writes to the process' standard error itself, so the descriptor is redirected while it decodes.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from xtts_ka.core.console import warn
from xtts_ka.corpus.excerpt import Excerpt, Recording

Result = TypeVar("Result")
_MPG123 = re.compile(r"(?:\[[^\]]*libmpg123[^\]]*\]\s*)?((?:Note|Warning|[Ee]rror|ERROR):? .*|.*mpg123.*)")


@contextlib.contextmanager
def decoder_warnings() -> Iterator[list[str]]:
    """Collect libmpg123's lines in the list that is yielded; it is filled at the end. All other lines are passed on."""
    heard: list[str] = []
    try:
        sys.stderr.flush()
        terminal = os.dup(2)
    except (OSError, ValueError):  # standard error is closed
        yield heard
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            file.seek(0)
            for line in file.read(2**20).decode("utf-8", "replace").splitlines():
                if match := _MPG123.fullmatch(line.strip()):
                    heard.append(match[1][:160])
                elif line.strip():
                    print(line, file=sys.stderr, flush=True)


def named(read: Callable[..., Result], recording: Recording, *arguments: object) -> Result:
    """`read(recording, *arguments)`; where libmpg123 complains, a warning names the file, once in a process.

    No other thread may decode meanwhile.
    """
    with decoder_warnings() as heard:
        result = read(recording, *arguments)
    path = str(recording.path if isinstance(recording, Excerpt) else recording)
    if heard and path not in _NAMED:
        _NAMED.add(path)
        warn(f"damaged mp3, of which what can be decoded is used: {path} ({heard[0]})")
    return result


_NAMED: set[str] = set()


class Overheard:
    """Keeps libmpg123's lines from the terminal while many threads decode, and tells afterwards whose they are.

    Use it in a `with` statement, and read through `during`. Standard error's descriptor leads into a file meanwhile;
    Python's own output, progress bars too, goes past it.
    """

    def __init__(self) -> None:
        self._suspects: set[Any] = set()  # read while somebody complained: it may have been another one
        self._read: Callable[[Any], object] = lambda recording: None

    def __enter__(self) -> Overheard:
        self._own, self._terminal = sys.stderr, -1
        try:
            sys.stderr.flush()
            self._terminal = os.dup(2)
            if sys.stderr.fileno() == 2:
                # Line by line, as Python's own.
                sys.stderr = open(os.dup(2), "w", 1, sys.stderr.encoding, sys.stderr.errors)
        except (OSError, ValueError, AttributeError):  # it is closed, or no file
            pass
        self._file = tempfile.TemporaryFile()
        if self._terminal >= 0:
            os.dup2(self._file.fileno(), 2)
        return self

    def during(self, read: Callable[[Any], Result], recording: Any) -> Result:
        """`read(recording)`. Any number of threads may call it."""
        self._read, before = read, os.fstat(self._file.fileno()).st_size
        try:
            return read(recording)
        finally:
            if os.fstat(self._file.fileno()).st_size != before:
                self._suspects.add(recording)

    def __exit__(self, *_: object) -> None:
        if self._terminal >= 0:
            os.dup2(self._terminal, 2)
            os.close(self._terminal)
        if sys.stderr is not self._own:
            sys.stderr.close()
            sys.stderr = self._own
        self._file.seek(0)
        for line in self._file.read(2**20).decode("utf-8", "replace").splitlines():
            if line.strip() and not _MPG123.fullmatch(line.strip()):
                print(line, file=sys.stderr, flush=True)
        self._file.close()

    def complaints(self) -> dict[Any, str]:
        """Recording → the first line about it. Reads the suspects again, one by one, after the `with` statement."""
        found = {}
        for recording in sorted(self._suspects, key=str):
            with decoder_warnings() as heard:
                self._read(recording)
            if heard:
                found[recording] = heard[0]
        return found
