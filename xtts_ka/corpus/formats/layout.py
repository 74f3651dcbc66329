"""What every layout of a corpus has in common: rows, and where their recordings and speakers are found."""

from __future__ import annotations

import filecmp
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from xtts_ka.core.console import first_few
from xtts_ka.corpus.drop_reasons import Drop, Suspicion
from xtts_ka.corpus.formats.columns import SPLIT_WORDS
from xtts_ka.corpus.paths import AUDIO_FOLDERS, Found, PathFinder, PathProblem, Root, fold
from xtts_ka.georgian.alphabet import georgian_letters

# Folders that hold everybody's recordings: the folder below them names the speaker.
CONTAINERS = frozenset((*AUDIO_FOLDERS, "wav48", "wav48_silence_trimmed", "corpus", "dataset", "speakers", "by_book"))
CONTAINERS |= {"female", "male", "mix", "waves", "sounds", "flac", "mp3", "train_data", "all"}
# What stands where a speaker is not known: never one person's name.
NOBODY = frozenset(
    ("unknown", "unk", "none", "null", "nan", "na", "n/a", "<na>", "<unk>", "-", "--", "?", "-1", "უცნობი")
)
NOBODY |= {"anonymous", "unspecified", "undefined", "ანონიმი", "not specified", "(unknown)", "[unknown]", "spk_unknown"}
_PART = re.compile(rf"({'|'.join(SPLIT_WORDS)}|validated)\d*(?:[-_ .].*)?", re.I)
_BEHIND_FIRST_WORD = re.compile(r"[\W\d].*")

