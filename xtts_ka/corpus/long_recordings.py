"""Long recordings in a folder, and the transcript that belongs to each."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.census import what_was_seen
from xtts_ka.corpus.media import GEORGIAN
from xtts_ka.corpus.paths import AUDIO_SUFFIXES
from xtts_ka.corpus.subtitles import has_times
from xtts_ka.corpus.tables import MAX_ID_LENGTH, is_safe_id

MEDIA_SUFFIXES = frozenset((*AUDIO_SUFFIXES, ".avi"))
MAX_RECORDINGS = 1_000_000
_SUBTITLES = (".textgrid", ".eaf", ".srt", ".vtt")  # which are transcripts and nothing else
# The most exact first: people place the labels of the first two by hand.
_TRANSCRIPTS = (".textgrid", ".eaf", ".json", ".srt", ".vtt", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class LongRecording:
    """name: its path in the source; key: safe in file names, of it; transcript: None where there is none."""

    path: Path
    name: str
    key: str
    transcript: Path | None
    speaker: str = ""  # whose voice it is, where its folder or the user tells

    @property
    def has_times(self) -> bool:
        """Whether its transcript says when each text is said."""
        return self.transcript is not None and has_times(self.transcript)


def find_recordings(source: Path, transcript: Path | None = None) -> list[LongRecording]:
    """The recordings in a folder, sorted by name, or the one file that `source` is.

    transcript: a file for all of them (a book read in several recordings), a folder that has their transcripts, or
    None: they stand beside the recordings. A transcript has its recording's name with another suffix, or with one more
    (film.srt, film.ka.srt, film.mp4.srt). UserError where there are no recordings, or the transcript fits none.
    """
    if source.is_file():
        found = [(source, source.name)]
    elif source.is_dir():
        found = sorted(_media(source), key=lambda pair: pair[1])
    else:
        raise UserError(f"the source {source} does not exist: give a folder with recordings, or a recording")
    if not found:
        raise UserError(f"the source {source} has no recordings: {what_was_seen(source)}")
    if transcript is not None and not transcript.exists():
        raise UserError(f"the transcript {transcript} does not exist: give a file, or a folder of them")
    files = _Transcripts(source if source.is_dir() else source.parent, transcript)
    stems = Counter(os.path.splitext(name)[0] for _, name in found)
    recordings = []
    for path, name in found:
        stem = os.path.splitext(name)[0]
        speaker = name.split(os.sep)[0] if os.sep in name else ""
        key = safe_key(name if stems[stem] > 1 else stem)
        recordings.append(LongRecording(path, name, key, files.of(name), speaker))
    if transcript is not None and transcript.is_file() and len(recordings) > 1 and has_times(transcript):
        raise UserError(
            f"{transcript} has times, which belong to one recording, and {source} has {len(recordings):,}: "
            "give the recording itself with --source"
        )
    return _with_own_keys(recordings)


def _with_own_keys(recordings: Sequence[LongRecording]) -> list[LongRecording]:
    taken: set[str] = set()
    found = []
    for recording in recordings:
        key = recording.key if recording.key not in taken else _hashed(recording.key, recording.name)
        taken.add(key)
        found.append(replace(recording, key=key))
    return found


def safe_key(name: str) -> str:
    """A name for files and folders made from a path; hashed where the path cannot be one."""
    plain = unicodedata.normalize("NFC", name)
    safe = re.sub(r"[^\w.-]+", "_", plain).strip("_.-") or "recording"
    return safe if safe == plain and is_safe_id(safe) and len(safe) <= MAX_ID_LENGTH - 20 else _hashed(safe, name)


def _hashed(safe: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[: MAX_ID_LENGTH - 30]}-{digest}"


def _media(folder: Path) -> Iterator[tuple[Path, str]]:
    """(path with links resolved, path in the folder) of the recordings below a folder; hidden ones are left out."""
    count, root = 0, os.path.join(os.path.realpath(folder), "")
    for at, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if os.path.splitext(name)[1].lower() in MEDIA_SUFFIXES and not name.startswith("."):
                count += 1
                if count > MAX_RECORDINGS:
                    raise UserError(f"{folder} has more than {MAX_RECORDINGS:,} recordings: give its parts one by one")
                path = os.path.join(at, name)
                real = os.path.realpath(path) if os.path.islink(path) else path
                yield Path(real), path[len(root) :]


def subtitles_without_recording(source: Path, recordings: Sequence[LongRecording]) -> list[str]:
    """Subtitles and labels in a folder that bear no recording's name, as of a film of another kind; sorted."""
    stems = {os.path.splitext(recording.name)[0].lower() for recording in recordings}
    stems |= {os.path.basename(stem) for stem in stems}  # which a folder of transcripts may have
    found = []
    for at, _, names in os.walk(source):
        for name in names:
            path = os.path.relpath(os.path.join(at, name), source)
            parts = path.lower().split(".")
            mine = any(".".join(parts[:count]) in stems for count in range(1, len(parts)))
            if name.lower().endswith(_SUBTITLES) and not name.startswith(".") and not mine:
                found.append(path)
    return sorted(found)


class _Transcripts:
    """Finds the transcript of a recording by its name."""

    def __init__(self, source: Path, given: Path | None):
        self._one = given if given is not None and given.is_file() else None
        self._folder = given if given is not None and given.is_dir() else source
        self._listed: dict[str, dict[str, list[str]]] = {}

    def of(self, name: str) -> Path | None:
        if self._one:
            return self._one
        for folder in dict.fromkeys([self._folder / os.path.dirname(name), self._folder]):
            if found := self._in(str(folder), os.path.basename(name)):
                return folder / found
        return None

    def _in(self, folder: str, name: str) -> str | None:
        if folder not in self._listed:
            self._listed[folder] = _by_stem(_names(folder))
        stem = os.path.splitext(name)[0]
        files = [*self._listed[folder].get(name.lower(), ()), *self._listed[folder].get(stem.lower(), ())]
        return min(files, key=_rank) if files else None


def _names(folder: str) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_file()) if os.path.isdir(folder) else []


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    """Transcripts by their name in small letters, without suffix and without the code of Georgian: film.ka.srt."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name.lower())
        if suffix in _TRANSCRIPTS and not name.startswith("."):
            inner, code = os.path.splitext(stem)
            found.setdefault(inner if code[1:] in GEORGIAN else stem, []).append(name)
    return found


def _rank(name: str) -> tuple[bool, int, str]:
    stem, suffix = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1][1:] not in GEORGIAN, _TRANSCRIPTS.index(suffix), name


def share_of(recordings: Sequence[LongRecording], shard: tuple[int, int]) -> list[LongRecording]:
    """The recordings of shard (i, n), i from 1: the largest files first, each to the shard with the fewest bytes."""
    number, count = shard
    loads, share = [0] * count, []
    sized = sorted(recordings, key=lambda each: (-_size(each.path), each.name))
    for recording in sized:
        least = loads.index(min(loads))
        loads[least] += max(1, _size(recording.path))
        if least == number - 1:
            share.append(recording)
    return sorted(share, key=lambda each: each.name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
