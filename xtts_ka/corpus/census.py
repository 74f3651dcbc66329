"""What a source holds in which no corpus was found: for a refusal that says what was seen and what to do."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from xtts_ka.corpus.archives import is_archive
from xtts_ka.corpus.content import LFS_POINTER
from xtts_ka.corpus.delimited import common_delimiter, first_lines, split_line
from xtts_ka.corpus.paths import has_audio_suffix

MAX_FILES = 2_000_000  # that are counted
_TABLES = (".csv", ".tsv", ".txt", ".psv", ".list", ".jsonl", ".json")
_OFFICE = (".xlsx", ".xls", ".ods", ".numbers", ".docx", ".doc", ".odt", ".pdf")
_PACKED = re.compile(r".*(\.(rar|7z|gz|bz2|xz|zst|z\d\d)|\.(zip|tar|tgz|tar\.\w+|7z)\.?(part)?(\d+|[a-z]{2}))", re.I)
_OTHER_SOUND = tuple(".wv .ape .dss .ds2 .tta .mpc .avi .mpg .mpeg .flv .m4v .sph .raw .pcm".split())
_KALDI = ("wav.scp", "utt2spk", "segments", "spk2utt")


@dataclass
class Census:
    """Counts of a folder's files; links are not followed."""

    suffixes: Counter[str] = field(default_factory=Counter)
    tables: list[Path] = field(default_factory=list)  # the first few
    office: str = ""  # a table or text that only an office program opens
    packed: str = ""  # an archive, or a part of one, that is not read
    other_sound: str = ""  # a recording of a kind that is not read
    names: set[str] = field(default_factory=set)  # of Kaldi's files
    links: int = 0
    broken: str = ""  # a link that leads nowhere or out of the folder
    pointer: str = ""  # a Git LFS pointer
    total: int = 0

    @property
    def recordings(self) -> int:
        return sum(count for suffix, count in self.suffixes.items() if has_audio_suffix(f"x{suffix}"))


def count_files(folder: Path) -> Census:
    census = Census()
    for at, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = os.path.join(at, name)
            census.total += 1
            census.suffixes[_suffix(name)] += 1
            if os.path.islink(path):
                census.links += 1
                real = os.path.realpath(path)
                if not census.broken and not (real.startswith(f"{folder}{os.sep}") and os.path.isfile(real)):
                    census.broken = path
            elif name.lower().endswith(_TABLES) and len(census.tables) < 5:
                census.tables.append(Path(path))
            if name.lower().endswith(_OFFICE):
                census.office = census.office or path
            elif name.lower().endswith(_OTHER_SOUND):
                census.other_sound = census.other_sound or path
            elif not is_archive(name) and not name.endswith(".jsonl.gz") and _PACKED.fullmatch(name):
                census.packed = census.packed or path
            if name in _KALDI:
                census.names.add(name)
            if not census.pointer and os.path.isfile(path) and os.path.getsize(path) < 300 and _is_pointer(path):
                census.pointer = path
        if census.total > MAX_FILES:
            break
    return census


def _suffix(name: str) -> str:
    for double in (".tar.gz", ".tar.bz2", ".tar.xz", ".jsonl.gz"):
        if name.lower().endswith(double):
            return double
    return os.path.splitext(name)[1].lower()


def _is_pointer(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(64).startswith(LFS_POINTER)


def what_was_seen(folder: Path) -> str:
    """One or two clauses on what a folder holds, and what to do about it."""
    census = count_files(folder)
    if not census.total:
        return "it holds no files"
    kinds = ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in census.suffixes.most_common(6))
    seen = [f"it holds {kinds}" + (f" (the first {MAX_FILES:,} files)" if census.total > MAX_FILES else "")]
    if census.pointer:
        seen.append(f"{census.pointer} is a Git LFS pointer: fetch the files with `git lfs pull`")
    if census.office:
        seen.append(f"{census.office} is not read: save it as CSV in UTF-8, with columns audio_file and text")
    if census.packed:
        seen.append(
            f"{census.packed} is an archive that is not read, or a part of one: unpack it (join its parts first)"
        )
    if census.other_sound:
        sound = f"{census.other_sound} is sound of a kind that is not looked for"
        seen.append(f"{sound}: convert such files, for example with `ffmpeg -i IN OUT.flac`")
    if census.broken:
        seen.append(f"{census.broken} is a link that leads out of it or nowhere: copy the files with `cp -rL`")
    seen += [_about_table(table, folder) for table in census.tables[:2]]
    if census.names:
        seen.append(
            f"it looks like Kaldi ({', '.join(sorted(census.names))}): wav.scp and text are needed side by side"
        )
    if census.recordings and not census.tables and not census.office:
        seen.append("no transcripts are there: put a .txt of the same name beside each recording, or one table")
    elif not census.recordings and not census.other_sound:
        seen.append("no recordings are there")
    return "; ".join(filter(None, seen))


def _about_table(table: Path, folder: Path) -> str:
    """The columns of a table, and those it needs."""
    name = table.relative_to(folder)
    try:
        lines = first_lines(table)
    except (OSError, UnicodeError):
        return f"{name} cannot be read"
    if not lines:
        return f"{name} is empty" if not table.stat().st_size else f"{name} has no line of text: save it as UTF-8"
    delimiter = common_delimiter(table, count=1)
    if not delimiter or table.suffix in (".json", ".jsonl"):
        return f"{name} begins {lines[0][:60]!r}" if table.suffix != ".txt" else ""
    cells = ", ".join(cell[:30] for cell in split_line(lines[0], delimiter)[0][:8])
    return f"{name} begins with the columns {cells}, where a recording (audio_file) and its text (text) are needed"