_REMEDY = (
    "name the speakers in a column speaker_name, or say --unnamed_speakers one (one person) or folders (each folder)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a corpus as written there; nothing has been checked."""

    where: str  # for people: "validated.tsv, line 17"
    audio: str = ""  # a path relative to `beside` or the corpus folder, or whatever else the line says
    text: str = ""
    speaker: str = ""  # the corpus' own name; empty: none is named, and the folder tells who it is if one is known
    speaker_known: bool = True  # whether all rows with this speaker, and no others, are one person's
    problem: str = ""  # why the line cannot be used at all
    language: str = ""  # as the corpus states it: "ka", "ab", "ka_GE"; empty where it states none
    split: str = ""  # "train", "val" or "test" where the corpus has official splits
    start: float | None = None  # seconds: the clip is a part of its recording
    end: float | None = None
    beside: Path | None = None  # the folder of the table
    name: str = ""  # the corpus' own name of the clip, where its path is none
    suspected: tuple[tuple[Suspicion, str], ...] = ()


@dataclass(frozen=True)
class Source:
    """What the user gave with --source: a folder, or an archive that was unpacked elsewhere."""

    folder: Path  # absolute, links resolved
    roots: tuple[Root, ...] = ()  # the folder, and those into which its archives were unpacked

    @cached_property
    def finder(self) -> PathFinder:
        return PathFinder(self.roots or (Root(self.folder),))

    @property
    def folders(self) -> list[Path]:
        """All folders from which files are used."""
        return [root.folder for root in self.roots if root.walked] or [self.folder]


@dataclass(frozen=True)
class Corpus:
    """A folder in a known layout. Each layout is a subclass; see CONTRIBUTING.md on how to add one."""

    folder: Path  # absolute, links resolved: where the tables are
    source: Source | None = None  # None: the folder itself
    workspace: Path | None = None  # where recordings that stand in tables may be written
    remarks: list[str] = field(default_factory=list, compare=False)  # what was left out or guessed, for people
    unnamed: str = "auto"  # who speaks where nothing names a speaker: one of options.UNNAMED

    format: ClassVar[str]
    expects: ClassVar[str]  # for people: what a folder of this layout holds
    audio_folders: ClassVar[Sequence[str]] = AUDIO_FOLDERS  # that a path may omit
    many_voices: ClassVar[bool] = False  # whether a corpus of this layout that names no speakers usually has several
    by_folders: ClassVar[bool] = False  # whether `speaker_of` takes any folder for a speaker that may be one
    speakers_everywhere: ClassVar[bool] = False  # whether one speaker has the same name in every corpus of this kind

    @property
    def name(self) -> str:
        """The folder's name, which is the speaker's where the corpus has one voice and does not name it."""
        packed = not self.folder.is_relative_to(self.place.folder)
        return re.sub(r"-[0-9a-f]{8}$", "", self.folder.name) if packed else self.folder.name

    @cached_property
    def place(self) -> Source:
        return self.source or Source(self.folder)

    def tables(self) -> list[Path]:
        """The tables in the folder; none where it has another layout."""
        raise NotImplementedError

    def family(self) -> list[Path]:
        """Tables of the same corpus that are not read: they are no other corpus."""
        return []

    def rows(self) -> Iterator[Row]:
        """Yield the rows in a fixed order."""
        raise NotImplementedError

    def find(self, row: Row) -> Found:
        """The recording of a row. PathProblem where none can be used."""
        finder, starts, folders = self.place.finder, self.starts(row), self.folders_of(row)
        found = finder.find(row.audio, starts, folders)
        archives = [root.folder for root in self.place.roots if root.archive]
        if archives and not finder.as_written(row.audio, [row.beside or self.folder, self.folder], folders):
            elsewhere = (finder.as_written(row.audio, [folder], folders) for folder in archives)
            others = [each for each in elsewhere if each and not filecmp.cmp(each.path, found.path, shallow=False)]
            if others and not found.note:
                several = f"{found.name} and {others[0].name} are in different archives and differ"
                raise PathProblem(Drop.AMBIGUOUS_AUDIO, f"{several}: unpack both, and write the folder in the table")
        return found

    def locate(self, row: Row, bare: bool = False) -> Found | None:
        """The recording of a row, or None. bare: whether its name alone may tell."""
        return self.place.finder.locate(row.audio, self.starts(row), self.folders_of(row), bare)

    def as_written(self, row: Row) -> str:
        """Where a row says that its recording is, with or without a file there."""
        found = self.place.finder.as_written(row.audio, self.starts(row), self.folders_of(row))
        return found.path if found else os.path.normpath(self.starts(row)[0] / row.audio)

    def folders_of(self, row: Row) -> Sequence[str]:
        """The folders that the path of a row may omit."""
        return self.audio_folders

    def starts(self, row: Row) -> list[Path]:
        """The folders that the path of a row may be relative to, the most likely first."""
        folders = [row.beside or self.folder, self.folder, *(root.folder for root in self.place.roots)]
        return list(dict.fromkeys(folders))

    def speaker_of(self, row: Row, found: Found) -> str:
        """The corpus' own name of a row's speaker; "" where nothing names one."""
        return row.speaker or (folder_speaker(self.inside(found), needs_container=True) if row.speaker_known else "")

    def voice(self, row: Row, found: Found) -> tuple[str, bool]:
        """(the corpus' own name of who speaks, whether it is one known person); the name "": nothing names anybody."""
        name = self.speaker_of(row, found).strip()
        if name.lower() in NOBODY:
            return "", False
        if name:
            return name, row.speaker_known
        folder = "" if self.by_folders else folder_or_gender(self.inside(found))
        if self.unnamed == "folders" and folder:
            return folder, True
        if self.unnamed != "auto" or not row.speaker_known:
            return "", self.unnamed == "one"
        if self.many_voices:
            self._remark(f"no column names who speaks, so it is not known: {_REMEDY}")
        elif self.first_words and not (folder and self.folders_differ):
            words = f"the first words of the file names ({first_few(sorted(self.first_words))}) name who speaks, give"
            self._remark(f"all is taken for one voice; if {words} each person a folder")
        return "", not self.many_voices and not (folder and self.folders_differ)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    @cached_property
    def nameless(self) -> list[str]:
        """The paths inside the corpus of the recordings that nothing names a speaker of."""
        found = ((row, self.locate(row)) for row in self.rows() if not row.problem)
        return [self.inside(place) for row, place in found if place and not self.speaker_of(row, place)]

    @cached_property
    def folders_differ(self) -> bool:
        """Whether `nameless` lie in several folders, which may be the speakers'."""
        folders = {folder_or_gender(name) for name in self.nameless}
        if len(folders) > 1:
            names = first_few(sorted(folders - {""}))
            self._remark(f"nothing but perhaps the folders ({names}) names who speaks, so it is not known: {_REMEDY}")
        return len(folders) > 1

    @cached_property
    def first_words(self) -> set[str]:
        """The words with which the names of `nameless` files begin, of three files or more each; none if they agree."""
        words = Counter(_BEHIND_FIRST_WORD.sub("", name.rpartition("/")[2]).strip("_") for name in self.nameless)
        often = {word for word, count in words.items() if word and count >= 3}
        return often if len(often) > 1 else set()

    def inside(self, found: Found) -> str:
        """The path of a recording relative to the corpus folder, or to the source where it lies elsewhere."""
        for root in self.place.roots or (Root(self.folder),):
            if str(self.folder).startswith(str(root.folder)):
                prefix = os.path.join(root.inside, os.path.relpath(self.folder, root.folder))
                prefix = "" if prefix == "." else f"{os.path.normpath(prefix)}{os.sep}"
                if found.name.startswith(prefix):
                    return found.name[len(prefix) :]
        return found.name

    def scope(self, row: Row) -> str:
        """In what the name of a row's speaker is one person's."""
        return str(self.folder)

    def speaker_label(self, name: str) -> str:
        """A short form of a speaker's name, from which the id is made."""
        return name

    def subfolder(self, *names: str) -> str:
        """The first of these folders that exists, whatever the case of its letters, or nothing."""
        with os.scandir(self.folder) as entries:
            there = sorted((entry.name for entry in entries if entry.is_dir()), reverse=True)  # lower case first
        return next((name for wanted in names for name in there if fold(name) == wanted), "")

    def files(self, *suffixes: str) -> list[Path]:
        """The files in the folder with one of these suffixes, whatever the case of their letters, sorted."""
        return sorted(file for file in self.folder.iterdir() if file.name.lower().endswith(suffixes))

    def may_read(self, path: Path) -> bool:
        """Whether a table is a file of the source, links followed."""
        real = os.path.realpath(path)
        return os.path.isfile(real) and real.startswith(self.place.finder.inside)


def folder_speaker(name: str, needs_container: bool) -> str:
    """The speaker that the folders of a path name: the first that is not one for all, such as wavs/ or train/.

    needs_container: whether a folder for all must stand above it, as it must in corpora with tables.
    """
    folders = name.split("/")[:-1]
    stem = name.rpartition("/")[2]
    if len(folders) > 1 and re.match(rf"{re.escape(folders[-2])}([-_]){re.escape(folders[-1])}\1", stem):
        return folders[-2]  # LibriTTS and LibriSpeech: 19/198/19_198_000000_000000.wav
    seen = not needs_container
    for folder in folders:
        if folder.lower() in CONTAINERS or _PART.fullmatch(folder):
            seen = True
        else:
            return folder if seen else ""
    return ""


def folder_or_gender(name: str) -> str:
    """The speaker that the folders of a path may name: a woman in female/ and a man in male/ are two."""
    genders = [folder for folder in name.split("/")[:-1] if folder.lower() in ("female", "male")]
    return folder_speaker(name, needs_container=False) or (genders[-1] if genders else "")


def better_text(text: str, normalised: str) -> str:
    """The normalised text of a row, unless it has lost the Georgian letters (a transliteration, or phonemes)."""
    letters = len(georgian_letters(text))
    return normalised if normalised.strip() and len(georgian_letters(normalised)) >= 0.6 * letters else text
