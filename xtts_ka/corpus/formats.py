"""Finds out which of five corpus layouts a folder has, and reads its rows one by one.

A line that cannot be used becomes a row with a `problem`, not an exception: of a million lines a few are always bad.
To add a layout, write a subclass of `Corpus` and enter it in `LAYOUTS` at the end.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import MAX_LINE_BYTES, numbered_lines

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus")
AUDIO_FOLDERS = ("wavs", "wav", "audio", "clips")  # the usual names of the folder with all recordings


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a corpus as written there; nothing has been checked."""

    where: str  # for people: "validated.tsv, line 17"
    audio: str = ""  # a path relative to the corpus folder, or whatever else the line says
    text: str = ""
    speaker: str = ""  # empty: none is named; that is the folder's one voice if it is known, else anyone
    speaker_known: bool = True  # whether all rows with this speaker, and no others, are one person's
    problem: str = ""  # why the line cannot be used at all
    language: str = ""  # as the columns `locale` (Common Voice's) or `language` say; empty where there is neither


@dataclass(frozen=True)
class Corpus:
    """A folder in a known layout. Each layout is a subclass; one without tables of cells has its own `rows`."""

    folder: Path  # absolute, links resolved

    format: ClassVar[str]
    expects: ClassVar[str]  # for people: what a folder of this layout holds
    delimiters: ClassVar[str] = "\t"  # a table's is the one that is most frequent in its first line
    columns: ClassVar[Sequence[str]] = ()  # of tables without a header; the third and later ones may be missing

    def tables(self) -> list[Path]:
        """The tables in the folder; none where it has another layout."""
        return []

    def row(self, table: Path, cells: dict[str, str]) -> tuple[str, str, str, bool]:
        """(audio, text, speaker, speaker_known) of a line, given its cells by column."""
        raise NotImplementedError

    def rows(self) -> Iterator[Row]:
        """Yield the rows in a fixed order. UserError where the recordings are still packed in an archive."""
        for table in self.tables():
            lines = self.lines(table)
            header = self.columns or [cell.strip() for cell in next(lines)[1]]
            for where, cells, problem in lines:
                if not problem and not (2 if self.columns else len(header)) <= len(cells) <= len(header):
                    problem = f"it has {len(cells)} cells instead of {len(header)}"
                if problem:
                    yield Row(where, problem=problem)
                else:
                    named = dict(zip(header, cells))
                    audio, text, speaker, known = self.row(table, named)
                    language = (named.get("locale") or named.get("language") or "").strip()
                    yield Row(where, _with_suffix(self.folder, audio), text, speaker, known, language=language)

    def lines(self, table: Path) -> Iterator[tuple[str, list[str], str]]:
        """Yield (where, cells, problem) of every line that is not blank."""
        delimiter = ""
        for number, text, problem in numbered_lines(table):
            line, cells = text.rstrip("\r\n"), []
            delimiter = delimiter or max(self.delimiters, key=line.count)
            try:  # in these corpora tabs and pipes come without quoting, commas and semicolons with it
                rows = csv.reader([line], delimiter=delimiter, strict=True)
                cells = next(rows, []) if delimiter in ",;" else line.split(delimiter)
            except csv.Error as error:
                problem = f"it is not CSV ({error})"
            if problem or line.strip():
                yield f"{table.name}, line {number}", cells, problem

    def first_cells(self, table: Path) -> list[str]:
        """The cells of a table's first line; none where there is no such table, or that line cannot be read."""
        if not table.is_file() or table.is_symlink():  # a link may lead anywhere
            return []
        _, cells, _ = next(self.lines(table), ("", [], ""))
        return [cell.strip() for cell in cells]

    def subfolder(self, *names: str) -> str:
        """The first of these folders that exists, or nothing."""
        return next((name for name in names if (self.folder / name).is_dir()), "")


def _with_suffix(folder: Path, audio: str) -> str:
    """Complete a recording's name that was written without its suffix."""
    if audio.lower().endswith(AUDIO_SUFFIXES):
        return audio
    names = (audio, *(audio + suffix for suffix in AUDIO_SUFFIXES))
    return next((name for name in names if os.path.isfile(folder / name)), f"{audio}.wav")


