"""What of a recording is read, where not all of it is: from where to where, and how much louder.

The columns `read_from`, `read_to` and `gain_db` of a split table hold it; the recording itself stays as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_WRITTEN = re.compile(r"(.+)#t=(\d+\.\d{4}),(\d+\.\d{4})&gain=(-?\d+\.\d\d)", re.DOTALL)


class Cut(NamedTuple):
    """start, end: seconds of the recording; gain_db: what is added to its level."""

    start: float
    end: float
    gain_db: float = 0.0


class Excerpt(NamedTuple):
    """A cut of a recording: stands in for its path wherever it is read (`audio.read_mono`, `features.load_speech`)."""

    path: Path
    cut: Cut

    def __str__(self) -> str:
        """As a W3C media fragment. It names the excerpt in keys, so it is the same for the same cells of a table."""
        start, end, gain = self.cut
        return f"{self.path}#t={start:.4f},{end:.4f}&gain={gain:.2f}"


Recording = Path | str | Excerpt


def parse(text: str) -> Excerpt | str:
    """The excerpt that `str` has written; a path as it is, one that happens to look like an excerpt too."""
    written = _WRITTEN.fullmatch(text)
    if not written or os.path.lexists(text):
        return text
    return Excerpt(Path(written[1]), Cut(*map(float, written.groups()[1:])))
