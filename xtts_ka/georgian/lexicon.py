"""Reads pronunciation lexicons in WikiPron's form: `word<TAB>p h o n e s`, one pronunciation a line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import text_lines
from xtts_ka.georgian.alphabet import georgian_letters, is_all_georgian


@dataclass(slots=True)
class Lexicon:
    """Pronunciations from files: the first of each word, and the counts of further ones and of non-Georgian rows."""

    entries: dict[str, list[str]] = field(default_factory=dict)
    alternatives: int = 0
    not_georgian: int = 0


def read_lexicon(path: Path | str, lexicon: Lexicon) -> None:
    """Add the rows of a file to `lexicon`; blank lines are skipped.

    A word that is listed again is another pronunciation: the first is kept. Words are folded to Mkhedruli; rows whose
    word has anything but Georgian letters (affixes with hyphens, phrases) are counted and left out. Raises UserError
    naming file and line for a wrong number of columns, an empty column or bytes that are not UTF-8, and naming the file
    where no row is usable.
    """
    usable = 0
    for number, line in text_lines(path, "lexicon"):
        if not line.strip():
            continue
        word, phones = _columns(line, f"lexicon {path}, line {number}")
        if not is_all_georgian(word):
            lexicon.not_georgian += 1
            continue
        usable += 1
        if lexicon.entries.setdefault(georgian_letters(word), phones) is not phones:
            lexicon.alternatives += 1
    if not usable:
        raise UserError(
            f"lexicon {path} has no Georgian word: give lines of word<TAB>p h o n e s, or take it out of "
            "phonemes.lexicon_paths"
        )


def _columns(line: str, where: str) -> tuple[str, list[str]]:
    columns = line.split("\t")
    if len(columns) != 2:
        plural = "s" * (len(columns) != 1)
        raise UserError(f"{where}: {len(columns)} column{plural} where word<TAB>p h o n e s has 2")
    word, phones = columns[0].strip(), columns[1].split()
    if not word or not phones:
        raise UserError(f"{where}: the {'pronunciation' if word else 'word'} is empty; fill it in or delete the line")
    return word, phones
