"""Reads tables of cells as spreadsheets, pandas and corpora write them, row by row and in bounded memory.

Encoding: UTF-8, or what a byte-order mark says (UTF-16, UTF-32). Quotation marks follow RFC 4180 where a cell is
quoted from its first character to its last: then it may hold delimiters, doubled marks and line breaks. Any other
quotation mark is text, because Common Voice and LJSpeech write tabs and pipes without quoting.
"""

from __future__ import annotations

import codecs
import io
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from xtts_ka.corpus.tables import MAX_LINE_BYTES, numbered_lines

MAX_JOINED_LINES = 100  # of one quoted cell: a mark that nothing closes must not swallow the rest of the table
SNIFFED_LINES = 20  # or rows, that decide the delimiter of a table without a header
DELIMITERS = "|\t;,"  # tried in this order: commas and semicolons also stand in sentences

# UTF-32 first, because its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
NOT_UTF8 = "not UTF-8: save it as UTF-8 (in Notepad or Excel: Save as, encoding UTF-8)"

Cells = tuple[int, list[str], str]  # line number, cells, problem


def encoding_of(head: bytes) -> str:
    """The encoding that the first bytes of a file tell: by a byte-order mark, or by UTF-16's many zero bytes."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if len(head) >= 4 and b"\0" in head:  # line ends and digits of UTF-16 have a zero byte on one side
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) * 20 > len(head) and not min(even, odd):
            return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def decode(data: bytes) -> str:
    """The text of a small file. UnicodeDecodeError where it is not what its first bytes tell."""
    return data.decode(encoding_of(data[:4096]))


def text_lines(table: Path) -> Iterator[tuple[int, str, str]]:
    """(number, line without its end, problem) of a table; lines may end in CR, LF or both."""
    with open(table, "rb") as file:
        head = file.read(2**16)
        encoding = encoding_of(head[:4096])
        only_cr = b"\r" in head and b"\n" not in head
        if encoding in ("utf-8", "utf-8-sig") and not only_cr:
            lines: Iterator[tuple[int, str, str]] = numbered_lines(table)
        else:
            file.seek(0)
            lines = _other_lines(io.TextIOWrapper(file, encoding, newline=None), encoding)
        for number, line, problem in lines:
            yield number, line.rstrip("\r\n"), problem


def _other_lines(file: io.TextIOWrapper, encoding: str) -> Iterator[tuple[int, str, str]]:
    for number in itertools.count(1):
        try:
            line = file.readline(MAX_LINE_BYTES)
        except UnicodeError as error:
            yield number, "", f"the table is not {encoding.upper()} from here on ({error.__class__.__name__})"
            return
        if not line:
            return
        problem = ""
        if len(line) >= MAX_LINE_BYTES and not line.endswith("\n"):
            problem = f"the line is longer than {MAX_LINE_BYTES} characters"
            while line and not line.endswith("\n"):
                line = file.readline(MAX_LINE_BYTES)
            line = ""
        yield number, line, problem


def split_line(text: str, delimiter: str) -> tuple[list[str], bool]:
    """(cells, whether the last cell is quoted and not closed); where it is open its mark is taken as text."""
    if '"' not in text:
        return [cell.strip() for cell in text.split(delimiter)], False
    quoted, plain = _patterns(delimiter)
    cells, place = [], 0
    while True:
        if match := quoted.match(text, place):
            cells.append(" ".join(match[1].replace('""', '"').split("\n")).strip())
        else:
            if _OPEN.match(text, place):
                return [*cells, *(cell.strip() for cell in text[place:].split(delimiter))], True
            match = plain.match(text, place)
            assert match  # it matches everywhere, the empty string too
            cells.append(match[1].strip())
        if match.end() == len(text) and not match[0].endswith(delimiter):
            return cells, False
        place = match.end()


_OPEN = re.compile(r'[^\S\t]*"(?:[^"]++|"")*+\Z')


def _patterns(delimiter: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    if delimiter not in _CACHE:
        mark = re.escape(delimiter)
        quoted = re.compile(rf'[^\S\t\n]*"((?:[^"]++|"")*+)"[^\S\t\n]*(?:{mark}|\Z)')
        _CACHE[delimiter] = quoted, re.compile(rf"([^{mark}]*)(?:{mark}|\Z)")
    return _CACHE[delimiter]


_CACHE: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {}


def read_cells(table: Path, delimiter: str, is_row: Callable[[int], bool]) -> Iterator[Cells]:
    """Yield (number of its first line, cells, problem) of every row that is not blank.

    is_row: whether a number of cells makes a row. A quoted cell with line breaks is joined where that gives a row; with
    tabs and pipes, only where its lines are no rows on their own.
    """
    strict = delimiter in ",;"
    lines = text_lines(table)
    waiting: deque[tuple[int, str, str]] = deque()
    while waiting or (line := next(lines, None)):
        number, text, problem = waiting.popleft() if waiting else line  # type: ignore[misc]
        if problem:
            yield number, [], problem
            continue
        if not text.strip():
            continue
        cells, is_open = split_line(text, delimiter)
        if is_open:
            joined = _joined(text, lines, waiting, delimiter, is_row, may_stand=not strict and is_row(len(cells)))
            cells = joined or cells
        yield number, cells, ""


def _joined(
    text: str,
    lines: Iterator[tuple[int, str, str]],
    waiting: deque[tuple[int, str, str]],
    delimiter: str,
    is_row: Callable[[int], bool],
    may_stand: bool,
) -> list[str]:
    """The cells of `text` and the lines that its open cell goes on in; none where they do not make a row.

    may_stand: whether the line is a row by itself; then it stays one unless the line after it is none.
    """
    for used in range(1, MAX_JOINED_LINES + 1):
        if used > len(waiting):
            line = next(lines, None)
            if line is None:
                return []
            waiting.append(line)
        _, more, problem = waiting[used - 1]
        if problem or len(text) + len(more) > MAX_LINE_BYTES:
            return []
        if may_stand and is_row(len(split_line(more, delimiter)[0])):
            return []
        text = f"{text}\n{more}"
        cells, is_open = split_line(text, delimiter)
        if not is_open:
            if not is_row(len(cells)) or "\n" in "".join(cells):
                return []
            for _ in range(used):
                waiting.popleft()
            return cells
    return []


def first_lines(table: Path, count: int = SNIFFED_LINES) -> list[str]:
    """The first lines that are not blank and can be read."""
    readable = (line for _, line, problem in text_lines(table) if not problem and line.strip())
    return list(itertools.islice(readable, count))


def common_delimiter(table: Path, delimiters: str = DELIMITERS, count: int = SNIFFED_LINES) -> str:
    """The first delimiter that stands in all but a tenth of a table's first rows; nothing where none does.

    Rows are counted, not lines, because a quoted cell may go on over several.
    """
    lines = first_lines(table, count)
    for delimiter in (each for each in delimiters if any(each in line for line in lines)):
        rows = itertools.islice(read_cells(table, delimiter, lambda width: width > 1), count)
        widths = [len(cells) for _, cells, problem in rows if not problem]
        if sum(width > 1 for width in widths) >= 0.9 * len(widths) > 0:
            return delimiter
    return ""


def trimmed(cells: list[str], width: int, padded: int) -> list[str]:
    """`cells` without the empty ones that a spreadsheet appends to every row, from `width` to `padded`.

    Only as many as the header has: a tab inside a sentence moves the cells, and the last may then be empty too.
    """
    return cells[:width] if width < len(cells) <= padded and not any(cells[width:]) else cells
