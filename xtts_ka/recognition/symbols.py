"""The recogniser's symbols and their ids: CTC's blank, the space between words, the 33 letters."""

from __future__ import annotations

from collections.abc import Iterable

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS

BLANK, SPACE = 0, 1
SYMBOLS = ("", " ", *GEORGIAN_LETTERS)  # by id; the blank is written as nothing
_IDS = {symbol: number for number, symbol in enumerate(SYMBOLS) if symbol}


def encode(text: str) -> list[int]:
    """The ids of `listener.spoken_letters`; KeyError for any other character."""
    return [_IDS[letter] for letter in text]


def decode(ids: Iterable[int]) -> str:
    """The text of ids, blanks left out."""
    return "".join(SYMBOLS[i] for i in ids)
