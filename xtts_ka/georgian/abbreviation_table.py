"""Reads a user's own abbreviations: a file of lines `abbreviation<TAB>reading`, the setting `text.abbreviations`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import text_lines
from xtts_ka.georgian.abbreviations import read_abbreviations
from xtts_ka.georgian.declension import decline
from xtts_ka.georgian.sentences import ends_sentence

_READING = re.compile("[ა-ჰ]+(?:[ -][ა-ჰ]+)*")
_FORM = "a line is abbreviation<TAB>reading, such as სდექ<TAB>საქართველოს დემოკრატიული კავშირი"


class AbbreviationTable:
    """Abbreviation → reading in the nominative, applied to whole tokens before everything else is read."""

    def __init__(self, readings: Mapping[str, str]):
        self.readings = dict(readings)
        self._by_letters = {_letters(key): reading for key, reading in readings.items()}
        alternatives = "|".join(map(_alternative, sorted(readings, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?<![\w-])(?P<key>{alternatives or '(?!)'})(?:-(?P<ending>[ა-ჵ]+))?")

    def read(self, text: str) -> str:
        """`text` with each abbreviation of the table expanded, its hyphenated ending joined to the reading."""
        return self._pattern.sub(self._expand, text) if self.readings else text

    def _expand(self, match: re.Match[str]) -> str:
        key, ending = match["key"], match["ending"] or ""
        over = key.endswith(".") and not ending and ends_sentence(match.string, match.end())
        after = match.string[match.end() : match.end() + 1]
        return decline(self._by_letters[_letters(key)], ending) + ("." if over else " " if after.isalnum() else "")

    def refers_to_itself(self, reading: str) -> bool:
        return self._pattern.search(reading) is not None


def _letters(key: str) -> str:
    return key.replace(". ", ".").rstrip(".")


def _alternative(key: str) -> str:
    """The pattern of a key: a space may follow each full stop in it, and the last may be missing before a hyphen."""
    inside = re.escape(_letters(key)).replace(r"\.", r"\. ?")
    return inside + (r"(?:\.|(?=-))" if key.endswith(".") else r"(?!\w)")


@lru_cache(maxsize=8)
def _cached(items: tuple[tuple[str, str], ...]) -> AbbreviationTable:
    return AbbreviationTable(dict(items))


def table_of(readings: Mapping[str, str]) -> AbbreviationTable:
    """The table of these readings, compiled once."""
    return _cached(tuple(readings.items()))


def load_abbreviations(path: Path | str) -> dict[str, str]:
    """The readings of a file; blank lines and lines that start with "# " are skipped.

    Raises UserError naming file and line for a wrong number of columns, an abbreviation with a space or listed twice, a
    reading that is not Georgian words, and one that is or holds an abbreviation itself.
    """
    readings: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in text_lines(path, "abbreviation table"):
        if not line.strip() or line.startswith("# "):
            continue
        key, reading = _columns(line, f"abbreviation table {path}, line {number}")
        if (letters := _letters(key)) in lines:
            raise UserError(f"abbreviation table {path}, line {number}: {key} stands in line {lines[letters]} already")
        readings[key], lines[letters] = reading, number
    table = AbbreviationTable(readings)
    for key, reading in readings.items():
        if table.refers_to_itself(reading) or read_abbreviations(reading) != reading:
            raise UserError(
                f"abbreviation table {path}, line {lines[_letters(key)]}: the reading {reading!r} holds an "
                f"abbreviation: write it out"
            )
    return readings


def _columns(line: str, where: str) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) != 2:
        raise UserError(f"{where}: {len(columns)} column{'s' * (len(columns) != 1)}, but {_FORM}")
    key, reading = columns[0].strip(), " ".join(columns[1].split())
    if not key or re.search(r"\s", key):
        raise UserError(f"{where}: the abbreviation {key!r} must be one token without a space")
    if not _READING.fullmatch(reading):
        raise UserError(f"{where}: the reading {reading!r} must be words in Georgian letters")
    return key, reading
