"""The split tables `data/split/{train,val,test}/{split}_metadata.csv`: every row checked, every write whole.

Beside them stand the drop report, which lists for people the rows that were left out and those that look
wrong, and `sources.json`, which names the folders outside the data folder that the tables may point into.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import io
import json
import math
import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path, read_json

SPLITS = ("train", "val", "test")
TRAINING_SPLITS = SPLITS[:2]  # what the model may learn from: test stays unseen
COLUMNS = ("file_id", "text", "speaker_id", "duration", "audio_path", "embedding_path")
EMBEDDINGS_FOLDER = "embeddings/embeddings"  # in the data folder
EMBEDDING_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".json")  # of several files with one stem, the first is taken
SOURCES = "split/sources.json"
DROP_REPORT = "split/drop_report.csv"
DROP_COLUMNS = ("file_id", "action", "reason", "detail", "audio_path", "text")

MAX_LINE_BYTES = 2**20  # no clip's row comes near; a longer line is not a table of clips
MAX_ID_LENGTH = 80  # letters; in Georgian, three bytes each, that still fits a file name
_SAFE_ID = re.compile(rf"\w[\w.-]{{0,{MAX_ID_LENGTH - 1}}}")
_CONTROL = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
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


class Row(NamedTuple):
    """A `Clip` as plain strings, for those who pass over a million of them.

    embedding_path: "" where there is none; recording: the cell of `audio_path`, relative to the table's folder.
    """

    file_id: str
    text: str
    speaker_id: str
    duration: float
    audio_path: str
    embedding_path: str
    recording: str


def split_csv(data_dir: Path | str, split: str) -> Path:
    """Where the table of `split` stands."""
    return Path(data_dir) / "split" / split / f"{split}_metadata.csv"


def has_metadata(data_dir: Path | str) -> bool:
    """True when the tables of train and val are there (test may be left out)."""
    return all(split_csv(data_dir, split).is_file() for split in TRAINING_SPLITS)


def is_safe_id(name: str) -> bool:
    """True for an id that is safe in file names and spreadsheets: letters, digits, `_`, then also `.` and `-`."""
    return _SAFE_ID.fullmatch(name) is not None


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def read_split(data_dir: Path | str, split: str) -> list[Clip]:
    """The table of `split`, whole: see `read_rows`."""
    folders: dict[str, Path] = {}

    def path(value: str) -> Path:
        folder, _, name = value.rpartition("/")
        if folder not in folders:
            folders[folder] = Path(folder)
        return folders[folder] / name  # half the time of parsing the whole

    with collector_paused():
        return [
            Clip(*row[:4], path(row.audio_path), path(row.embedding_path) if row.embedding_path else None)
            for row in read_rows(data_dir, split)
        ]


def read_rows(data_dir: Path | str, split: str) -> Iterator[Row]:
    """Yield the table of `split` row by row in file order; anything wrong is a UserError naming file, line and column.

    The files that the rows point to are not looked at (a million of them takes minutes): see `missing_audio`.
    The test table may hold no rows; train and val may not.
    """
    table = split_csv(data_dir, split)
    if not table.is_file():
        raise UserError(f"{table} does not exist: {_REMEDY.format(data_dir)}")
    place = Places(table)
    lines_of: dict[str, int] = {}
    speakers: dict[str, str] = {}
    for line, (file_id, text, speaker_id, duration, audio_path, embedding_path) in _rows(table, COLUMNS):
        if not _SAFE_ID.fullmatch(file_id):
            raise _bad(table, line, "file_id", file_id, _ID_RULE)
        if speaker_id not in speakers and not _SAFE_ID.fullmatch(speaker_id):
            raise _bad(table, line, "speaker_id", speaker_id, _ID_RULE)
        if lines_of.setdefault(file_id, line) != line:
            raise _bad(table, line, "file_id", file_id, f"line {lines_of[file_id]} has the same")
        if not text or text.isspace():
            raise _bad(table, line, "text", text, "it is empty; give the transcript or delete the row")
        audio = place(audio_path, line, "audio_path")
        embedding = place(embedding_path, line, "embedding_path") if embedding_path else ""
        yield Row(
            file_id,
            text,
            speakers.setdefault(speaker_id, speaker_id),
            _seconds(duration, table, line),
            audio,
            embedding,
            audio_path,
        )
    if not lines_of and split != "test":
        raise UserError(f"{table} has no rows: {_REMEDY.format(data_dir)}")


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """For what makes many objects and no garbage, as reading a table does: looking for it, again and again, takes a third
    of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def missing_audio(clips: Iterable[Clip]) -> list[Clip]:
    """The clips whose recording is not there now."""
    return [clip for clip in clips if not clip.audio_path.is_file()]


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


