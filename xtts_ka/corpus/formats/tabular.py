"""Corpora whose tables have a header (coqui, xtts-webui, AllTalk, Hugging Face's audiofolder and many others)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from xtts_ka.corpus.delimited import DELIMITERS, first_lines, read_cells, split_line, trimmed
from xtts_ka.corpus.drop_reasons import Suspicion
from xtts_ka.corpus.formats.columns import SPLIT_WORDS, roles_of, stated_splits, stem_in
from xtts_ka.corpus.formats.layout import Corpus, Row, better_text

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".psv", ".list", ".lst")
_NOT_TRANSCRIPTS = ("invalidated", "reported", "other", "unvalidated")  # Common Voice's other tables


def header_of(table: Path) -> tuple[str, list[str], dict[str, int]]:
    """(delimiter, cells, role → column) of a table's first line; roles {} where it is no header that is known."""
    lines = first_lines(table, 1)
    for delimiter in DELIMITERS if lines else "":
        cells = split_line(lines[0], delimiter)[0]
        if len(cells) > 1 and (roles := roles_of(cells)):
            return delimiter, cells, roles
    return "", [], {}


def row_of(where: str, cells: Mapping[str, str], beside: Path) -> Row:
    """A row from its cells by role; see columns.ROLES."""
    language, split = cells.get("language", ""), SPLIT_WORDS.get(cells.get("split", "").lower(), "")
    text = better_text(cells["text"], cells.get("normalised", ""))
    speaker, known = cells.get("speaker", ""), bool(cells.get("speaker") or "speaker" not in cells)
    start = end = None
    try:
        if cells.get("start"):
            start = float(cells["start"])
            last = cells.get("end") or (str(start + float(cells["length"])) if cells.get("length") else "")
            end = float(last) if last else None
    except ValueError:
        return Row(where, cells["audio"], text, problem=f"{cells['start']!r} is no time in seconds", beside=beside)
    if start is not None and (end is None or not 0 <= start < end):
        start = end = None  # an offset of 0 without a length is the whole file
    return Row(where, cells["audio"], text, speaker, known, "", language, split, start, end, beside)


def recordings_of(table: Path) -> Iterator[str]:
    """What a table writes in its column of recordings."""
    delimiter, header, roles = header_of(table)
    for number, cells, problem in read_cells(table, delimiter, lambda count: count >= len(header)):
        if number > 1 and not problem and len(cells) >= len(header):
            yield cells[roles["audio"]]


def left_beside(read: Sequence[Path], left: Sequence[Path], have_splits: bool) -> str:
    """The remark on tables that are not read because they are parts of another."""
    names = ", ".join(table.name for table in left)
    told = "; those that are named by splits tell the official ones" if have_splits else ""
    whole = ", ".join(table.name for table in read)
    return f"not read, because beside {whole} they are taken for parts of it: {names}{told}"


class HeadedTables(Corpus):
    """Tables whose first line names their columns."""

    format = "coqui"
    expects = "a .csv or .tsv whose first line is audio_file|text|speaker_name or the like"
    whole: ClassVar[str] = "metadata"  # beside the table of this name the others are usually its parts

    def tables(self) -> list[Path]:
        tables = self._headed()
        whole = [table for table in tables if table.stem == self.whole]
        return whole or tables

    def family(self) -> list[Path]:
        return self._headed()

    def _headed(self) -> list[Path]:
        wanted = (file for file in self.files(*TABLE_SUFFIXES) if not file.stem.lower().startswith(_NOT_TRANSCRIPTS))
        return [file for file in wanted if self.may_read(file) and self.is_mine(header_of(file)[1])]

    def is_mine(self, header: list[str]) -> bool:
        return bool(header) and "file_name" not in header

    @cached_property
    def left(self) -> list[Path]:
        """Tables beside the whole one, taken for its parts."""
        read = self.tables()
        return [table for table in self.family() if table not in read]

    @cached_property
    def official(self) -> dict[str, str]:
        """Recording → its split, as the names of the tables that are not read tell."""
        return stated_splits((table.stem, recordings_of(table)) for table in self.left)

    def rows(self) -> Iterator[Row]:
        self.tell_what_is_left()
        for table in self.tables():
            delimiter, header, roles = header_of(table)
            width = max(i for i, cell in enumerate(header) if cell) + 1  # what follows is a spreadsheet's padding
            lines = read_cells(table, delimiter, lambda count, width=width: count >= width)  # type: ignore[misc]
            next(lines)
            for number, cells, problem in lines:
                where, cells = f"{table.name}, line {number}", trimmed(cells, width, len(header))
                if not problem and len(cells) != width:
                    problem = f"it has {len(cells)} cells instead of {width}"
                if problem:
                    yield Row(where, problem=problem)
                else:
                    by_name = dict(zip(header, cells))
                    yield self.row(table, where, {role: cells[i] for role, i in roles.items()}, by_name)

    def tell_what_is_left(self) -> None:
        if self.left:
            self.remarks.append(left_beside(self.tables(), self.left, bool(self.official)))

    def row(self, table: Path, where: str, roles: dict[str, str], cells: dict[str, str]) -> Row:
        """The row of a line, given its cells by role and by column."""
        row = row_of(where, roles, table.parent)
        return replace(
            row, split=row.split or self.official.get(row.audio) or self.official.get(stem_in(row.audio), "")
        )


