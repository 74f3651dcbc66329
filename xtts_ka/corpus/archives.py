"""Unpacks the archives of a source (.zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz) into the output folder.

Only recordings, tables and transcripts are written, each member as a plain file. An archive is untrusted: members that
are links or devices, or whose name leads out of the folder, are left out and counted; an archive that unpacks to far
more than audio can is refused, and so is one for which the disk has no room. What an archive gave is recorded beside
it, so that it is unpacked once.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from xtts_ka.core.console import progress, say
from xtts_ka.core.digests import short_path_hash
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import TEMPORARY_SUFFIX, read_json, write_json
from xtts_ka.corpus.paths import AUDIO_SUFFIXES, UNWRITABLE

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_RATIO = 100  # unpacked over packed: a zip of silence has 1,000, one of wav files below 10
FREE_OF_RATIO = 2**28  # bytes that any archive may unpack to
MAX_MEMBER = 2**33  # bytes of one file
MAX_MEMBERS = 10_000_000
_WANTED = frozenset(
    (".csv", ".tsv", ".txt", ".psv", ".list", ".lst", ".lab", ".json", ".jsonl", ".ndjson", ".manifest", ".jsonl.gz")
).union(AUDIO_SUFFIXES, (".parquet", ".cls"))
_WANTED_NAMES = ("wav.scp", "text", "utt2spk", "segments")
_PIECE = 2**20
# What damaged archives raise; RuntimeError is that of an encrypted zip, ValueError that of sizes which are no numbers.
_DAMAGE: tuple[type[Exception], ...] = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_DAMAGE += (OSError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int  # as the archive claims
    open: IO[bytes] | None  # None: no plain file


def is_archive(path: Path | str) -> bool:
    return str(path).lower().endswith(SUFFIXES)


def stem_of(archive: Path) -> str:
    """An archive's name without its suffix."""
    return next(archive.name[: -len(suffix)] for suffix in SUFFIXES if archive.name.lower().endswith(suffix))


def find_archives(folder: Path, depth: int = 4) -> list[Path]:
    """The archives in a folder and at most `depth` levels below it, sorted; hidden files and links are left out."""
    found = []
    for at, subfolders, names in os.walk(folder):
        level = len(Path(at).relative_to(folder).parts)
        subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and level < depth)
        found += [Path(at, name) for name in sorted(names) if is_archive(name) and not name.startswith(".")]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def unpack(archive: Path, workspace: Path) -> Path:
    """Unpack an archive into a folder of its own below `workspace`; return the folder.

    UserError where the archive is damaged or hostile, or needs more room than there is; then nothing is left behind.
    """
    status = archive.stat()
    stamp = {"archive": archive.name, "bytes": status.st_size, "changed": status.st_mtime_ns}
    safe = re.sub(r"[^\w.-]+", "_", stem_of(archive)).strip("_.-") or "archive"
    folder = workspace / f"{safe[:60]}-{short_path_hash(archive)}"
    record = workspace / f"{folder.name}.json"
    if record.is_file() and folder.is_dir() and read_json(record, "the record of an unpacked archive") == stamp:
        return folder
    say(f"unpacking {archive} into {folder}")
    made = [each for each in (workspace, *workspace.parents) if not each.exists()]
    workspace.mkdir(parents=True, exist_ok=True)
    temporary = workspace / f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        left = _write_members(archive, temporary)
        os.sync()  # once for all files: an fsync for each takes longer than the unpacking
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for each in made:
            if not any(each.iterdir()):
                each.rmdir()
    write_json(record, stamp)
    if left:
        say("  left out: " + ", ".join(f"{count} {why}" for why, count in left.most_common()))
    return folder


def _write_members(archive: Path, target: Path) -> Counter[str]:
    """Write the wanted members below `target`; return how many others were left out, by reason."""
    left: Counter[str] = Counter()
    nested = ""
    packed, written, count = archive.stat().st_size, 0, 0
    limit = max(FREE_OF_RATIO, MAX_RATIO * packed)
    target.mkdir()
    try:
        with progress(what=f"unpacking {archive.name}", unit="file", total=None) as bar:
            for member in _members(archive):
                count += 1
                if count > MAX_MEMBERS:
                    raise UserError(f"{archive} holds more than {MAX_MEMBERS:,} files: give the ones you need unpacked")
                name = _safe_name(member.name)
                if not name or member.open is None:
                    left["links or devices" if name else "names that lead out of the archive"] += 1
                    continue
                if not _is_wanted(name):
                    left["archives within it: unpack it yourself" if is_archive(name) else "files of other kinds"] += 1
                    nested = nested or name * is_archive(name)
                    continue
                room = min(limit - written, MAX_MEMBER)
                written += _copy(archive, member.open, target / name, room)
                bar.update(1)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        both = os.path.relpath(error.filename, target)
        remedy = "unpack it yourself, rename one of them, and give the folder as --source"
        raise UserError(f"{archive} cannot be unpacked ({both} is a file and a folder in it): {remedy}") from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno and error.filename and str(target) in str(error.filename):
            raise  # the disk, not the archive
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        remedy = "download it again, or unpack it yourself and give the folder as --source"
        raise UserError(f"{archive} cannot be unpacked ({reason}): {remedy}") from None
    if nested and not written:
        raise UserError(f"{archive} holds another archive, {nested}: unpack it, and give the folder as --source")
    return left


def _copy(archive: Path, source: IO[bytes], target: Path, room: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with open(target, "wb") as file:
        while piece := source.read(_PIECE):
            written += len(piece)
            if written > room:
                much = f"it unpacks to more than {MAX_RATIO} times its size, which no recordings do"
                raise UserError(f"{archive} is not unpacked: {much}; unpack it yourself if it is in order")
            if shutil.disk_usage(target.parent).free < 2**26 + len(piece):
                raise UserError(f"{archive} needs more room than the disk has: free some, or give another --output_dir")
            file.write(piece)
    return written


def _members(archive: Path) -> Iterator[_Member]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if info.is_dir():
                    continue
                kind = info.external_attr >> 28  # the upper bits of Unix' mode: 10 is a link
                if kind not in (0, 8):
                    yield _Member(info.filename, info.file_size, None)
                    continue
                with packed.open(info) as file:
                    yield _Member(info.filename, info.file_size, file)
    else:
        with tarfile.open(archive, "r|*") as packed:  # as a stream: no index of a million members in memory
            for member in packed:
                if not member.isdir():
                    yield _Member(member.name, member.size, packed.extractfile(member) if member.isreg() else None)
                packed.members = []  # type: ignore[attr-defined]


def _safe_name(name: str) -> str:
    """A member's path below the target; "" where it leads elsewhere or cannot be written."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    if (
        plain.startswith("/")
        or ".." in parts
        or re.match(r"[A-Za-z]:", plain)
        or UNWRITABLE.search(plain)
        or "\0" in plain
    ):
        return ""
    return "" if any(len(part.encode("utf-8", "replace")) > 255 for part in parts) else "/".join(parts)


def _is_wanted(name: str) -> bool:
    base = name.rpartition("/")[2]
    hidden = base.startswith(".") or "__MACOSX/" in name
    return not hidden and (base.lower().endswith(tuple(_WANTED)) or base in _WANTED_NAMES)
