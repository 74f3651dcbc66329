"""The letters in which speech and text are compared, and the recogniser's symbols: blank, space and these letters."""

from __future__ import annotations

from collections.abc import Iterable

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS, RESPELLED, words
from xtts_ka.georgian.reading import Reading

PLAIN = Reading()
BLANK, SPACE = 0, 1
SYMBOLS = ("", " ", *GEORGIAN_LETTERS)  # by id; the blank is written as nothing
_IDS = {symbol: number for number, symbol in enumerate(SYMBOLS) if symbol}


def spoken_letters(text: str, reading: Reading = PLAIN) -> str:
    """`text` as the letters that are spoken: normalised by `reading`, words of the 33 letters with single spaces.

    Punctuation goes, a hyphenated word becomes its parts, and archaic letters become those they sound like.
    """
    return " ".join(words(reading(text).translate(RESPELLED)))


def encode(text: str) -> list[int]:
    """The ids of `spoken_letters`; KeyError for any other character."""
    return [_IDS[letter] for letter in text]


def decode(ids: Iterable[int]) -> str:
    """The text of ids, blanks left out."""
    return "".join(SYMBOLS[i] for i in ids)
