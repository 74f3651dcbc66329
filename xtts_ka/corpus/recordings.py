"""Which recordings and embeddings there are, and whether they have changed: one look at each file, shared by all who ask.

A million files take seconds to look at, and a start asks several times (the ledger for every stage that reads them, the
loader for its cache), so an answer stands until somebody calls `look_again`: before a plan, and after any work. A program
that has seconds of imports before its plan makes them under `looking_ahead`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xtts_ka.core.config import BASE_FILES, PretrainConfig
from xtts_ka.core.digests import file_digest, hash_listing, hash_value, known_digests, learn_digests
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.embedding_files import find_embedding_files
from xtts_ka.corpus.tables import TRAINING_SPLITS, Places, Row, collector_paused, read_rows, split_csv
from xtts_ka.training.clip_index import recorded_names

LARGE = 2**26  # bytes to read; then it takes longer than a process to start
FOUND = np.dtype([("size", "<i8"), ("changed", "<i8")])  # bytes, modification time in ns
AT_ONCE = 16  # threads that question a disk that is slow to answer
_SHARE, _CHUNK = 64, 4096  # recordings for each, and between two looks at how slow it is
_IN_ANOTHER_PROCESS = (
    "import sys; sys.path.insert(0, sys.argv[1]); from xtts_ka.corpus import recordings; "
    "recordings._tell(*sys.argv[2:])"
)


class Listing(NamedTuple):
    """The recordings of a split, one per row of its table, and a digest of their names, sizes and times."""

    files: np.ndarray  # of FOUND
    digest: str


_listings: dict[Path, Listing] = {}
_ahead: list[tuple[subprocess.Popen, Path]] = []
_embeddings: dict[Path, str] = {}


def look_again() -> None:
    """Forget what was seen of any file, but for what `look_ahead` has just found."""
    _listings.clear()
    _embeddings.clear()
    while _ahead:
        _take_over(*_ahead.pop())


def embeddings_digest(data_dir: Path | str) -> str:
    """Over names, sizes and times of the voice embeddings that the clips of train and val can use."""
    data_dir = Path(data_dir)
    if data_dir not in _embeddings:
        named = [row for split in TRAINING_SPLITS for row in _naming_embeddings(data_dir, split)]
        _embeddings[data_dir] = hash_listing(find_embedding_files(data_dir, named), data_dir)
    return _embeddings[data_dir]


def _naming_embeddings(data_dir: Path, split: str) -> Iterator[Row]:
    """Rows that name an embedding of their own, with a Path in it. In most tables none does."""
    table = split_csv(data_dir, split)
    if table.is_file() and not _last_cells_are_empty(table):
        yield from (
            row._replace(embedding_path=Path(row.embedding_path))
            for row in read_rows(data_dir, split)
            if row.embedding_path
        )


def _last_cells_are_empty(table: Path) -> bool:
    """Whether a comma ends every line behind a header that ends with embedding_path: told faster than rows are read."""
    with open(table, "rb") as lines:
        if not next(lines, b"").rstrip().endswith(b",embedding_path"):
            return False
        for block in iter(lambda: lines.read(2**20) + lines.readline(), b""):
            letters = np.frombuffer(block, np.uint8)
            ends = np.flatnonzero(letters == ord("\n"))
            if not (block.endswith(b"\n") and (letters[ends - 1] == ord(",")).all()):
                return False
    return True


def listing(data_dir: Path | str, split: str) -> Listing:
    """What stands on the disk for the table of `split`. A recording that is not there is a UserError."""
    table = split_csv(data_dir, split)
    if table not in _listings:
        _listings[table] = _look(data_dir, split)
    return _listings[table]


def _look(data_dir: Path | str, split: str) -> Listing:
    names, parts, pairs = hashlib.sha256(), [np.empty(0, FOUND)], _named(data_dir, split)
    here = f"{os.getcwd()}/"  # a short path is found sooner: each folder on the way is looked up anew
    with ThreadPoolExecutor(AT_ONCE) as threads:
        while chunk := list(islice(pairs, _CHUNK)):
            names.update("".join(f"{name}\n" for name, _ in chunk).encode())
            paths = [path.removeprefix(here) for _, path in chunk]
            first, *others = (paths[i : i + _SHARE] for i in range(0, len(paths), _SHARE))
            before = _waits()
            parts.append(_sizes_and_times(first))
            slow = _waits() - before > len(first) / 2
            parts += (threads.map if slow else map)(
                _sizes_and_times, others
            )  # a quick disk's answers they would fight over
    seen = np.concatenate(parts)
    digest = hash_value([names.hexdigest(), hashlib.sha256(seen.tobytes()).hexdigest()])
    return Listing(seen, digest)


def _waits() -> int:
    """How often this thread has let go of its processor to wait for something (not: had it taken away)."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _sizes_and_times(paths: list[str]) -> np.ndarray:
    missing = None
    try:
        found = list(map(os.stat, paths))
        missing = next((path for path, status in zip(paths, found) if not stat.S_ISREG(status.st_mode)), None)
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = error.filename
    if missing:
        raise UserError(
            f"recording {os.path.abspath(missing)} is in the metadata but not on the disk: restore it, or make "
            f"the metadata anew with create_metadata_files.py"
        )
    return np.array([(status.st_size, status.st_mtime_ns) for status in found], FOUND)


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


