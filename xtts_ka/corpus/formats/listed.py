"""Corpora whose tables have no header: LJSpeech, Piper, VITS, OpenSLR, M-AILABS, FLEURS, transcripts.txt."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from xtts_ka.core.console import first_few
from xtts_ka.corpus.delimited import SNIFFED_LINES, Cells, common_delimiter, first_lines, read_cells, text_lines
from xtts_ka.corpus.formats.columns import infer_roles, stated_splits, stem_in
from xtts_ka.corpus.formats.layout import Corpus, Row
from xtts_ka.corpus.formats.tabular import TABLE_SUFFIXES, header_of, left_beside, row_of
from xtts_ka.corpus.paths import AUDIO_FOLDERS, has_audio_suffix

HEADER = {"audio": "audio_file", "text": "text", "normalised": "normalized_text", "language": "language"}
INFERRED_FROM = 2_000  # rows that decide which column holds what


class ListedTables(Corpus):
    """Tables without a header; a column's content tells what it holds (columns.infer_roles)."""

    format = "ljspeech"
    expects = "metadata.csv with id|text, id|text|normalised text or id|speaker|text, beside wavs/"
    delimiters: ClassVar[str] = "|\t;,"

    def tables(self) -> list[Path]:
        tables = self._listed()
        whole = [table for table in tables if table.name == "metadata.csv"]
        return whole or tables

    def _listed(self) -> list[Path]:
        files = [file for file in self.files(*TABLE_SUFFIXES) if not self._is_transcript(file)]
        return [file for file in files if self.may_read(file) and not header_of(file)[2] and self.is_mine(file)]

    def _is_transcript(self, file: Path) -> bool:
        """Whether a recording of the same name lies beside a .txt."""
        return file.suffix.lower() == ".txt" and self.place.finder.as_written(file.stem, [self.folder]) is not None

    def is_mine(self, table: Path) -> bool:
        """Whether its first lines name recordings that exist, or it is called as LJSpeech's and stands beside wavs/."""
        delimiter = common_delimiter(table, self.delimiters)
        if not delimiter:
            return False
        rows = [cells for _, cells, _ in itertools.islice(read_cells(table, delimiter, lambda n: n > 1), SNIFFED_LINES)]
        if table.name == "metadata.csv" and delimiter == "|" and self.subfolder(*AUDIO_FOLDERS):
            return True
        named = sum(self.place.finder.has_name(row[0]) for row in rows)
        return named >= 0.9 * len(rows) or any(self.exists(table, c) for row in rows if len(row) > 1 for c in row[:2])

    def exists(self, table: Path, cell: str) -> bool:
        """Whether a cell leads to a recording, as written or by a guess: a name alone only where it has a suffix."""
        complete = has_audio_suffix(cell)
        if not cell or len(cell) > 500 or (" " in cell and not complete):
            return False
        starts = self.starts(Row("", beside=table.parent))
        return self.place.finder.locate(cell, starts, self.audio_folders, bare=complete) is not None

    def rows(self) -> Iterator[Row]:
        tables = self.tables()
        left = [table for table in self._listed() if table not in tables]
        first_cells = ((table.stem, (cells[0] for _, cells, _ in self.cells_of(table) if cells)) for table in left)
        official = stated_splits(first_cells)
        if left:
            self.remarks.append(left_beside(tables, left, bool(official)))
        for table in tables:
            for row in self.rows_of(table, self.cells_of(table)):
                split = official.get(row.audio) or official.get(stem_in(row.audio), "")
                yield replace(row, split=row.split or split)

    def cells_of(self, table: Path) -> Iterator[Cells]:
        delimiter = common_delimiter(table, self.delimiters) or self.delimiters[0]
        return read_cells(table, delimiter, lambda count: count > 1)

    @cached_property
    def shapes(self) -> dict[Path, tuple[int, dict[str, int]]]:
        """Table → (cells of a row, role → column). Tables of one width are parts of one corpus: judged together."""
        first = {table: list(self._first_rows(table)) for table in self.tables()}
        counts = {table: Counter(map(len, rows)) for table, rows in first.items()}
        widths = {table: max((n, cells) for cells, n in c.items())[1] if c else 2 for table, c in counts.items()}
        shapes: dict[Path, tuple[int, dict[str, int]]] = {}
        for width in sorted(set(widths.values())):
            together = [table for table in first if widths[table] == width]
            rows = [cells for table in together for cells in first[table] if len(cells) <= width]
            roles = infer_roles(rows, lambda cell, tables=together: any(self.exists(t, cell) for t in tables))  # type: ignore[misc]
            roles = {"audio": 0, "text": 1, **roles} if "text" not in roles else roles
            self._tell_of_speakers(together, rows, roles, width)
            shapes |= dict.fromkeys(together, (width, roles))
        return shapes

    def _first_rows(self, table: Path) -> Iterator[list[str]]:
        rows = itertools.islice(self.cells_of(table), INFERRED_FROM)
        return (cells for _, cells, problem in rows if len(cells) > 1 and not problem)

    def _tell_of_speakers(self, tables: list[Path], rows: list[list[str]], roles: dict[str, int], width: int) -> None:
        """Say which column is taken for the speaker, or may be one, and how to say otherwise."""
        for role, told, other in (
            ("speaker", "is taken for the speaker; if it is not", "other"),
            ("unclear", "may name the speakers or not, so they are not known; if it does", "speaker_name"),
            ("label", "is taken for no speaker; if it is one", "speaker_name"),
        ):
            if role in roles:
                values = list(dict.fromkeys(row[roles[role]] for row in rows if len(row) > roles[role]))
                shown = first_few([value[:20] for value in values])
                words = {roles[each]: word for each, word in HEADER.items() if each in roles} | {roles[role]: other}
                header = "|".join(words.get(i, "other") for i in range(width))
                which = tables[0].name + f" and {len(tables) - 1} more" * (len(tables) > 1)
                column = f"column {roles[role] + 1} of {which} ({shown}) {told}"
                self.remarks.append(f"{column}, name the columns in a first line: {header}")

    def rows_of(self, table: Path, lines: Iterator[Cells]) -> Iterator[Row]:
        width, roles = self.shapes[table]
        needed = 1 + max(roles.get(role, 1) for role in ("audio", "text", "speaker"))
        for number, cells, problem in lines:
            where = f"{table.name}, line {number}"
            if not problem and not needed <= len(cells) <= width:
                problem = f"it has {len(cells)} cells instead of {width}"
            if problem:
                yield Row(where, problem=problem)
            else:
                yield self.row(table, where, {role: cells[i] for role, i in roles.items() if i < len(cells)})

    def row(self, table: Path, where: str, cells: dict[str, str]) -> Row:
        nobody = {"speaker": ""} if "unclear" in cells else {}
        return row_of(where, {"text": "", **cells, **nobody}, table.parent)


