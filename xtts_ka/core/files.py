"""Atomic writes, and reading JSON.

Every write goes to a temporary file beside the target, is flushed to the disk and renamed to the target, so a reader
sees the old file or the new one, never part of one. Only logs and caches grow in place, by `append_bytes`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xtts_ka.core.errors import UserError

TEMPORARY_SUFFIX = ".partial"  # of a file that an interrupted write leaves; `sweep_partials` deletes it


@contextlib.contextmanager
def atomic_path(path: Path | str, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, on failure deleted.

    sync=False leaves out the fsync: for a file with a checksum, that may be lost when the power fails.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    _delete(temporary)
    try:
        with _errors_name(path, temporary):
            yield temporary
            if sync:
                _fsync(temporary)
            os.replace(temporary, path)
            if sync:
                _fsync(path.parent)
    finally:
        _delete(temporary)


@contextlib.contextmanager
def atomic_folder(folder: Path | str) -> Iterator[Path]:
    """Like `atomic_path` for a folder that does not exist yet or is empty; a folder with content is never replaced."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*"):
            _fsync(path)


@contextlib.contextmanager
def _errors_name(path: Path, temporary: Path) -> Iterator[None]:
    """An OSError that names `temporary`, a file in it, or nothing (a full disk) names `path` instead."""
    try:
        yield
    except OSError as error:
        # shutil.copy names the source first; the disk that is full is the target's.
        copy = error.filename2 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else None
        name = str(copy or error.filename or temporary)
        inside = name.removeprefix(str(temporary))
        if error.errno is None or inside == name or inside[:1] not in ("", os.sep):
            raise
        raise OSError(error.errno, error.strerror, f"{path}{inside}") from error


def sweep_partials(folder: Path) -> None:
    """Delete what killed writers left directly in `folder`: names of the form `.<name>.<pid>.partial`.

    Call it only while holding the pipeline's lock.
    """
    for left in folder.glob(f".*.[0-9]*{TEMPORARY_SUFFIX}"):
        _delete(left)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path | str, data: bytes, *, sync: bool = True) -> None:
    """Write `data` atomically; sync as in `atomic_path`."""
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` atomically as readable UTF-8 JSON (Georgian stays Georgian)."""
    write_bytes(path, json_bytes(value, indent=2))


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """One JSON value in UTF-8 and a newline. Undecodable bytes of file names become JSON's \\udcXX escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace") + b"\n"


def append_bytes(path: Path | str, data: bytes, *, sync: bool = False) -> None:
    """Append all of `data` (with `sync`, flushed to the disk) or, if that raises an OSError, none of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        end, rest = file.seek(0, os.SEEK_END), memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]  # a nearly full disk takes a part and refuses the rest
            if sync:
                os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end)
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def read_json(path: Path | str, what: str = "file", remedy: str = "restore it or delete it and run again") -> Any:
    """Read a UTF-8 JSON file; a missing or malformed one is a UserError that names `what` it is and a `remedy`."""
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))  # Windows editors write a byte-order mark
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist: {remedy}") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        raise UserError(f"{what} {path} is not valid JSON ({error}): {remedy}") from None


def text_lines(source: Path | str, what: str) -> Iterator[tuple[int, str]]:
    """(number, line without its end) of a UTF-8 file, or of standard input where `source` is "-".

    Raises UserError naming `what` the file is where it cannot be read, and the first line that is not UTF-8.
    """
    name = "standard input" if source == "-" else f"{what} {source}"
    try:
        with sys.stdin.buffer if source == "-" else open(source, "rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise UserError(f"{name}, line {number}: not UTF-8; save the file as UTF-8") from None
                yield number, text.rstrip("\r\n")
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None
