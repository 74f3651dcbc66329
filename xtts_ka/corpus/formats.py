"""Finds out which of five corpus layouts a folder has, and reads its rows one by one.

A line that cannot be used becomes a row with a `problem`, not an exception: of a million lines a few are always bad.
To add a layout, write its two functions and enter them in `LAYOUTS` at the end.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xtts_ka.core.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus")
MAX_LINE_BYTES = 2**20  # no transcript is that long; a longer line is skipped without being held in memory
_AUDIO_FOLDERS = ("wavs", "wav", "audio", "clips")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a corpus as written there; nothing has been checked."""

    where: str  # for people: "validated.tsv, line 17"
    audio: str = ""  # a path relative to the corpus folder, or whatever else the line says
    text: str = ""
    speaker: str = ""  # empty where the corpus names none
    problem: str = ""  # why the line cannot be used at all


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder whose layout is known: the source itself, or a folder up to two levels below it."""

    format: str
    folder: Path  # absolute, links resolved

    def rows(self) -> Iterator[Row]:
        """Yield the rows in a fixed order. UserError where the recordings are still packed in an archive."""
        layout = LAYOUTS[self.format]
        for table in layout.tables(self.folder):
            yield from layout.rows(self.folder, table)


def find_corpus(source: Path | str, format: str = "auto") -> Corpus:
    """Find the corpus in `source` or up to two levels below it. UserError where there is none, or several."""
    source = Path(os.path.realpath(source))
    if not source.is_dir():
        raise UserError(f"the source {source} is not a folder: give the one with recordings and transcripts")
    wanted = [name for name in LAYOUTS if name != "folder" and format in ("auto", name)]
    for folders in _levels(source):
        found = [Corpus(name, place) for place in folders for name in wanted if LAYOUTS[name].tables(place)]
        if found and format == "auto" and found[0].folder != source and _has_pairs(source, found[0].folder):
            found.append(Corpus("folder", source))
        if len(found) > 1:
            listed = ", ".join(f"{corpus.format} in {corpus.folder}" for corpus in found[:4])
            raise UserError(
                f"{source} holds more than one corpus ({listed}): name one with --format, or its folder with --source"
            )
        if found:
            return found[0]
    if format in ("auto", "folder") and _has_pairs(source):
        return Corpus("folder", source)
    names = LAYOUTS if format == "auto" else (format,)
    expected = "; ".join(f"{name}: {LAYOUTS[name].expects}" for name in names)
    raise UserError(f"no recordings with transcripts in a known layout were found in {source}; looked for {expected}")


def _levels(source: Path) -> Iterator[list[Path]]:
    folders = [source]
    for _ in range(3):
        yield folders
        folders = [
            Path(entry.path)
            for folder in folders
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]


# ── lines and cells ──────────────────────────────────────────────────────────────────────────────────────────────────


def _lines(table: Path, delimiter: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield (where, cells, problem) of every line that is not blank."""
    with open(table, "rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
            text, cells = "", []
            if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                problem = f"the line is longer than {MAX_LINE_BYTES} bytes"
                while (raw := file.readline(MAX_LINE_BYTES)) and not raw.endswith(b"\n"):
                    pass
            else:
                text, problem = _decoded(raw, "line", "utf-8-sig" if number == 1 else "utf-8")
            try:
                cells = [] if problem else _cells(text.rstrip("\r\n"), delimiter)
            except csv.Error as error:
                problem = f"not valid CSV ({error})"
            if problem or text.strip():
                yield f"{table.name}, line {number}", cells, problem


def _decoded(raw: bytes, what: str, encoding: str) -> tuple[str, str]:
    """(text, problem) of bytes that should be UTF-8."""
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return "", f"the {what} is not UTF-8"
    return ("", f"the {what} holds a NUL") if "\0" in text else (text, "")


def _cells(line: str, delimiter: str) -> list[str]:
    """Split a line. In these corpora tabs and pipes come without quoting, commas and semicolons with it."""
    return line.split(delimiter) if delimiter in "\t|" else next(csv.reader([line], delimiter=delimiter, strict=True))


def _first_cells(table: Path, delimiter: str) -> list[str]:
    """The cells of a table's first line; none where there is no such table, or that line cannot be read."""
    if not table.is_file() or table.is_symlink():  # a link may lead anywhere
        return []
    _, cells, _ = next(_lines(table, delimiter), ("", [], ""))
    return [cell.strip() for cell in cells]


def _records(table: Path, delimiter: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield (where, {column: cell}, problem) of the lines after the header."""
    header = _first_cells(table, delimiter)
    for where, cells, problem in itertools.islice(_lines(table, delimiter), 1, None):
        if not problem and len(cells) != len(header):
            problem = f"it has {len(cells)} cells where the header has {len(header)}"
        yield where, dict(zip(header, cells)), problem


def _with_suffix(folder: Path, audio: str) -> str:
    """Complete a recording's name that was written without its suffix."""
    if audio.lower().endswith(AUDIO_SUFFIXES):
        return audio
    complete = (audio + suffix for suffix in AUDIO_SUFFIXES)
    return next((name for name in complete if os.path.isfile(folder / name)), f"{audio}.wav")


# ── Common Voice: validated.tsv with a header, clips/*.mp3 ───────────────────────────────────────────────────────────


def _common_voice_tables(folder: Path) -> list[Path]:
    tables = [folder / f"{name}.tsv" for name in ("validated", "train", "dev", "test")]
    found = [table for table in tables if {"path", "sentence"} <= set(_first_cells(table, "\t"))]
    return found[:1] if found and found[0].name == "validated.tsv" else found  # it contains the other three


def _common_voice_rows(folder: Path, table: Path) -> Iterator[Row]:
    clips = "clips" if (folder / "clips").is_dir() else ""
    for where, cells, problem in _records(table, "\t"):
        if problem:
            yield Row(where, problem=problem)
            continue
        audio = os.path.join(clips, cells["path"])
        speaker = hashlib.sha256(cells.get("client_id", "").encode()).hexdigest()[:8]  # client_id has 128 digits
        yield Row(where, audio if Path(audio).suffix else f"{audio}.mp3", cells["sentence"], f"cv_{speaker}")


# ── FLEURS: {train,dev,test}.tsv without a header, audio/{train,dev,test}/*.wav ──────────────────────────────────────


def _fleurs_tables(folder: Path) -> list[Path]:
    tables = [folder / f"{name}.tsv" for name in ("train", "dev", "test")]
    firsts = {table: _first_cells(table, "\t") for table in tables}
    return [table for table, cells in firsts.items() if len(cells) > 2 and cells[1].endswith(AUDIO_SUFFIXES)]


def _fleurs_rows(folder: Path, table: Path) -> Iterator[Row]:
    part = table.stem
    audio = next((name for name in (f"audio/{part}", part, "audio") if (folder / name).is_dir()), "")
    archive = folder / "audio" / f"{part}.tar.gz"
    if audio in ("", "audio") and archive.is_file():
        raise UserError(f"{archive} is still packed: unpack it with `tar -xzf {archive} -C {archive.parent}`")
    for where, cells, problem in _lines(table, "\t"):
        if problem or len(cells) < 3:
            yield Row(where, problem=problem or f"it has {len(cells)} cells where FLEURS has 7")
            continue
        # FLEURS does not name its speakers, only their gender.
        gender = cells[-1].strip().lower()
        speaker = f"fleurs_{gender}" if gender in ("male", "female", "other") else "fleurs"
        yield Row(where, os.path.join(audio, cells[1].strip()), cells[2], speaker)


# ── LJSpeech: metadata.csv without a header, id|text|normalised text, wavs/ ──────────────────────────────────────────


def _ljspeech_tables(folder: Path) -> list[Path]:
    table = folder / "metadata.csv"
    cells = _first_cells(table, "|")
    return [table] if len(cells) > 1 and "audio_file" not in cells and _audio_folder(folder) else []


def _audio_folder(folder: Path) -> str:
    return next((name for name in _AUDIO_FOLDERS if (folder / name).is_dir()), "")


def _ljspeech_rows(folder: Path, table: Path) -> Iterator[Row]:
    for where, cells, problem in _lines(table, "|"):
        if problem or len(cells) not in (2, 3):
            yield Row(where, problem=problem or f"it has {len(cells)} cells where LJSpeech has 2 or 3")
            continue
        audio = _with_suffix(folder, os.path.join(_audio_folder(folder), cells[0].strip()))
        yield Row(where, audio, cells[-1] if cells[-1].strip() else cells[1])


# ── coqui: a header with audio_file and text, and often speaker_name ─────────────────────────────────────────────────


def _coqui_delimiter(table: Path) -> str:
    return next((d for d in "|,;\t" if {"audio_file", "text"} <= set(_first_cells(table, d))), "")


def _coqui_tables(folder: Path) -> list[Path]:
    tables = [table for table in sorted(folder.glob("*.csv")) if _coqui_delimiter(table)]
    whole = [table for table in tables if table.name == "metadata.csv"]
    return whole or tables  # beside metadata.csv the others are usually its parts


def _coqui_rows(folder: Path, table: Path) -> Iterator[Row]:
    for where, cells, problem in _records(table, _coqui_delimiter(table)):
        if problem:
            yield Row(where, problem=problem)
            continue
        audio = _with_suffix(folder, cells["audio_file"].strip())
        yield Row(where, audio, cells["text"], cells.get("speaker_name", "").strip())


# ── a plain folder: every recording with a .txt of the same name beside it ───────────────────────────────────────────


def _walk(source: Path, but: Path | None = None) -> Iterator[tuple[Path, set[str]]]:
    """Yield (folder, names in it), sorted, without hidden ones; links and `but` are not entered."""
    for folder, subfolders, names in os.walk(source):
        subfolders[:] = sorted(n for n in subfolders if not n.startswith(".") and Path(folder, n) != but)
        yield Path(folder), {name for name in names if not name.startswith(".")}


def _stems(names: set[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Name without suffix → names that end in one of `suffixes`, in the order of `suffixes`."""
    stems: dict[str, list[str]] = {}
    for suffix in suffixes:
        for name in sorted(name for name in names if name.lower().endswith(suffix)):
            stems.setdefault(name[: -len(suffix)], []).append(name)
    return stems


def _has_pairs(source: Path, but: Path | None = None) -> bool:
    folders = (names for _, names in _walk(source, but))
    return any(_stems(names, AUDIO_SUFFIXES).keys() & _stems(names, (".txt",)).keys() for names in folders)


def _folder_rows(source: Path, _: Path) -> Iterator[Row]:
    for folder, names in _walk(source):
        audio, texts = _stems(names, AUDIO_SUFFIXES), _stems(names, (".txt",))
        inside = folder.relative_to(source)
        speaker = "" if inside == Path() else inside.parts[0]  # a folder per speaker is the custom
        for stem in sorted(audio.keys() | (texts.keys() if audio else ())):
            first, *others = audio.get(stem, [f"{stem}.wav"])
            transcript = texts.get(stem, [f"{stem}.txt"])[0]
            text, problem = _transcript(source, folder / transcript) if stem in texts else ("", "")
            yield Row((inside / transcript).as_posix(), (inside / first).as_posix(), text, speaker, problem)
            for other in others:
                name = (inside / other).as_posix()
                yield Row(name, name, text, speaker, f"{first} has the same name and is used in its place")


def _transcript(source: Path, path: Path) -> tuple[str, str]:
    """(text, problem) of a .txt file."""
    real = os.path.realpath(path)
    if not real.startswith(f"{source}{os.sep}") or not os.path.isfile(real):
        return "", "the transcript is a link that leaves the source, or no file"
    with open(real, "rb") as file:
        raw = file.read(MAX_LINE_BYTES + 1)
    if len(raw) > MAX_LINE_BYTES or b"\0" in raw:
        return "", f"the transcript holds a NUL or more than {MAX_LINE_BYTES} bytes"
    text, problem = _decoded(raw, "transcript", "utf-8-sig")
    return " ".join(text.split()), problem


# ── the layouts ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Layout(NamedTuple):
    expects: str  # for people: what a folder of this layout holds
    tables: Callable[[Path], list[Path]]  # of a folder; none where it has another layout
    rows: Callable[[Path, Path], Iterator[Row]]  # of a folder and one of its tables


LAYOUTS = {
    "common_voice": _Layout(
        "validated.tsv with the columns client_id, path, sentence, beside clips/",
        _common_voice_tables,
        _common_voice_rows,
    ),
    "fleurs": _Layout(
        "train.tsv, dev.tsv, test.tsv without a header, beside audio/train/ and so on", _fleurs_tables, _fleurs_rows
    ),
    "ljspeech": _Layout("metadata.csv with id|text|normalised text, beside wavs/", _ljspeech_tables, _ljspeech_rows),
    "coqui": _Layout("a .csv whose first line is audio_file|text|speaker_name", _coqui_tables, _coqui_rows),
    "folder": _Layout("audio files with a .txt of the same name beside each", lambda folder: [folder], _folder_rows),
}
FORMATS = ("auto", *LAYOUTS)
