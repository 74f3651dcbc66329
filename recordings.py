"""Which recordings and embeddings there are, and whether they have changed: one look at each file, shared by all who ask.

A million files take seconds to look at, and a start asks several times (the ledger for every stage that reads them, the
loader for its cache), so an answer stands until somebody calls `look_again`: before a plan, and after any work.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from artifacts import hash_listing, hash_value
from console import UserError
from embedding_files import find_embedding_files
from metadata_table import Places, Row, read_rows, split_csv
from stage_ledger import file_digest
from training_index import recorded_names


class Listing(NamedTuple):
    """The recordings of a split, one per row of its table: bytes, modification times (ns), and a digest of it all."""

    sizes: np.ndarray
    changed: np.ndarray
    digest: str


_listings: dict[Path, Listing] = {}
_embeddings: dict[Path, str] = {}


def look_again() -> None:
    """Forget what was seen of any file."""
    _listings.clear()
    _embeddings.clear()


def embeddings_digest(data_dir: Path | str) -> str:
    """Over names, sizes and times of the voice embeddings that the clips of train and val can use."""
    data_dir = Path(data_dir)
    if data_dir not in _embeddings:
        named = [row for split in ("train", "val") for row in _naming_embeddings(data_dir, split)]
        _embeddings[data_dir] = hash_listing(find_embedding_files(data_dir, named), data_dir)
    return _embeddings[data_dir]


def _naming_embeddings(data_dir: Path, split: str) -> Iterator[Row]:
    """Rows that name an embedding of their own, with a Path in it. In most tables none does: then the last cell of every
    line is empty, which is told faster than the rows are read."""
    table = split_csv(data_dir, split)
    if not table.is_file():
        return
    with open(table, "rb") as lines:
        if next(lines, b"").rstrip().endswith(b",embedding_path") and all(line.endswith(b",\n") for line in lines):
            return
    yield from (row._replace(embedding_path=Path(row.embedding_path)) for row in read_rows(data_dir, split) if row.embedding_path)


def listing(data_dir: Path | str, split: str) -> Listing:
    """What stands on the disk for the table of `split`. A recording that is not there is a UserError."""
    table = split_csv(data_dir, split)
    if table not in _listings:
        names = hashlib.sha256()
        seen = np.fromiter(_look(data_dir, split, names), np.dtype([("size", "<i8"), ("changed", "<i8")]))
        digest = hash_value([names.hexdigest(), hashlib.sha256(seen.tobytes()).hexdigest()])
        _listings[table] = Listing(seen["size"], seen["changed"], digest)
    return _listings[table]


def _look(data_dir: Path | str, split: str, names) -> Iterator[tuple[int, int]]:
    for name, path in _named(data_dir, split):
        names.update(f"{name}\n".encode())
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            raise UserError(f"recording {path} is in the metadata but not on the disk: restore it, or make the metadata "
                            f"anew with create_metadata_files.py")
        yield status.st_size, status.st_mtime_ns


def _named(data_dir: Path | str, split: str) -> Iterator[tuple[str, str]]:
    """(name in the table, absolute path) of each recording; read from a training index of the same table if there is one."""
    table = split_csv(data_dir, split)
    known = recorded_names(data_dir, split, file_digest(table)) if table.is_file() else None
    if known is None:
        yield from ((row.recording, row.audio_path) for row in read_rows(data_dir, split))
        return
    place = Places(table)
    with open(known, encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 2):
            yield line[:-1], place(line[:-1], number, "audio_path")
