"""Keeps what libmpg123 prints from the terminal: its lines name no file.

It writes to the process' standard error itself, so the descriptor is redirected while it decodes.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

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