# ── ahead ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def look_ahead(config: PretrainConfig) -> None:
    """Begin, in another process, to look at recordings and embeddings and to hash tables and base model, if that is much.

    The next `look_again` has what it finds. What it cannot read it leaves to whoever needs it.
    """
    files = [
        *(split_csv(config.data_dir, split) for split in TRAINING_SPLITS),
        *(Path(config.base_model_path) / name for name in BASE_FILES),
    ]
    files = [file for file in files if file.is_file()]
    if sum(file.stat().st_size for file in files) >= LARGE:
        command = [sys.executable, "-c", _IN_ANOTHER_PROCESS, Path(__file__).parents[2], config.data_dir, *files]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )  # no Ctrl-C
        atexit.register(process.kill)
        _ahead.append((process, Path(config.data_dir)))


@contextlib.contextmanager
def looking_ahead(config: PretrainConfig, wanted: bool = True) -> Iterator[None]:
    """Around the imports of a program: look ahead beside them, if that is wanted, and let the garbage collector rest, which
    would make them a tenth slower, and would look at what they brought ever after."""
    if wanted:
        look_ahead(config)
    with collector_paused():
        yield
    gc.freeze()


def _tell(data_dir: str, *files: str) -> None:
    """Look, and write to the standard output a line of JSON and the splits' sizes and times."""
    with contextlib.suppress(UserError, OSError), ThreadPoolExecutor(1) as beside:
        tables = [file_digest(split_csv(data_dir, split)) for split in TRAINING_SPLITS]
        hashed = beside.map(
            file_digest, map(Path, files)
        )  # it is the disk and the checksum that take the time, not Python
        seen = [listing(data_dir, split) for split in TRAINING_SPLITS]
        embeddings = embeddings_digest(data_dir)
        list(hashed)
        splits = [
            (split, table, len(found.files), found.digest) for split, table, found in zip(TRAINING_SPLITS, tables, seen)
        ]
        facts = {"digests": known_digests(), "embeddings": embeddings, "splits": splits}
        sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + b"".join(found.files.tobytes() for found in seen))


def _take_over(process: subprocess.Popen, data_dir: Path) -> None:
    """Take another process's findings for ours, unless a table has been changed meanwhile."""
    with process:
        told, files = process.stdout.readline(), process.stdout.read()
    atexit.unregister(process.kill)
    if process.returncode or not told:
        return
    facts = json.loads(told)
    learn_digests({name: (tuple(identity), digest) for name, (identity, digest) in facts["digests"].items()})
    found, rest = {}, np.frombuffer(files, FOUND)
    for split, digest, count, seen in facts["splits"]:
        table = split_csv(data_dir, split)
        if not table.is_file() or file_digest(table) != digest:
            return
        found[table], rest = Listing(rest[:count], seen), rest[count:]
    _listings.update(found)
    _embeddings[data_dir] = facts["embeddings"]
