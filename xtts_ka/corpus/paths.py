"""Finds the file that a table means by what it writes: as written first, then by guesses, each of which is told.

A guess is taken only where one file fits: backslashes as slashes, %20 as a space, another Unicode normal form or letter
case, another suffix, a path without the folders before it that are not in the source (all those of another machine,
or the name that the source once had), and, in a table none of whose paths lead anywhere as written, a bare name
anywhere in the source. No file outside the source is used, links followed.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from xtts_ka.core.console import first_few
from xtts_ka.corpus.drop_reasons import Drop

# libsndfile reads those of the first line, PyAV the others. Of several files with one stem, the first is taken.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64"),
    *(".m4a", ".aac", ".webm", ".mp4", ".amr", ".3gp", ".wma", ".mka", ".m4b", ".mkv", ".mov"),
)
AUDIO_FOLDERS = (
    "wavs",
    "wav",
    "audio",
    "clips",
    "audios",
    "data",
    "recordings",
)  # usual names; the first is tried first
UNWRITABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and bytes that are no Unicode
MAX_INDEXED = 5_000_000  # files of a source that guesses look at
MAX_TWINS = 200  # missing files for which a near twin is looked for: each takes milliseconds
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|~[/\\]")
_FAR_AWAY = "the path is absolute, perhaps of another machine{}: write paths relative to the table's folder"
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+://", re.I)


@dataclass(frozen=True)
class Root:
    """A folder with files of the source. `inside`: the folder of the source that they stand in (of an archive)."""

    folder: Path  # absolute, links resolved
    inside: str = ""
    walked: bool = True  # False: no corpus is looked for in it, it only serves the paths that tables write
    archive: str = ""  # the last folder of `inside`, where it stands for one of several archives


@dataclass(frozen=True, slots=True)
class Found:
    """path: of the recording, links resolved; name: its path in the source, as written there; note: the guess made."""

    path: str
    name: str
    note: str = ""


class PathProblem(Exception):
    """No file can be used. reason: as in the drop report; detail: for people."""

    def __init__(self, reason: Drop, detail: str):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def link_targets(folder: Path) -> list[Path]:
    """Folders beside `folder` that its links may lead into: the blobs of a Hugging Face cache's snapshot."""
    if folder.parent.name == "snapshots" and (blobs := folder.parent.parent / "blobs").is_dir():
        return [Path(os.path.realpath(blobs))]
    return []


def has_audio_suffix(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES)


