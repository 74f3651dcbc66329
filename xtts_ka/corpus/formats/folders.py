"""Corpora without tables: a file with the transcript for each recording, beside it or in a folder of its own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from xtts_ka.corpus.delimited import NOT_UTF8, decode
from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.formats.columns import roles_of
from xtts_ka.corpus.formats.layout import Corpus, Row, folder_or_gender, folder_speaker
from xtts_ka.corpus.paths import AUDIO_SUFFIXES, Found, PathProblem, Root
from xtts_ka.corpus.tables import MAX_LINE_BYTES

# Of several with one stem the first has the text. LibriTTS has the first two, forced aligners take .lab, WebDataset
# .json, which also beside another names the speaker.
TEXT_SUFFIXES = (".normalized.txt", ".original.txt", ".txt", ".lab", ".json")
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|changelog|changes|notice|info|lang|requirements|speaker-info|about)\b.*", re.I
)
_LABELS = re.compile(r"(?:\s*\d+(?:\.\d+)?\s+\d+(?:\.\d+)?\s+\S+\s*)+")  # HTK's: begin, end, phone
_SHARES = frozenset(("", "shard", "part", "chunk", "batch", "vol", "volume"))  # words of archives that are no voice's
_CLASSES = (
    "the number in a .cls file may be the speaker's or a label of another kind, so these speakers are not known; "
    'to name them, write {"speaker_id": …} into a .json of the same name beside each recording'
)


@dataclass(frozen=True)
class _Folder:
    path: Path
    top: Path  # of the root, or of the corpus in it
    root: Root
    archive: str | None  # the speaker that the archive's name tells, "" where it tells none; None: it may tell one
    audio: dict[str, list[str]]  # names of recordings by stem
    texts: dict[str, list[str]]  # of transcripts
    classes: frozenset[str]  # stems with a .cls of WebDataset

    def name(self, file: str = "") -> str:
        """A file's path below `top`."""
        return os.path.normpath(os.path.relpath(self.path / file, self.top))

    def speaker(self, file: str) -> str:
        """The speaker that the folders name, else the archive."""
        outside = self.root.inside.removesuffix(self.root.archive)
        return folder_or_gender(os.path.join(outside, self.name(file))) or self.archive or ""


class PlainFolder(Corpus):
    """Every recording has its transcript beside it, at any depth; the topmost folders name the speakers."""

    format = "folder"
    by_folders = True
    expects = "audio files with a .txt (or .lab) of the same name beside each"

    def tables(self) -> list[Path]:
        return []

    def has_pairs(self, but: Collection[Path] = ()) -> bool:
        """Whether there is one, the folders `but` not counted."""
        return any(folder.audio.keys() & folder.texts.keys() for folder in self._folders(but))

    def rows(self) -> Iterator[Row]:
        for folder in self._folders():
            stems = sorted(folder.audio.keys() | (folder.texts.keys() if folder.audio else ()))
            rows = [row for stem in stems for row in self._rows_of(folder, stem)]
            named = any(row.speaker for row in rows)
            for row in rows:
                speaker = row.speaker or folder.speaker(os.path.basename(row.audio))
                yield replace(row, speaker=speaker, speaker_known=bool(speaker or (row.speaker_known and not named)))

    def _rows_of(self, folder: _Folder, stem: str) -> Iterator[Row]:
        texts = folder.texts.get(stem, [])
        if stem not in folder.audio and (_ABOUT.fullmatch(stem) or texts[0].endswith(".json")):
            return
        first, *others = map(folder.name, folder.audio.get(stem, [f"{stem}.wav"]))
        where = os.path.join(folder.root.inside, folder.name(texts[0] if texts else f"{stem}.txt"))
        text, speaker, problem = self.transcript(folder.path / texts[0]) if texts else ("", "", "")
        if len(texts) > 1 and texts[-1].lower().endswith(".json"):
            _, speaker, unreadable = self.transcript(folder.path / texts[-1], needs_text=False)
            problem = problem or unreadable
        if stem in folder.classes and _CLASSES not in self.remarks:
            self.remarks.append(_CLASSES)
        known = stem not in folder.classes and folder.archive is not None
        yield Row(where, first, text, speaker, known, problem, beside=folder.top)
        taken = f"{Path(first).name} has the same name and is used in its place"
        yield from (Row(other, other, text, problem=taken, beside=folder.top) for other in others)

    def _folders(self, but: Collection[Path] = ()) -> Iterator[_Folder]:
        """Yield every folder, sorted.

        Hidden folders, and what macOS adds to archives, are left out; links and `but` are not entered.
        """
        roots = [root for root in self.place.roots or (Root(self.folder),) if root.walked]
        for root in roots:
            top = self.folder if self.folder.is_relative_to(root.folder) else root.folder
            for folder, subfolders, names in os.walk(top):
                subfolders[:] = sorted(
                    n for n in subfolders if n[0] != "." and n != "__MACOSX" and Path(folder, n) not in but
                )
                audio, texts, classes = (stems(names, each) for each in (AUDIO_SUFFIXES, TEXT_SUFFIXES, (".cls",)))
                yield _Folder(Path(folder), top, root, _voice(root, roots), audio, texts, frozenset(classes))

    def find(self, row: Row) -> Found:
        found = super().find(row)
        if found.note and not found.path.startswith(f"{row.beside}{os.sep}"):  # of another archive
            raise PathProblem(Drop.MISSING_AUDIO, "the file does not exist")
        return found

    def starts(self, row: Row) -> list[Path]:
        return [row.beside or self.folder]

    def folders_of(self, row: Row) -> Sequence[str]:
        return ()

    def speaker_of(self, row: Row, found: Found) -> str:
        return row.speaker

    def transcript(self, path: Path, needs_text: bool = True) -> tuple[str, str, str]:
        """(text, speaker, problem) of a transcript's file. needs_text: whether it is a problem if it holds none."""
        if not self.may_read(path):
            return "", "", "the transcript is a link that leaves the source, or no file"
        with open(path, "rb") as file:
            data = file.read(MAX_LINE_BYTES)
        try:
            text = decode(data)
        except UnicodeDecodeError:
            return "", "", f"the transcript is {NOT_UTF8}"
        if path.suffix.lower() == ".json":
            return _of_json(text, needs_text)
        if path.suffix.lower() == ".lab" and _LABELS.fullmatch(text):
            return "", "", "the .lab holds times of phones, not a text"
        return _in_one_line(text), "", ""


