"""Reads and writes the split tables `data/split/{train,val,test}/{split}_metadata.csv`.

Three files stand beside them: the drop report, which lists the rows that were dropped and those that look wrong,
`sources.json`, which names the folders outside the data folder that the tables may point into, and `splits.json`, which
says by which shares the clips were split.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path, read_json
from xtts_ka.corpus.excerpt import Cut, Excerpt

SPLITS = ("train", "val", "test")
TRAINING_SPLITS = SPLITS[:2]  # what training reads; nothing but the evaluation reads the test split
COLUMNS = ("file_id", "text", "speaker_id", "duration", "audio_path", "embedding_path")
SPEAKER_KNOWN = "speaker_known"  # a column that tables from before 2026-11-26 lack
CUT_COLUMNS = ("read_from", "read_to", "gain_db")  # seconds and dB; of tables whose recordings' quality was measured
MAX_SECONDS, MAX_GAIN_DB = 1e6, 60.0  # that these may hold
QUALITY_COLUMNS = (  # likewise; what they mean: quality_limits.py
    "speech_share",
    "silence_start",
    "silence_end",
    "loudness",
    "clipped_share",
    "offset",
    "cancelled",
    "bandwidth",
    "snr",
    "dnsmos",
    "letters_per_second",
    "rate_ratio",
    "cer",
    "voice_similarity",
)
NOT_PEOPLE = ("fleurs", "fleurs_male", "fleurs_female", "fleurs_other", "cv_e3b0c442")  # speaker_ids of such tables
EMBEDDINGS_FOLDER = "embeddings/embeddings"  # in the data folder
EMBEDDING_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".json")  # of several files with one stem, the first is taken
SOURCES = "split/sources.json"
SPLITS_RECORD = "split/splits.json"
DROP_REPORT = "split/drop_report.csv"
SPEAKERS = "split/speakers.csv"
SPEAKER_COLUMNS = ("speaker_id", "name", "known", "format", "folder", "clips", "seconds")
DROP_COLUMNS = ("file_id", "action", "reason", "detail", "audio_path", "text")

MAX_LINE_BYTES = 2**20  # a clip's row has some hundred bytes; the limit bounds the memory that a damaged file takes
MAX_ID_LENGTH = 80  # letters: a Georgian one takes three bytes in UTF-8, and a file name may have 255
_SAFE_ID = re.compile(rf"\w[\w.-]{{0,{MAX_ID_LENGTH - 1}}}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ID_RULE = f"use letters, digits, `_`, `.` and `-`, {MAX_ID_LENGTH} at most"
_REMEDY = "make the tables with `python create_metadata_files.py --source FOLDER --output_dir {}`"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    file_id: str
    text: str
    speaker_id: str
    duration: float  # seconds
    audio_path: Path  # absolute
    embedding_path: Path | None  # absolute
    speaker_known: bool = True  # False: other clips with this speaker_id may be of other people
    cut: Cut | None = None  # what of the recording is read; None: all

    @property
    def sound(self) -> Path | Excerpt:
        """What `read_mono` and `load_speech` read."""
        return Excerpt(self.audio_path, self.cut) if self.cut else self.audio_path


class Row(NamedTuple):
    """A row of a table with paths as strings: making a `Clip` of each of a million rows takes 6 s more.

    audio_path: absolute; embedding_path: absolute, or "" where there is none; recording: the cell of `audio_path` as
    written, relative to the table's folder; speaker_known, cut: as of `Clip`.
    """

    file_id: str
    text: str
    speaker_id: str
    duration: float
    audio_path: str
    embedding_path: str
    recording: str
    speaker_known: bool = True
    cut: Cut | None = None

    @property
    def sound(self) -> str | Excerpt:
        """As of `Clip`."""
        return Excerpt(Path(self.audio_path), self.cut) if self.cut else self.audio_path


def split_csv(data_dir: Path | str, split: str) -> Path:
    """The path of the table of `split`."""
    return Path(data_dir) / "split" / split / f"{split}_metadata.csv"


def has_metadata(data_dir: Path | str) -> bool:
    """True when the tables of train and val exist (test is optional)."""
    return all(split_csv(data_dir, split).is_file() for split in TRAINING_SPLITS)


def is_safe_id(name: str) -> bool:
    """True for an id that is safe in file names and spreadsheets: letters, digits, `_`, then also `.` and `-`."""
    return _SAFE_ID.fullmatch(name) is not None


def read_split(data_dir: Path | str, split: str) -> list[Clip]:
    """The whole table of `split`; errors as in `read_rows`."""
    return [
        Clip(
            *row[:4],
            Path(row.audio_path),
            Path(row.embedding_path) if row.embedding_path else None,
            row.speaker_known,
            row.cut,
        )
        for row in read_rows(data_dir, split)
    ]


def read_rows(data_dir: Path | str, split: str) -> Iterator[Row]:
    """Yield the table of `split` row by row in file order; anything wrong is a UserError naming file, line and column.

    Whether the recordings exist is not checked here. The test table may have no rows; train and val may not.
    """
    table = split_csv(data_dir, split)
    if not table.is_file():
        raise UserError(f"{table} does not exist: {_REMEDY.format(data_dir)}")
    resolve = _path_resolver(table)
    lines_of: dict[str, int] = {}
    rows = _rows(table, COLUMNS, SPEAKER_KNOWN, *CUT_COLUMNS)
    for line, (file_id, text, speaker_id, duration, audio_path, embedding_path, known, *cut) in rows:
        for column, value in (("file_id", file_id), ("speaker_id", speaker_id)):
            if not is_safe_id(value):
                raise _bad(table, line, column, value, _ID_RULE)
        if lines_of.setdefault(file_id, line) != line:
            raise _bad(table, line, "file_id", file_id, f"line {lines_of[file_id]} has the same")
        if not text or text.isspace():
            raise _bad(table, line, "text", text, "it is empty; give the transcript or delete the row")
        seconds = _seconds(duration, table, line)
        audio = resolve(audio_path, line, "audio_path")
        embedding = resolve(embedding_path, line, "embedding_path") if embedding_path else ""
        if known not in ("yes", "no", ""):
            raise _bad(table, line, SPEAKER_KNOWN, known, "write yes or no")
        is_known = known == "yes" if known else speaker_id not in NOT_PEOPLE
        read = _cut(cut, table, line) if any(cut) else None
        yield Row(file_id, text, sys.intern(speaker_id), seconds, audio, embedding, audio_path, is_known, read)
    if not lines_of and split != "test":
        raise UserError(f"{table} has no rows: {_REMEDY.format(data_dir)}")


def _bad(table: Path, line: int, column: str, value: str, remedy: str) -> UserError:
    return UserError(f"{table}, line {line}, column {column}: {value[:80]!r} cannot be used; {remedy}")


def _seconds(value: str, table: Path, line: int) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _bad(table, line, "duration", value, "give the seconds, a number above 0")
    return seconds


def _cut(cells: Sequence[str], table: Path, line: int) -> Cut:
    try:
        start, end, gain = (float(cell or "0") for cell in cells)
    except ValueError:
        start = end = gain = math.nan
    if not (0 <= start < end < MAX_SECONDS and abs(gain) <= MAX_GAIN_DB):
        remedy = "give the seconds where the clip begins and ends, and decibels, or leave all three empty"
        raise _bad(table, line, ", ".join(CUT_COLUMNS), ", ".join(cells), remedy)
    return Cut(start, end, gain)


def source_roots(data_dir: Path | str) -> tuple[str, ...]:
    """The folders that tables may point into, links resolved: `data_dir` and those that sources.json names.

    UserError where one of them contains the data folder: naming `/` would otherwise allow every file.
    """
    home, record = os.path.realpath(data_dir), Path(data_dir) / SOURCES
    if not record.exists():
        return (home,)
    remedy = _REMEDY.format(data_dir)
    content = read_json(record, "the list of source folders", remedy)
    try:
        roots = [os.path.realpath(record.parent / name) for name in content["sources"]]
        above = next((root for root in roots if os.path.commonpath([root, home]) == root), None)
    except (TypeError, KeyError, ValueError):  # ValueError: a NUL or half a character
        raise UserError(f"{record} is no list of source folders: {remedy}") from None
    if above:
        raise UserError(f"{record} names {above}, which holds the data folder itself: {remedy}")
    return (home, *roots)


def _path_resolver(table: Path) -> Callable[[str, int, str], str]:
    """A function that makes the relative paths in `table` absolute, resolving each folder once (halves the time).

    A table may come from an untrusted source, so a path must lead into `source_roots`, links followed. Whether the file
    itself is a link is checked when it is opened (`audio.py`, `embedding_files.py`).
    """
    home, data_dir = os.path.realpath(table.parent), table.parents[2]
    inside = tuple(f"{root}/" for root in source_roots(data_dir))
    folders: dict[str, str] = {}

    def resolve(value: str, line: int, column: str) -> str:
        folder, _, name = value.rpartition("/")
        if value[:1] in ("/", "\\") or value[1:2] == ":" or "\n" in value or name.strip() in ("", ".", ".."):
            raise _bad(table, line, column, value, "give a path relative to the table's folder")
        if folder not in folders:
            real = os.path.realpath(f"{home}/{folder}")
            if not f"{real}/".startswith(inside):
                where = f"it leads out of {data_dir} and of the folders in {SOURCES}"
                raise _bad(table, line, column, value, f"{where}; {_REMEDY.format(data_dir)}")
            folders[folder] = real
        return f"{folders[folder]}/{name}"

    return resolve


def _rows(table: Path, columns: Sequence[str], *optional: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, cells of `columns` and `optional`) of a UTF-8 CSV with a header; blank lines are skipped.

    The cells of an optional column that the header lacks are empty.
    """
    reader = csv.reader(_lines(table), strict=True)
    try:
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            lacking = f"column{'s'[: len(missing) > 1]} {', '.join(missing)}"
            raise UserError(f"{table} lacks the {lacking}: its first line must be {','.join(columns)}")
        if len(set(header)) < len(header):
            raise UserError(f"{table}, line 1: a column is named twice; it must be {','.join(columns)}")
        width = len(header)
        pick = itemgetter(*(header.index(name) if name in header else width for name in (*columns, *optional)))
        for row in reader:
            if len(row) == width:
                yield reader.line_num, pick([*row, ""])
            elif row:
                counts = f"{len(row)} cells where the header has {width}"
                raise UserError(f"{table}, line {reader.line_num}: {counts}; put quotes around a cell with a comma")
    except csv.Error as error:
        raise UserError(f"{table}, line {reader.line_num}: not CSV ({error}); correct or delete it") from None