def source_roots(data_dir: Path | str) -> tuple[str, ...]:
    """The folders that tables may point into, links resolved: `data_dir` and those that sources.json names.

    UserError where one of them holds the data folder: it could be `/`, and create_metadata_files.py refuses it too.
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


class Places:
    """Resolves a table's relative paths, each folder once: it halves the time of reading many rows.

    Tables come from strangers too, so a path may lead into `source_roots`, links followed, and nowhere else. Whether
    the file itself is a link is found when it is opened.
    """

    def __init__(self, table: Path):
        self._table = table
        self._home = os.path.realpath(table.parent)
        self._data_dir = table.parents[2]
        self._inside = tuple(f"{root}/" for root in source_roots(self._data_dir))
        self._folders: dict[str, str] = {}

    def __call__(self, value: str, line: int, column: str) -> str:
        """The absolute path of `value`. UserError: it is absolute already, no file's name, or leads elsewhere."""
        folder, _, name = value.rpartition("/")
        if value[:1] in ("/", "\\") or value[1:2] == ":" or "\n" in value or name.strip() in ("", ".", ".."):
            raise _bad(self._table, line, column, value, "give a path relative to the table's folder")
        if folder not in self._folders:
            real = os.path.realpath(f"{self._home}/{folder}")
            if not f"{real}/".startswith(self._inside):
                raise _bad(
                    self._table,
                    line,
                    column,
                    value,
                    f"it leads out of {self._data_dir} and of the folders in "
                    f"{SOURCES}; {_REMEDY.format(self._data_dir)}",
                )
            self._folders[folder] = real
        return f"{self._folders[folder]}/{name}"