def _in_one_line(text: str) -> str:
    """The lines of a text in one, with the tab behind a line's number kept: it tells that the number is not spoken."""
    number = re.match(r"\s*(\d{1,5}[.)]?\t)", text)
    words = " ".join(text[number.end() if number else 0 :].split())
    return f"{number[1]}{words}" if number else words


def _of_json(text: str, needs_text: bool) -> tuple[str, str, str]:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return "", "", "the .json beside the recording is no JSON"
    entry = entry if isinstance(entry, dict) else {}
    words, values = list(map(str, entry)), [*entry.values(), "", ""]
    roles = roles_of([*words, "audio"])
    if not roles and needs_text:
        return "", "", "the .json names no text"
    roles = roles or roles_of([*words, "audio", "text"])
    speaker = values[roles["speaker"]] if "speaker" in roles else None
    return str(values[roles["text"]] or ""), "" if speaker is None else str(speaker).strip(), ""


def _voice(root: Root, roots: Sequence[Root]) -> str | None:
    """The speaker that an archive's name tells; "" where it tells none; None where only digits tell it from others."""
    letters = [re.sub(r"[\W\d_]+", "", each.archive).lower() for each in (root, *roots)]
    if letters[0] in _SHARES or not folder_speaker(f"{letters[0]}/x", needs_container=False):
        return ""
    return root.archive if letters.count(letters[0]) == 2 else None


class MirroredFolders(Corpus):
    """VCTK and its like: txt/p225/p225_001.txt, and the recording under the same name in a folder of recordings."""

    format = "vctk"
    by_folders = True
    expects = (
        "txt/ with a transcript for each recording of wav48_silence_trimmed/, wav48/ or wavs/, in the same folders"
    )
    text_folders: ClassVar = ("txt", "text", "texts", "transcripts", "transcriptions", "transcript", "lab", "labels")
    microphones: ClassVar = ("", "_mic1", "_mic2")  # VCTK 0.92 has two recordings of each sentence

    def tables(self) -> list[Path]:
        """The folder of the transcripts, where a recording mirrors one of the first."""
        names = self.subfolder(*self.text_folders)
        if not names:
            return []
        files = (file for file in sorted((self.folder / names).rglob("*")) if file.suffix.lower() in (".txt", ".lab"))
        for _, file in zip(range(200), files):
            if self._recordings(file.relative_to(self.folder / names).with_suffix("")):
                return [self.folder / names]
        return []

    def _audio_folders(self) -> list[str]:
        with os.scandir(self.folder) as entries:
            found = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
        return [name for name in found if name not in self.text_folders]

    def _recordings(self, stem: Path) -> list[str]:
        """The paths of a transcript's recordings, the first microphone's first."""
        names = [f"{stem}{mic}{suffix}" for mic in self.microphones for suffix in AUDIO_SUFFIXES]
        folders = self._audio_folders()
        return [
            f"{folder}/{name}" for name in names for folder in folders if os.path.isfile(self.folder / folder / name)
        ]

    def rows(self) -> Iterator[Row]:
        reader, second = PlainFolder(self.folder, self.source), 0
        for top in self.tables():
            for file in sorted(path for path in top.rglob("*") if path.suffix.lower() in (".txt", ".lab")):
                stem = file.relative_to(top).with_suffix("")
                audio = self._recordings(stem)
                if not audio and _ABOUT.fullmatch(stem.name):
                    continue
                second += max(0, len(audio) - 1)
                text, _, problem = reader.transcript(file)
                where, first = str(file.relative_to(self.folder)), audio[0] if audio else f"{stem}.wav"
                yield Row(where, first, text, problem=problem, beside=self.folder)
        if second:
            self.remarks.append(f"{second} further recordings of the same sentences (a second microphone) are not used")

    def starts(self, row: Row) -> list[Path]:
        return [self.folder]

    def speaker_of(self, row: Row, found: Found) -> str:
        inside = self.inside(found)
        return folder_speaker(inside.partition("/")[2] or inside, needs_container=False)


def stems(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Name without suffix → names that end in one of `suffixes`, in the order of `suffixes`; no hidden ones."""
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for suffix in suffixes:
        for name in sorted(names):
            if name.lower().endswith(suffix) and not name.startswith(".") and name not in taken:
                taken.add(name)
                found.setdefault(name[: -len(suffix)], []).append(name)
    return found
