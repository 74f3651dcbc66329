"""The Georgian letters and marks that the whole project works with."""

from __future__ import annotations

import unicodedata

GEORGIAN_LETTERS = "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"
ARCHAIC_LETTERS = "ჱჲჳჴჵ"
PUNCTUATION = ".,!?;:-"  # the marks of XTTS's vocabulary that a reading keeps


def letter_folding() -> dict[int, str | None]:
    """Every Georgian letter of Unicode outside Mkhedruli's 38 → Mkhedruli."""
    table: dict[int, str | None] = {}
    for offset in range(0x26):  # the three alphabets list the 38 letters in the same order
        for block in (0x10A0, 0x2D00, 0x1C90):
            table[block + offset] = chr(0x10D0 + offset)
    # Letters for Mingrelian, Svan, Abkhaz and scribal signs: the nearest sound of Georgian, or none.
    rare = dict(zip(range(0xF6, 0x100), ("ფ", "", "", "გ", "", " ", "ნ", "ა", "", ""), strict=True))
    for low, letter in rare.items():
        table[0x1000 + low] = letter
        if low != 0xFB and low != 0xFC:
            table[0x1C00 + low - 0x40] = letter
    table |= {0x10C7: "", 0x2D27: "", 0x10CD: "ა", 0x2D2D: "ა"}
    return table


ALPHABET = "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"
ARCHAIC = "ჱჲჳჴჵ"
# Mtavruli (headings), Asomtavruli and Nuskhuri (church scripts) are the same letters in other shapes.
_FOLD = {first + i: 0x10D0 + i for first in (0x1C90, 0x10A0, 0x2D00) for i in range(38)}


def fold_letters(word: str) -> str:
    """The word in NFC with Mtavruli, Asomtavruli and Nuskhuri letters as Mkhedruli."""
    return unicodedata.normalize("NFC", word).translate(_FOLD)
