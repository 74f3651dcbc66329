"""Recordings that had to be written anew: the parts of long ones, and those that stood in archives and tables.

They go to `audio/` in the output folder, never into the source. A file that is there already with the same content is
left as it is, so that its time does not change and nothing that was computed from it is computed again.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from xtts_ka.core.files import TEMPORARY_SUFFIX

FOLDER = "audio"  # in the output folder


def keep_file(path: Path, data: bytes) -> None:
    """Write `data` unless `path` holds it already; whole or not at all, but flushed to the disk only later.

    An fsync for each of a million files would take hours. Call os.sync once, before the tables name them.
    """
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.{threading.get_ident()}{TEMPORARY_SUFFIX}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cut(recording: str, start: float, end: float | None, target: Path) -> None:
    """Write a part of a recording, in seconds, as a mono 16-bit wav of the same rate. AudioError as in `read_part`."""
    import numpy as np

    from xtts_ka.corpus.audio import read_part, wav_bytes

    samples, rate = read_part(recording, start, end)
    keep_file(target, wav_bytes(np.rint(samples * 32768), rate))
