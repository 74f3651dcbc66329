"""The letters of Georgian, their other shapes, and the marks that a reading keeps: the only place for them."""

from __future__ import annotations

import re

GEORGIAN_LETTERS = "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"  # U+10D0–10F0
ARCHAIC_LETTERS = "ჱჲჳჴჵ"  # U+10F1–10F5, removed by the reform of 1879
VOWELS = "აეიოუ"
PUNCTUATION = ".,!?;:-"  # the marks that both a reading and XTTS's vocabulary have
READING_SYMBOLS = GEORGIAN_LETTERS + ARCHAIC_LETTERS + " " + PUNCTUATION  # all that a normalised text consists of

RESPELLED = str.maketrans({"ჱ": "ე", "ჲ": "ი", "ჳ": "ვი", "ჴ": "ხ", "ჵ": "ო"})  # as modern editions print them
LATIN_LETTER_NAMES = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "ეი ბი სი დი ი ეფ ჯი ეიჩ აი ჯეი კეი ელ ემ ენ ო პი ქიუ არ ეს თი იუ ვი დაბლიუ იქს უაი ზეტ".split(),
        strict=True,
    )
)


def _folding() -> dict[int, str]:
    """Code point of each Georgian letter outside the 38 of Mkhedruli → the Mkhedruli letters it is read as."""
    # Asomtavruli, Nuskhuri (church scripts) and Mtavruli (headings) list the 38 letters in Mkhedruli's order.
    table = {block + i: chr(0x10D0 + i) for block in (0x10A0, 0x2D00, 0x1C90) for i in range(38)}
    # Letters for Mingrelian, Svan and Abkhaz, and scribal signs: the nearest sound of Georgian, or none.
    for low, letter in zip(range(0xF6, 0x100), ("ფ", "", "", "გ", "", " ", "ნ", "ა", "", ""), strict=True):
        table[0x1000 + low] = letter
        if low not in (0xFB, 0xFC):  # U+1CBB and U+1CBC are not assigned
            table[0x1C00 + low - 0x40] = letter
    return table | {0x10C7: "", 0x2D27: "", 0x10CD: "ა", 0x2D2D: "ა"}


_FOLDING = _folding()
_OTHER_SHAPE = re.compile(f"[{''.join(map(chr, _FOLDING))}]")
_ANY_LETTER = re.compile(f"[ა-ჵ{''.join(chr(code) for code, letter in _FOLDING.items() if letter != ' ')}]")
_WORD = re.compile("[ა-ჵ]+")


def fold_letters(text: str) -> str:
    """`text` with every Georgian letter in Mkhedruli; other characters stay."""
    return _OTHER_SHAPE.sub(lambda shape: _FOLDING[ord(shape[0])], text)


def georgian_letters(text: str) -> str:
    """The Georgian letters of `text` in Mkhedruli, without anything else (hyphens, digits, other scripts)."""
    return "".join(words(fold_letters(text)))


def is_all_georgian(word: str) -> bool:
    """True when `word` is not empty and each of its characters is read as one Mkhedruli letter."""
    return bool(word) and len(georgian_letters(word)) == len(word)


def is_georgian(text: str) -> bool:
    """True if `text` has a letter of any Georgian alphabet (Mkhedruli, Mtavruli, Asomtavruli, Nuskhuri)."""
    return _ANY_LETTER.search(text) is not None


def georgian_fraction(text: str) -> float:
    """The share, 0 to 1, of the letters (Unicode category L) of raw `text` that are Georgian; 0 for none."""
    letters = sum(map(str.isalpha, text))
    return len(_ANY_LETTER.findall(text)) / letters if letters else 0.0


def words(text: str) -> list[str]:
    """The words of normalised `text`, letters only; a hyphenated word gives its parts."""
    return _WORD.findall(text)


def is_word(token: str) -> bool:
    """True when `token` is one or more Mkhedruli letters and nothing else."""
    return _WORD.fullmatch(token) is not None


def word_table(pairs: str, separator: str | None = None) -> dict[str, str]:
    """A table written as text, "key=value key=value"; `separator` (whitespace) stands between the pairs."""
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs.split(separator))}