class OpenSlr(ListedTables):
    """OpenSLR's crowd-sourced sets: kaf_03209_00443170675 is language and gender, speaker, utterance."""

    format = "openslr"
    names: ClassVar = re.compile(r"([a-z]+)_(\d+)_\d+")
    expects = "line_index.tsv (or line_index_female.tsv …) with id<TAB>text, beside the recordings"

    def tables(self) -> list[Path]:
        return [table for table in sorted(self.folder.glob("line_index*.tsv")) if self.may_read(table)]

    def rows_of(self, table: Path, lines: Iterator[Cells]) -> Iterator[Row]:
        for number, cells, problem in lines:
            where = f"{table.name}, line {number}"
            if not problem and len(cells) < 2:
                problem = "it has 1 cell instead of 2"
            if problem:
                yield Row(where, problem=problem)
                continue
            name = self.names.fullmatch(cells[0])
            yield Row(where, cells[0], cells[-1], name[2] if name else "", bool(name), beside=table.parent)

    def scope(self, row: Row) -> str:
        """A woman and a man of one number are two."""
        name = self.names.fullmatch(row.audio)
        return f"{self.folder}/{name[1] if name else ''}"


class MAiLabs(ListedTables):
    """M-AILABS: ka_GE/by_book/female/nino/book/metadata.csv, id|original|normalised, beside wavs/."""

    format = "mailabs"
    expects = "by_book/<gender>/<reader>/<book>/metadata.csv, beside wavs/"

    def tables(self) -> list[Path]:
        found = [t for depth in range(1, 3) for t in self.folder.glob("*/" * depth + "by_book/*/**/metadata.csv")]
        found += self.folder.glob("by_book/*/**/metadata.csv")
        return sorted({table for table in found if self.may_read(table) and (table.parent / "wavs").is_dir()})

    def row(self, table: Path, where: str, cells: dict[str, str]) -> Row:
        row = super().row(table, where, cells)
        parts = table.parent.relative_to(self.folder).parts
        below = parts[parts.index("by_book") + 1 :]  # gender, reader, book; mix, book where there are several readers
        reader = below[1] if len(below) > 2 and below[0] != "mix" else ""
        where = f"{table.relative_to(self.folder)}{where.removeprefix(table.name)}"
        return Row(where, row.audio, row.text, reader, bool(reader), beside=table.parent)