def fold(name: str) -> str:
    """`name` without differences of letter case and of Unicode normal forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


@dataclass
class PathFinder:
    """Finds files in the roots of one source. It remembers what folders list: make it anew when they change."""

    roots: Sequence[Root]
    bare_names: bool = False  # whether a name alone may be taken from any folder; see `choose_bare_names`
    inside: tuple[str, ...] = field(init=False)  # folders that files may lie in, with a slash behind
    _listings: dict[str, dict[str, bool]] = field(default_factory=dict)  # real folder → name → whether it is a link
    _real: dict[str, str] = field(default_factory=dict)  # folder as written → links resolved
    _index: _Index | None = None
    _twins: int = 0

    def __post_init__(self) -> None:
        folders = [folder for root in self.roots for folder in (root.folder, *link_targets(root.folder))]
        self.inside = tuple(f"{folder}{os.sep}" for folder in folders)

    def find(self, written: str, starts: Sequence[Path], folders: Sequence[str] = ()) -> Found:
        """The file that a row writes. PathProblem where there is none, or none that may be used.

        starts: absolute folders that the path may be relative to; folders: names of folders in them that it may omit.
        """
        if not written:
            raise PathProblem(Drop.BAD_ROW, "it names no recording")
        if UNWRITABLE.search(written):
            raise PathProblem(Drop.BAD_ROW, "the file name holds characters that no table can hold")
        if written.startswith("file://"):
            written = unquote(written.removeprefix("file://"))
        if _ADDRESS.match(written):
            raise PathProblem(Drop.MISSING_AUDIO, "it is a web address: download the file and write its path")
        outside = ""
        for place in self._places(completed(written), starts, folders):
            found = self._file(*place)
            if isinstance(found, Found):
                return found
            outside = outside or found
        absolute = bool(_ABSOLUTE.match(written))
        if (absolute or not outside) and (guess := self._guess(written, starts, folders, self.bare_names)):
            return guess
        if absolute:
            same = self._of_this_name(written) or ", and no file in the source ends like it"
            raise PathProblem(Drop.OUTSIDE_SOURCE, outside or _FAR_AWAY.format(same))
        first, _ = next(self._places((written,), starts, folders))
        if outside or not self._is_inside(first):
            raise PathProblem(Drop.OUTSIDE_SOURCE, outside or f"the path leads out of {self.roots[0].folder}")
        there = self._of_this_name(written) or self._twin(written, starts, folders)
        raise PathProblem(Drop.MISSING_AUDIO, f"the file does not exist{there}")

    def as_written(self, written: str, starts: Sequence[Path], folders: Sequence[str] = ()) -> Found | None:
        """The file that the path leads to without a guess; None where there is none that may be used."""
        if not written or UNWRITABLE.search(written):
            return None
        places = self._places(completed(written), starts, folders)
        return next((found for place in places if isinstance(found := self._file(*place), Found)), None)

    def locate(self, written: str, starts: Sequence[Path], folders: Sequence[str], bare: bool = False) -> Found | None:
        """The file that `written` leads to, as written or by a guess; bare: whether its name alone may tell."""
        found = self.as_written(written, starts, folders)
        return found or (self._guess(written, starts, folders, bare or self.bare_names) if written else None)

    def _places(
        self, names: Sequence[str], starts: Sequence[Path], folders: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        """(folder, file name) of every place where a file of these names may be.

        All places of a start come before those of the next: the same name farther away is probably another clip's.
        """
        if os.path.isabs(names[0]):
            starts, folders = (Path("/"),), ()
        for start in starts:
            for name in names:
                inner, _, base = name.rpartition("/")
                for folder in ("", *folders):
                    yield os.path.join(start, folder, inner), base

    def _file(self, folder: str, base: str) -> Found | str:
        """The file `base` in `folder`, or why it may not be used; "" where there is none."""
        real = self._real_folder(folder)
        if not f"{real}{os.sep}".startswith(self.inside):
            away = f"the recording is outside {self.roots[0].folder}: give its own folder as a --source too"
            return away if base not in ("", ".", "..") and _exists(os.path.join(real, base)) else ""
        listing = self._listing(real)
        if base not in listing:
            return ""
        path = os.path.join(real, base)
        target = os.path.realpath(path) if listing[base] else path
        if not target.startswith(self.inside):
            away = f"the recording is a link that leads out of {self.roots[0].folder}"
            return f"{away}: give the file's own folder as a --source too"
        return Found(target, self._name(path)) if not os.path.isdir(target) else ""

    def _name(self, path: str) -> str:
        for root in self.roots:
            if path.startswith(f"{root.folder}{os.sep}"):
                return os.path.join(root.inside, path[len(str(root.folder)) + 1 :])
        return os.path.basename(path)

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def _listing(self, real: str) -> dict[str, bool]:
        if real not in self._listings:
            try:
                with os.scandir(real) as entries:
                    self._listings[real] = {
                        e.name: e.is_symlink() for e in entries if not e.is_dir(follow_symlinks=False)
                    }
            except OSError:
                self._listings[real] = {}
        return self._listings[real]

    def has_name(self, name: str) -> bool:
        """Whether a recording anywhere in the roots has this name, with or without its suffix."""
        return bool(name) and any(self._indexed().ending([each]) for each in completed(name) if has_audio_suffix(each))

    # ── guesses ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _guess(self, written: str, starts: Sequence[Path], folders: Sequence[str], bare: bool) -> Found | None:
        """The only file that fits what is not found as written. bare: whether its name alone may tell."""
        plain = written.replace("\\", "/")
        for name in dict.fromkeys((plain, unquote(plain))):
            if _ABSOLUTE.match(name):
                found = self._tail(re.sub(r"^[A-Za-z]:", "", name), starts, least=1)
            else:
                respelled = self.as_written(name, starts, folders) if name != written else None
                how = "backslashes" if name == plain else "%-escapes"
                found = Found(respelled.path, respelled.name, f"{how}: {respelled.name}") if respelled else None
                found = found or self._similar(name, starts, folders)
                found = found or self._tail(name, starts, least=1 if bare else 2)
            if found:
                return found
        return None

    def _similar(self, name: str, starts: Sequence[Path], folders: Sequence[str]) -> Found | None:
        """The file where the path leads, in another letter case or Unicode normal form, or with another suffix."""
        index, others, complete = self._indexed(), [], has_audio_suffix(name)
        for folder, base in self._places((name,), starts, folders):
            key = fold(self._name(os.path.normpath(os.path.join(folder, base))))
            paths = index.paths.get(key, [])
            if len(paths) == 1 and (found := self._checked(paths[0])):
                return Found(found.path, found.name, f"letter case or Unicode normal form: {found.name}")
            others += index.by_stem.get(os.path.splitext(key)[0] if complete else key, [])
        same_stem = {path for path in others if has_audio_suffix(path)}
        if len(same_stem) == 1 and (found := self._checked(same_stem.pop())):
            how = "another suffix" if complete else "letter case or Unicode normal form"
            return Found(found.path, found.name, f"{how}: {found.name}")
        return None

    def _tail(self, name: str, starts: Sequence[Path], least: int) -> Found | None:
        """The file whose path ends as this one does: in as many of its parts as possible, in `least` or more.

        None where a folder that would be left out is in the source: a file of that name elsewhere is another one. Of an
        absolute path only the last of those tells, because the others are the other machine's.
        """
        parts, absolute = _parts(name), bool(_ABSOLUTE.match(name))
        index = self._indexed()
        inner = name.rpartition("/")[0]
        if inner and not absolute and any(index.has_folder(start / inner) for start in starts):
            return None
        for count in range(len(parts), least - 1, -1):
            *folders, base = parts[-count:]
            paths = next(filter(None, (index.ending([*folders, each]) for each in completed(base))), [])
            if not paths:
                continue
            left_out = parts[:-count][-1:] if absolute else parts[:-count]
            if len(paths) > 1 or any(fold(each) in index.folders for each in left_out):
                return None
            if found := self._checked(paths[0]):
                how = "an absolute path that is not in the source" if absolute else "a path that is not in the source"
                return Found(found.path, found.name, f"{how}: {found.name} is taken in its place")
        return None

    def _checked(self, path: str) -> Found | None:
        found = self._file(os.path.dirname(path), os.path.basename(path))
        return found if isinstance(found, Found) else None

    def _indexed(self) -> _Index:
        if self._index is None:
            self._index = _Index(self)
        return self._index

    def _of_this_name(self, written: str) -> str:
        """ "; X is there" for a file of the same name in another folder, or how many there are."""
        parts = _parts(written.replace("\\", "/"))
        same = [path for each in completed(parts[-1]) for path in self._indexed().ending([each])] if parts else []
        if not same:
            return ""
        if len(same) == 1:
            return f"; {self._name(same[0])} is there"
        first = first_few([*map(self._name, same)], 2)
        return f"; {len(same)} files have its name ({first}): write the folder too"

    def _twin(self, written: str, starts: Sequence[Path], folders: Sequence[str]) -> str:
        """ "; X is there" for a file with a similar name."""
        self._twins += 1
        if self._twins > MAX_TWINS:
            return ""
        for folder, base in self._places((written.replace("\\", "/"),), starts, folders):
            names = list(self._listing(self._real_folder(folder))) if self._is_inside(folder) else []
            close = difflib.get_close_matches(base, names[:5000], 1, 0.75)
            if close:
                return f"; {self._name(os.path.join(self._real_folder(folder), close[0]))} is there"
        return ""

    def _is_inside(self, folder: str) -> bool:
        return f"{self._real_folder(folder)}{os.sep}".startswith(self.inside)


class _Index:
    """All files of the roots by their folded paths and names. It is made only where a path leads nowhere."""

    def __init__(self, finder: PathFinder):
        self.paths: dict[str, list[str]] = {}  # folded path in the source → files
        self.by_stem: dict[str, list[str]] = {}  # the same without suffix
        self._by_name: dict[str, list[str]] = {}  # folded name → files
        self.folders: set[str] = set()  # folded names
        self._folder_paths: set[str] = set()
        count, seen = 0, set()  # roots may lie in each other
        for root in sorted(finder.roots, key=lambda root: not root.walked):
            for folder, subfolders, names in os.walk(root.folder):
                if folder in seen:
                    subfolders.clear()
                    continue
                seen.add(folder)
                subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
                self.folders.add(fold(os.path.basename(folder)))
                self._folder_paths.add(fold(folder))
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    key = fold(os.path.join(root.inside, os.path.relpath(path, root.folder)))
                    self.paths.setdefault(key, []).append(path)
                    self.by_stem.setdefault(os.path.splitext(key)[0], []).append(path)
                    self._by_name.setdefault(fold(name), []).append(path)
                count += len(names)
                if count > MAX_INDEXED:
                    return

    def has_folder(self, path: Path) -> bool:
        return fold(os.path.normpath(path)) in self._folder_paths

    def ending(self, parts: Sequence[str]) -> list[str]:
        """The files whose path ends in these folders and this name."""
        tail = [fold(part) for part in parts]
        files = self._by_name.get(tail[-1], [])
        return [path for path in files if [fold(p) for p in path.split(os.sep)[-len(tail) :]] == tail]


def _parts(path: str) -> list[str]:
    """The folders of a path and its name, without those that only say where it begins."""
    return [part for part in path.split("/") if part not in ("", ".", "..", "~")]


def completed(name: str) -> tuple[str, ...]:
    """`name`, and where it has no suffix of audio, also with each of them."""
    return (name,) if has_audio_suffix(name) else (name, *(name + suffix for suffix in AUDIO_SUFFIXES))


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in the name
        return False
