"""The only place that writes files that matter, and the safe way to read them back.

Every write goes to a temporary file beside the target, is flushed to the disk and renamed over it, so a reader sees the
old file or the new one and never half of one. Every read that could execute code (pickle, torch) refuses to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from xtts_ka.core.errors import UserError

TEMPORARY_SUFFIX = ".partial"  # what an interrupted write leaves; `sweep_partials` removes it

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a file system says that takes no more

# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, on failure removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with _errors_name(path, temporary):
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
            _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path | str) -> Iterator[Path]:
    """Like `atomic_path` for a whole folder: it appears under its name complete or not at all.

    `folder` must not exist yet, or be empty: nothing that is already there is ever replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _errors_name(folder, temporary):
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as written:
                        os.fsync(written.fileno())
                elif file.is_dir():
                    _fsync_folder(file)
            _fsync_folder(temporary)
            os.replace(temporary, folder)  # fails, and rightly so, where a non-empty folder stands
            _fsync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _errors_name(path: Path, temporary: Path) -> Iterator[None]:
    """An OSError about `temporary`, about a file in it or about nothing at all (a full disk) names `path` instead."""
    try:
        yield
    except OSError as error:
        copy = error.filename2 if error.errno in _FULL else None  # shutil names the source of a copy first
        name = str(copy or error.filename or temporary)
        inside = name.removeprefix(str(temporary))
        if error.errno is None or inside == name or inside[:1] not in ("", os.sep):
            raise
        raise OSError(error.errno, error.strerror, f"{path}{inside}") from error


def sweep_partials(folder: Path) -> None:
    """Remove what killed writers left directly in `folder`. Call it only while holding the pipeline's lock.

    Only names of the form `.<name>.<pid>.partial` are ours; any other file stays.
    """
    for left in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        if not re.fullmatch(r"\..+\.\d+" + re.escape(TEMPORARY_SUFFIX), left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` atomically as readable UTF-8 JSON (Georgian stays Georgian)."""
    write_bytes(path, json_bytes(value, indent=2))


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """One JSON value as UTF-8 and a line break. A file name's undecodable byte becomes JSON's own escape for it."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace") + b"\n"


def append_bytes(path: Path | str, data: bytes, *, sync: bool = False) -> None:
    """Append all of `data`, flushed to the disk with `sync`; a full disk raises OSError and leaves the file as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        append_to(file, data, sync=sync)


def append_to(file: FileIO, data: bytes, *, sync: bool = False) -> None:
    """`append_bytes` for a file that is open, without a buffer."""
    end, rest = file.seek(0, os.SEEK_END), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]  # a nearly full disk takes a part and refuses the rest
        if sync:
            os.fsync(file.fileno())
    except OSError as error:
        file.truncate(end)
        raise OSError(error.errno, error.strerror, os.fspath(file.name)) from error


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_json(path: Path | str, what: str = "file", remedy: str = "restore it or delete it and run again") -> Any:
    """Read a UTF-8 JSON file; a missing or malformed one is a UserError that names `what` it is and the `remedy`."""
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))  # Windows editors write a byte-order mark
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist: {remedy}") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        raise UserError(f"{what} {path} is not valid JSON ({error}): {remedy}") from None


# ── hashing and manifests ────────────────────────────────────────────────────────────────────────────────────────────
