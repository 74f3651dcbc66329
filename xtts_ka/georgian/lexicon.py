"""Reads pronunciation lexicons in WikiPron's form: `word<TAB>p h o n e s`, one pronunciation a line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import text_lines
from xtts_ka.georgian.alphabet import georgian_letters, is_all_georgian


@dataclass(slots=True)
class Lexicon:
    """Pronunciations from files, and how many rows were left out."""

    entries: dict[str, list[str]] = field(default_factory=dict)
    left_out: int = 0


def read_lexicon(path: Path | str, lexicon: Lexicon) -> None:
    """Add the rows of a file to `lexicon`; blank lines are skipped.

    Words are folded to Mkhedruli. Left out are rows whose word has anything but Georgian letters (affixes with hyphens,
    phrases), and all pronunciations of a word but the first. Raises UserError naming file and line for a row without
    two columns or bytes that are not UTF-8, and naming the file where no row is usable.
    """
    usable = False
    for number, line in text_lines(path, "lexicon"):
        if not line.strip():
            continue
        word, *phones = (column.strip() for column in line.split("\t"))
        if not word or len(phones) != 1 or not phones[0]:
            raise UserError(
                f"lexicon {path}, line {number}: {line[:40]!r} is not word<TAB>p h o n e s; correct or delete it"
            )
        letters, georgian = georgian_letters(word), is_all_georgian(word)
        usable |= georgian
        if georgian and letters not in lexicon.entries:
            lexicon.entries[letters] = phones[0].split()
        else:
            lexicon.left_out += 1
    if not usable:
        raise UserError(
            f"lexicon {path} has no Georgian word: give lines of word<TAB>p h o n e s, or take it out of "
            "phonemes.lexicon_paths"
        )
