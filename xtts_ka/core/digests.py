"""SHA-256 of files and values, and the manifest that lists the files of a folder with their sizes and hashes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xtts_ka.core.files import TEMPORARY_SUFFIX, write_json

MANIFEST = "manifest.json"


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()


def short_path_hash(path: Path) -> str:
    """Eight hex digits of a path's SHA-256, by which folders for files of equal names are told apart."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:8]


def hash_to_unit(text: str) -> float:
    """Map `text` to [0, 1) by its SHA-256: the same in every run, whatever other texts there are."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:6], "big") / 2**48


def hash_listing(files: Iterable[Path], root: Path) -> str:
    """SHA-256 of the names (relative to `root`), sizes and modification times of `files`, without reading them."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        facts = f"{os.path.relpath(file, root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write `manifest.json`: `facts`, the size and SHA-256 of every other file in `folder`, a checksum of itself.

    Call it last: a folder without a manifest is an unfinished write.
    """
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": hash_file(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST and not file.name.endswith(TEMPORARY_SUFFIX)
    }
    manifest = json.loads(json.dumps({**facts, "files": files}))
    write_json(folder / MANIFEST, {**manifest, "checksum": hash_value(manifest)})


def read_manifest(folder: Path, *, hashes: bool = True) -> tuple[dict[str, Any] | None, str]:
    """Return (manifest, "") of a sound folder, or (None, reason) if its manifest or one of its files is not sound.

    `hashes=False` compares sizes only (for a quick look at many checkpoints).
    """
    manifest, reason = load_manifest(folder)
    if manifest is not None:
        reason = files_problem(folder, manifest, hashes=hashes)
    return (None, reason) if reason else (manifest, "")


def load_manifest(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return (manifest, "") or (None, reason); the files that the manifest lists are not looked at."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes().decode("utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        if manifest.pop("checksum", None) not in (None, hash_value(manifest)):
            raise ValueError("another checksum")
    except FileNotFoundError:
        return None, f"{MANIFEST} is missing (an unfinished write)"
    except OSError as error:
        return None, f"{MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None, f"{MANIFEST} is damaged"
    outside = next((name for name in files if ".." in Path(name).parts or Path(name).is_absolute()), None)
    if outside:
        return None, f"{MANIFEST} names {outside}, which is outside the folder"
    return manifest, ""


def files_problem(folder: Path, manifest: dict[str, Any], *, hashes: bool) -> str:
    """What is wrong with the first file that differs from `manifest`, or ""."""
    for name, entry in manifest["files"].items():
        file = folder / name
        try:
            if not file.is_file():
                return f"{name} is missing"
            if (size := file.stat().st_size) != int(entry["bytes"]):
                return f"{name} is {size} bytes, not {entry['bytes']}"
            if hashes and hash_file(file) != entry["sha256"]:
                return f"{name} does not match its checksum"
        except OSError as error:
            return f"{error.filename or file} cannot be read ({error.strerror})"
    return ""


SETTLED_SECONDS = 3.0  # a younger file is hashed anew each time: a second write could have the same timestamp


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed anew only when its inode, size or times have changed."""
    status = os.stat(path)
    if time.time() - status.st_ctime < SETTLED_SECONDS:
        return hash_file(path)
    return _settled_digest(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.cache
def _settled_digest(path: Path, *identity: int) -> str:
    return hash_file(path)