class CommonVoice(Corpus):
    format = "common_voice"
    expects = "validated.tsv with the columns client_id, path, sentence, beside clips/"

    def tables(self) -> list[Path]:
        tables = [self.folder / f"{name}.tsv" for name in ("validated", "train", "dev", "test")]
        found = [table for table in tables if {"path", "sentence"} <= set(self.first_cells(table))]
        return found[:1] if found and found[0].name == "validated.tsv" else found  # it contains the other three

    def row(self, table: Path, cells: dict[str, str]) -> tuple[str, str, str, bool]:
        client = cells.get("client_id", "").strip()
        speaker = f"cv_{hashlib.sha256(client.encode()).hexdigest()[:8]}" if client else ""  # client_id has 128 digits
        return os.path.join(self.subfolder("clips"), cells["path"]), cells["sentence"], speaker, bool(client)


class Fleurs(Corpus):
    format = "fleurs"
    expects = "train.tsv, dev.tsv, test.tsv without a header, beside audio/train/ and so on"
    columns = ("id", "path", "sentence", "normalised", "letters", "samples", "gender")

    def tables(self) -> list[Path]:
        tables = [self.folder / f"{name}.tsv" for name in ("train", "dev", "test")]
        return [table for table in tables if "".join(self.first_cells(table)[1:2]).endswith(AUDIO_SUFFIXES)]

    def row(self, table: Path, cells: dict[str, str]) -> tuple[str, str, str, bool]:
        part = table.stem
        audio, archive = self.subfolder(f"audio/{part}", part, "audio"), self.folder / "audio" / f"{part}.tar.gz"
        if audio in ("", "audio") and archive.is_file():
            raise UserError(f"{archive} is still packed: unpack it with `tar -xzf {archive} -C {archive.parent}`")
        gender = cells.get("gender", "").strip().lower()  # all that FLEURS tells of its speakers
        speaker = f"fleurs_{gender}" if gender in ("male", "female", "other") else "fleurs"
        return os.path.join(audio, cells["path"].strip()), cells.get("sentence", ""), speaker, False


class LJSpeech(Corpus):
    format = "ljspeech"
    expects = "metadata.csv with id|text|normalised text, beside wavs/"
    delimiters = "|"
    columns = ("id", "text", "normalised")

    def tables(self) -> list[Path]:
        table = self.folder / "metadata.csv"
        cells = self.first_cells(table)
        return [table] if len(cells) > 1 and "audio_file" not in cells and self.subfolder(*AUDIO_FOLDERS) else []

    def row(self, table: Path, cells: dict[str, str]) -> tuple[str, str, str, bool]:
        audio = os.path.join(self.subfolder(*AUDIO_FOLDERS), cells["id"].strip())
        return audio, cells.get("normalised", "").strip() or cells["text"], "", True


class Coqui(Corpus):
    format = "coqui"
    expects = "a .csv whose first line is audio_file|text|speaker_name"
    delimiters = "|,;\t"

    def tables(self) -> list[Path]:
        tables = sorted(self.folder.glob("*.csv"))
        tables = [table for table in tables if {"audio_file", "text"} <= set(self.first_cells(table))]
        whole = [table for table in tables if table.name == "metadata.csv"]
        return whole or tables  # beside metadata.csv the others are usually its parts

    def row(self, table: Path, cells: dict[str, str]) -> tuple[str, str, str, bool]:
        speaker = cells.get("speaker_name", "").strip()
        one_voice = "speaker_name" not in cells  # a table without the column is one voice's, as in LJSpeech
        return cells["audio_file"].strip(), cells["text"], speaker, one_voice or bool(speaker)