def _lines(table: Path) -> Iterator[str]:
    for number, line, problem in numbered_lines(table):
        if _CONTROL.search(line):
            problem = "it holds a control character"
        if problem:
            raise UserError(f"{table}, line {number}: {problem}; correct or delete it")
        yield line


def numbered_lines(table: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (number, line with its end, problem) of a UTF-8 file, with or without a byte-order mark.

    problem: why the line cannot be used; it is empty then. No line over MAX_LINE_BYTES is held in memory.
    """
    with open(table, "rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            line, problem = "", ""
            if len(raw) > MAX_LINE_BYTES:
                problem = f"the line is longer than {MAX_LINE_BYTES} bytes"
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE_BYTES)
            else:
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    problem = f"the line is not UTF-8 (byte {error.start + 1})"
            yield number, line, problem


def write_splits(
    data_dir: Path | str,
    splits: Mapping[str, Sequence[Clip]],
    sources: Iterable[Path | str] = (),
    record_of_splits: Mapping[str, Any] | None = None,
    measured: Mapping[str, Mapping[str, float | None]] | None = None,
) -> None:
    """Write the tables of all three splits, with paths relative to each.

    sources: the folders that hold files of these clips; those outside `data_dir` are listed in sources.json.
    record_of_splits: what splits.json says. measured: file_id → QUALITY_COLUMNS of it that are known; None: these
    columns and those of the cuts are left out.
    All files are written in full before the first is renamed, and the train table is renamed last: until then
    `has_metadata` is false, so an interruption cannot leave tables of two runs side by side that look complete.
    """
    with contextlib.ExitStack() as replaced:  # the contexts end in reverse order, and each renames its file
        for split in SPLITS:
            table = split_csv(data_dir, split)
            temporary = replaced.enter_context(atomic_path(table))
            folder = os.path.realpath(table.parent)
            columns = (*COLUMNS, SPEAKER_KNOWN, *(CUT_COLUMNS + QUALITY_COLUMNS if measured is not None else ()))
            _write_rows(temporary, columns, (_cells(clip, folder, measured) for clip in splits[split]))
        record, home = Path(data_dir) / SOURCES, os.path.realpath(data_dir)
        outside = {real for real in map(os.path.realpath, sources) if not f"{real}/".startswith(f"{home}/")}
        names = sorted(os.path.relpath(real, os.path.realpath(record.parent)) for real in outside)
        replaced.enter_context(atomic_path(record)).write_text(json.dumps({"sources": names}) + "\n")
        if record_of_splits:
            text = json.dumps(record_of_splits, indent=2) + "\n"
            replaced.enter_context(atomic_path(Path(data_dir) / SPLITS_RECORD)).write_text(text)
        split_csv(data_dir, SPLITS[0]).unlink(missing_ok=True)


def _cells(
    clip: Clip, folder: str, measured: Mapping[str, Mapping[str, float | None]] | None = None
) -> tuple[str, ...]:
    audio, embedding = (
        os.path.relpath(path, folder) if path else "" for path in (clip.audio_path, clip.embedding_path)
    )
    known = "yes" if clip.speaker_known else "no"
    cells = clip.file_id, clip.text, clip.speaker_id, f"{clip.duration:.4f}", audio, embedding, known
    if measured is None:
        return cells
    cut = (f"{clip.cut.start:.4f}", f"{clip.cut.end:.4f}", f"{clip.cut.gain_db:.2f}") if clip.cut else ("", "", "")
    values = measured.get(clip.file_id, {})
    found = (values.get(column) for column in QUALITY_COLUMNS)
    return (*cells, *cut, *("" if value is None else f"{value:.5g}" for value in found))


def _write_rows(file_path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with open(file_path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_drop_report(data_dir: Path | str, rows: Iterable[Sequence[str]]) -> Path:
    """Write the drop report from (file_id, action, reason, detail, audio_path, text) rows; return its path.

    The cells come from untrusted files and are opened in spreadsheets: each is cut to 300 characters, its control
    characters become spaces, and one that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    report = Path(data_dir) / DROP_REPORT
    with atomic_path(report) as temporary:
        _write_rows(temporary, DROP_COLUMNS, ([_harmless(cell) for cell in row] for row in rows))
    return report


def write_speakers(data_dir: Path | str, rows: Iterable[Sequence[object]]) -> None:
    """Write the table from speaker_ids to the corpora's own names, in SPEAKER_COLUMNS; harmless as the drop report."""
    with atomic_path(Path(data_dir) / SPEAKERS) as temporary:
        _write_rows(temporary, SPEAKER_COLUMNS, ([_harmless(cell) for cell in row] for row in rows))


def read_drop_report(data_dir: Path | str) -> list[tuple[str, ...]]:
    """The rows of the drop report in file order; none where there is no report."""
    report = Path(data_dir) / DROP_REPORT
    return [cells for _, cells in _rows(report, DROP_COLUMNS)] if report.is_file() else []


def replace_suspects(data_dir: Path | str, reason: str, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Replace the suspects of this reason by (file_id, detail, audio_path, text) rows; all other rows stay."""
    others = [row for row in read_drop_report(data_dir) if row[1:3] != ("suspect", reason)]
    suspects = [(file_id, "suspect", reason, *rest) for file_id, *rest in rows]
    write_drop_report(data_dir, others + suspects)


def _harmless(cell: object) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(cell)[:300])
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
