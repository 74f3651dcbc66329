"""Detects changed recordings and voice embeddings by their names, sizes and modification times.

Hashing the content of a million files at every start would take hours; asking for size and time takes seconds. The
answers are remembered within one process until `look_again` is called, because several stages ask for the same ones.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xtts_ka.core.digests import hash_listing, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.embedding_files import find_embedding_files
from xtts_ka.corpus.tables import TRAINING_SPLITS, read_rows

FILE_FACTS = np.dtype([("size", "<i8"), ("changed", "<i8")])  # bytes, modification time in ns


class Listing(NamedTuple):
    """What stands on the disk for one split table.

    files: FILE_FACTS of each row's recording, in the table's order; digest: over the recordings' names, sizes and
    times; embeddings: the embedding files that rows name.
    """

    files: np.ndarray
    digest: str
    embeddings: tuple[Path, ...]


def look_again() -> None:
    """Forget all answers. Call it before asking what has changed, and after work during which files may change."""
    listing.cache_clear()
    embeddings_digest.cache_clear()


@functools.cache
def listing(data_dir: Path | str, split: str) -> Listing:
    """Ask the disk about every recording in the table of `split`. UserError for one that is missing or no file."""
    names, facts, embeddings = hashlib.sha256(), array("q"), []
    for row in read_rows(data_dir, split):
        names.update(f"{row.recording}\n".encode())
        facts.extend(_size_and_time(row.audio_path))
        if row.embedding_path:
            embeddings.append(Path(row.embedding_path))
    digest = hash_value([names.hexdigest(), hashlib.sha256(facts).hexdigest()])
    return Listing(np.frombuffer(facts, FILE_FACTS), digest, tuple(embeddings))


@functools.cache
def embeddings_digest(data_dir: Path | str) -> str:
    """Digest over names, sizes and times of the voice embeddings that the clips of train and val can use."""
    named = [path for split in TRAINING_SPLITS for path in listing(data_dir, split).embeddings]
    return hash_listing(find_embedding_files(data_dir, named), Path(data_dir))


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        remedy = "restore it, or make the metadata anew with create_metadata_files.py"
        raise UserError(f"recording {path} is in the metadata but not on the disk: {remedy}")
    return status.st_size, status.st_mtime_ns