class AudioFolder(HeadedTables):
    format = "audiofolder"
    many_voices = True
    expects = "Hugging Face's audiofolder: metadata.csv with file_name and transcription (or text, sentence)"

    def is_mine(self, header: list[str]) -> bool:
        return "file_name" in header


class CommonVoice(HeadedTables):
    """Common Voice's releases: validated.tsv beside clips/, and Spontaneous Speech's ss-corpus-ka.tsv beside audios/.

    train.tsv, dev.tsv and test.tsv are subsets of validated.tsv: they tell the official splits.
    """

    format = "common_voice"
    expects = "validated.tsv with the columns client_id, path, sentence, beside clips/"
    audio_folders = ("clips", "audios", "audio", "wavs", "wav")
    speakers_everywhere = True
    parts: ClassVar = {"train": "train", "dev": "val", "test": "test"}

    def tables(self) -> list[Path]:
        spoken = [t for t in sorted(self.folder.glob("ss-corpus*.tsv")) if self._has(t, "audio_file", "transcription")]
        found = [table for name in ("validated", *self.parts) if (table := self._table(name))]
        return spoken + (found[:1] if found and found[0].stem == "validated" else found)

    def family(self) -> list[Path]:
        return sorted(self.folder.glob("*.tsv"))

    def _table(self, name: str) -> Path | None:
        table = self.folder / f"{name}.tsv"
        return table if self._has(table, "path", "sentence") else None

    def _has(self, table: Path, *columns: str) -> bool:
        lines = first_lines(table, 1) if self.may_read(table) else []
        return bool(lines) and set(columns) <= {cell.strip() for cell in lines[0].split("\t")}

    def tell_what_is_left(self) -> None:
        """Nothing: what validated.tsv does not hold has not been validated."""

    @cached_property
    def official(self) -> dict[str, str]:
        """Path of a clip → its split, as the tables beside validated.tsv tell."""
        tables = {name: self._table(name) for name in self.parts}
        return {path: self.parts[name] for name, table in tables.items() if table for path in recordings_of(table)}

    def row(self, table: Path, where: str, roles: dict[str, str], cells: dict[str, str]) -> Row:
        path, speaker = cells.get("path") or cells.get("audio_file", ""), cells.get("client_id", "")
        text = cells.get("sentence") or cells.get("transcription", "")
        split = self.official.get(path) or self.parts.get(table.stem) or SPLIT_WORDS.get(cells.get("split", ""), "")
        votes = [int(cells[name]) if cells.get(name, "").isdigit() else 0 for name in ("up_votes", "down_votes")]
        down = votes[1] > votes[0]
        suspected = ((Suspicion.VOTED_DOWN, f"{votes[0]} votes for it, {votes[1]} against"),) if down else ()
        language = cells.get("locale") or cells.get("language", "")
        return Row(
            where, path, text, speaker, bool(speaker), "", language, split, None, None, table.parent, "", suspected
        )

    def speaker_label(self, name: str) -> str:
        return f"cv_{hashlib.sha256(name.encode()).hexdigest()[:8]}"  # a client_id has 128 digits