class Esd(ListedTables):
    """ESD: 0001/0001.txt with id, text and emotion, and 0001/Angry/0001_000351.wav (or Angry/train/ and so on)."""

    format = "esd"
    expects = "a folder for each speaker, with a table of its name: 0001/0001.txt with id<TAB>text<TAB>emotion"
    delimiters: ClassVar[str] = "\t|"

    def tables(self) -> list[Path]:
        tables = [*sorted(self.folder.glob("*/*.txt")), self.folder / f"{self.folder.name}.txt"]
        return [table for table in tables if table.stem == table.parent.name and self.is_mine(table)]

    def is_mine(self, table: Path) -> bool:
        if not self.may_read(table) or not common_delimiter(table, self.delimiters):
            return False
        recordings = self._recordings(table.parent)
        first = [cells[0] for _, cells, _ in itertools.islice(self.cells_of(table), SNIFFED_LINES)]
        return any(name in recordings for name in first)

    @cached_property
    def shapes(self) -> dict[Path, tuple[int, dict[str, int]]]:
        return dict.fromkeys(self.tables(), (3, {"audio": 0, "text": 1}))

    def rows(self) -> Iterator[Row]:
        for table in self.tables():
            recordings = self._recordings(table.parent)
            for row in self.rows_of(table, self.cells_of(table)):
                audio = recordings.get(row.audio, row.audio)
                yield replace(row, audio=audio, speaker=table.parent.name, where=f"{table.parent.name}/{row.where}")

    @staticmethod
    def _recordings(folder: Path) -> dict[str, str]:
        """Name without suffix → path in the folder of a speaker."""
        files = (os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if has_audio_suffix(name))
        return {os.path.splitext(os.path.basename(file))[0]: os.path.relpath(file, folder) for file in sorted(files)}


class Transcripts(ListedTables):
    """transcripts.txt, or LibriSpeech's 19-198.trans.txt: a recording's name, white space, and its text."""

    format = "transcripts"
    expects = "transcripts.txt with a recording's name and its text on each line"

    def tables(self) -> list[Path]:
        below = self.folder.glob("**/*.trans.txt")
        beside = [
            file for file in self.files(".txt") if not (file.name.endswith(".trans.txt") or self._is_transcript(file))
        ]
        return sorted(t for t in (*below, *beside) if self.may_read(t) and self.is_mine(t))

    def is_mine(self, table: Path) -> bool:
        words = [line.split(None, 1) for line in first_lines(table)]
        named = sum(len(pair) == 2 and self.exists(table, pair[0].rstrip(":|,;")) for pair in words)
        return bool(named) and named * 2 >= len(words)

    def rows(self) -> Iterator[Row]:
        for table in self.tables():
            name = os.path.relpath(table, self.folder)
            for number, line, problem in text_lines(table):
                audio, _, text = line.strip().partition(" ") if "\t" not in line else line.strip().partition("\t")
                if line.strip() or problem:
                    yield Row(
                        f"{name}, line {number}",
                        audio.rstrip(":|,;"),
                        text.strip(),
                        problem=problem,
                        beside=table.parent,
                    )


class Fleurs(Corpus):
    format = "fleurs"
    expects = "train.tsv, dev.tsv, test.tsv without a header, beside audio/train/ and so on"
    parts: ClassVar = {"train": "train", "dev": "val", "test": "test"}

    def tables(self) -> list[Path]:
        return [table for name in self.parts if self._is_mine(table := self.folder / f"{name}.tsv")]

    def family(self) -> list[Path]:
        return sorted(self.folder.glob("*.tsv"))

    def _is_mine(self, table: Path) -> bool:
        cells = first_lines(table, 1)[0].split("\t") if self.may_read(table) and first_lines(table, 1) else []
        return len(cells) > 2 and cells[0].strip().isdigit() and has_audio_suffix(cells[1].strip())

    def rows(self) -> Iterator[Row]:
        for table in self.tables():
            for number, cells, problem in read_cells(table, "\t", lambda count: count > 2):
                where = f"{table.name}, line {number}"
                if not problem and not 3 <= len(cells) <= 7:
                    problem = f"it has {len(cells)} cells instead of 7"
                if problem:
                    yield Row(where, problem=problem)
                    continue
                gender = cells[6].lower() if len(cells) > 6 else ""  # all that FLEURS tells of its speakers
                speaker = f"fleurs_{gender}" if gender in ("male", "female", "other") else "fleurs"
                split = self.parts[table.stem]
                yield Row(where, cells[1], cells[2], speaker, False, split=split, beside=table.parent)

    def folders_of(self, row: Row) -> Sequence[str]:
        part = next((part for part, split in self.parts.items() if split == row.split), "train")
        return f"audio/{part}", part, "audio"