def _rows(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, cells of `columns`) of a UTF-8 CSV with a header; blank lines are passed over."""
    reader = csv.reader(_lines(table), strict=True)
    try:
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise UserError(
                f"{table} lacks the column{'s'[: len(missing) > 1]} {', '.join(missing)}: "
                f"its first line must be {','.join(columns)}"
            )
        if len(set(header)) < len(header):
            raise UserError(f"{table}, line 1: a column is named twice; it must be {','.join(columns)}")
        pick = itemgetter(*map(header.index, columns))
        width = len(header)
        for row in reader:
            if len(row) == width:
                yield reader.line_num, pick(row)
            elif row:
                counts = f"{len(row)} cells where the header has {width}"
                raise UserError(f"{table}, line {reader.line_num}: {counts}; put quotes around a cell with a comma")
    except csv.Error as error:
        raise UserError(f"{table}, line {reader.line_num}: not CSV ({error}); correct or delete it") from None


def _lines(table: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with or without BOM. UserError: too long, or a control character in it."""
    with open(table, "rb") as file:
        file.seek(len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
        number = 1
        while block := file.read(MAX_LINE_BYTES):
            block += file.readline(MAX_LINE_BYTES + 1)
            yield from io.StringIO(_text(block, table, number), newline="\n")
            number += block.count(b"\n")


def _text(block: bytes, table: Path, number: int) -> str:
    """Whole lines decoded: all at once, or one by one from line `number` on where something is wrong with one of them."""
    with contextlib.suppress(UnicodeDecodeError):
        if len(block.translate(None, _CONTROL)) == len(block) and max(map(len, block.split(b"\n"))) < MAX_LINE_BYTES:
            return block.decode()
    return "".join(_line(raw, table, line) for line, raw in enumerate(io.BytesIO(block), number))


def _line(raw: bytes, table: Path, number: int) -> str:
    if len(raw) > MAX_LINE_BYTES:
        raise UserError(f"{table}, line {number}: over {MAX_LINE_BYTES} bytes; correct or delete it")
    if len(raw.translate(None, _CONTROL)) < len(raw):
        raise UserError(f"{table}, line {number}: it holds a control character; delete that")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        where = f"{table}, line {number}"
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1}); save it as UTF-8") from None


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def write_splits(
    data_dir: Path | str, splits: Mapping[str, Sequence[Clip]], sources: Iterable[Path | str] = ()
) -> None:
    """Write the tables of all three splits, with paths relative to each.

    sources: the folders that hold files of these clips; those outside `data_dir` go to sources.json. All files are
    written in full before any takes its place, train last; while they do, `has_metadata` is false, so that no
    interruption can leave a mixture of two runs that looks whole.
    """
    with contextlib.ExitStack() as replaced:  # leaves its contexts last to first, each renaming its table
        for split in SPLITS:
            table = split_csv(data_dir, split)
            temporary = replaced.enter_context(atomic_path(table))
            folder = os.path.realpath(table.parent)
            _write_rows(temporary, COLUMNS, (_cells(clip, folder) for clip in splits[split]))
        record, home = Path(data_dir) / SOURCES, os.path.realpath(data_dir)
        outside = {real for real in map(os.path.realpath, sources) if not f"{real}/".startswith(f"{home}/")}
        names = sorted(_relative(Path(real), os.path.realpath(record.parent)) for real in outside)
        replaced.enter_context(atomic_path(record)).write_text(json.dumps({"sources": names}) + "\n")
        split_csv(data_dir, SPLITS[0]).unlink(missing_ok=True)


def _cells(clip: Clip, folder: str) -> tuple[str, ...]:
    embedding = _relative(clip.embedding_path, folder) if clip.embedding_path else ""
    audio = _relative(clip.audio_path, folder)
    return clip.file_id, clip.text, clip.speaker_id, f"{clip.duration:.4f}", audio, embedding


def _relative(path: Path, folder: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _write_rows(file_path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with open(file_path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


# ── the drop report ─────────────────────────────────────────────────────────────────────────────────────────


def write_drop_report(data_dir: Path | str, rows: Iterable[Sequence[str]]) -> Path:
    """Write the drop report from (file_id, action, reason, detail, audio_path, text) rows; return its path.

    Cells come from strangers' files and are opened in spreadsheets: each is cut to 300 characters, its
    control characters become spaces, and one that a spreadsheet would run as a formula gets a leading
    apostrophe.
    """
    report = Path(data_dir) / DROP_REPORT
    with atomic_path(report) as temporary:
        _write_rows(temporary, DROP_COLUMNS, ([_harmless(cell) for cell in row] for row in rows))
    return report


def read_drop_report(data_dir: Path | str) -> list[tuple[str, ...]]:
    """The rows of the drop report as written, in file order; none where there is no report."""
    report = Path(data_dir) / DROP_REPORT
    return [cells for _, cells in _rows(report, DROP_COLUMNS)] if report.is_file() else []


def replace_suspects(data_dir: Path | str, reason: str, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Put (file_id, detail, audio_path, text) rows in place of this reason's suspects; all others stay."""
    others = [row for row in read_drop_report(data_dir) if row[1:3] != ("suspect", reason)]
    suspects = [(file_id, "suspect", reason, *rest) for file_id, *rest in rows]
    write_drop_report(data_dir, others + suspects)


def _harmless(cell: object) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(cell)[:300])
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