class PlainFolder(Corpus):
    """Every recording has a .txt of the same name beside it, at any depth; the topmost folders name the speakers."""

    format = "folder"
    expects = "audio files with a .txt of the same name beside each"

    def has_pairs(self, but: Path | None = None) -> bool:
        """Whether there is one, the folder `but` not counted."""
        return any(audio.keys() & texts.keys() for _, audio, texts in self.names(but))

    def rows(self) -> Iterator[Row]:
        for folder, audio, texts in self.names():
            speaker = folder.parts[0] if folder.parts else ""
            for stem in sorted(audio.keys() | (texts.keys() if audio else ())):
                first, *others = [(folder / name).as_posix() for name in audio.get(stem, [f"{stem}.wav"])]
                transcript = folder / texts.get(stem, [f"{stem}.txt"])[0]
                text, problem = self.transcript(transcript) if stem in texts else ("", "")
                yield Row(transcript.as_posix(), first, text, speaker, problem=problem)
                taken = f"{Path(first).name} has the same name and is used in its place"
                yield from (Row(other, other, text, speaker, problem=taken) for other in others)

    def names(self, but: Path | None = None) -> Iterator[tuple[Path, dict[str, list[str]], dict[str, list[str]]]]:
        """Yield (relative path, recordings by stem, .txt files by stem) of every folder, sorted.

        Hidden files and folders are left out; links and `but` are not entered.
        """
        for folder, subfolders, names in os.walk(self.folder):
            subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and Path(folder, n) != but)
            yield Path(folder).relative_to(self.folder), _stems(names, AUDIO_SUFFIXES), _stems(names, (".txt",))

    def transcript(self, path: Path) -> tuple[str, str]:
        """(text, problem) of a .txt file."""
        real = os.path.realpath(self.folder / path)
        if not real.startswith(f"{self.folder}{os.sep}") or not os.path.isfile(real):
            return "", "the transcript is a link that leaves the source, or no file"
        try:
            with open(real, encoding="utf-8-sig") as file:
                return " ".join(file.read(MAX_LINE_BYTES).split()), ""
        except UnicodeDecodeError:
            return "", "the transcript is not UTF-8"


def _stems(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Name without suffix → names that end in one of `suffixes`, in the order of `suffixes`; no hidden ones."""
    stems: dict[str, list[str]] = {}
    for suffix in suffixes:
        for name in sorted(names):
            if name.lower().endswith(suffix) and not name.startswith("."):
                stems.setdefault(name[: -len(suffix)], []).append(name)
    return stems


LAYOUTS = {layout.format: layout for layout in (CommonVoice, Fleurs, LJSpeech, Coqui, PlainFolder)}
FORMATS = ("auto", *LAYOUTS)


def find_corpus(source: Path | str, format: str = "auto") -> Corpus:
    """Find the corpus in `source` or up to two levels below it. UserError where there is none, or several."""
    plain = PlainFolder(Path(os.path.realpath(source)))
    source = plain.folder
    if not source.is_dir():
        raise UserError(f"the source {source} is not a folder: give the one with recordings and transcripts")
    wanted = [layout for name, layout in LAYOUTS.items() if format in ("auto", name)]
    for folders in _levels(source):
        found = [corpus for folder in folders for layout in wanted if (corpus := layout(folder)).tables()]
        if found and format == "auto" and found[0].folder != source and plain.has_pairs(but=found[0].folder):
            found.append(plain)
        if len(found) > 1:
            listed = ", ".join(f"{corpus.format} in {corpus.folder}" for corpus in found[:4])
            remedy = "name one with --format, or its folder with --source"
            raise UserError(f"{source} holds more than one corpus ({listed}): {remedy}")
        if found:
            return found[0]
    if PlainFolder in wanted and plain.has_pairs():
        return plain
    expected = "; ".join(f"{layout.format}: {layout.expects}" for layout in wanted)
    raise UserError(f"no recordings with transcripts in a known layout were found in {source}; looked for {expected}")


def _levels(source: Path) -> Iterator[list[Path]]:
    """The source, the folders in it, the folders in those; no hidden ones and no links."""
    folders = [source]
    for _ in range(3):
        yield folders
        inside = [entry for folder in folders for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)]
        folders = [Path(e.path) for e in inside if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
