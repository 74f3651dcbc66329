"""Georgian sounds by rule: letters → IPA at two levels, Latin spelling of a phoneme sequence, articulatory features.

Broad: one phoneme a letter. Narrow: the broad transcription with the allophones that depend on their neighbours. The
rules look at letters, because in Georgian a letter is a phoneme, and give one *chunk* of zero or more phones a letter.

The narrow rules, in the order in which they apply (sources: Shosted & Chikovani 2006, "Standard Georgian", JIPA 36;
Aronson 1990, "Georgian: A Reading Grammar"; Butskhrikidze 2002, "The Consonant Phonotactics of Georgian"):

1. Labialisation. Consonant + ვ + vowel → Cʷ + vowel; the ვ has no segment of its own: ცხვარი [t͡s xʷ ɑ r i]. Not
   after the labials ბ ფ პ მ ვ, where lip rounding has nothing to add: გეგმვა [ɡ ɛ ɡ m v ɑ].
2. ვ → f before a voiceless consonant: კავკასია [kʼ ɑ f kʼ ɑ s i ɑ]; ვ → w between a consonant other than a labial and
   a voiced consonant: გვრიტი [ɡ w r i tʼ i]. Elsewhere v.
3. Word-final devoicing. A voiced obstruent that ends a word is voiceless, a stop aspirated too: კარგად
   [kʼ ɑ r ɡ ɑ tʰ], ვაზ [v ɑ s], თავ [tʰ ɑ f]. A lone consonant (the name of a letter) is no word and stays.
4. Dark l. ლ → ɫ before the back vowels ɑ ɔ u, after rule 1 has removed a ვ between them: ლამაზი [ɫ ɑ m ɑ z i],
   ალვა [ɑ ɫʷ ɑ]; plain l before ɛ i, before consonants and at the end of a word: ხელი [x ɛ l i].

Left out because speakers vary freely: tapped and trilled r, weakly voiced initial stops, fricated qʼ, the dropped ვ of
ვუ-.

The five letters that the reform of 1879 removed keep their Old Georgian values (Shanidze's grammar; the same values
stand in Wiktionary): ჱ ɛj, ჲ j, ჳ wi, ჴ qʰ, ჵ ɔː.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.alphabet import ALPHABET, ARCHAIC, fold_letters

if TYPE_CHECKING:
    import numpy as np

# ── the letters and their phonemes ───────────────────────────────────────────────────────────────────────────────────

_PHONEMES = "ɑ b ɡ d ɛ v z tʰ i kʼ l m n ɔ pʼ ʒ r s tʼ u pʰ kʰ ɣ qʼ ʃ t͡ʃ t͡s d͡z t͡sʼ t͡ʃʼ x d͡ʒ h".split()
CONVENTION: dict[str, tuple[str, ...]] = {
    **{letter: (phoneme,) for letter, phoneme in zip(ALPHABET, _PHONEMES, strict=True)},
    "ჱ": ("ɛ", "j"),
    "ჲ": ("j",),
    "ჳ": ("w", "i"),
    "ჴ": ("qʰ",),
    "ჵ": ("ɔː",),
}

_VOWELS = frozenset("აეიოუჱჵ")
_BACK_VOWELS = frozenset("აოუჵ")
_CONSONANTS = frozenset(CONVENTION) - _VOWELS - {"ჳ"}
_LABIALS = frozenset("ბფპმვ")
_VOICELESS = frozenset("თკპსტფქყშჩცწჭხჰჴ")
_DEVOICED = dict(zip("ბდგზჟღძჯ", "ფთქსშხცჩ", strict=True))
_LABIALISABLE = _CONSONANTS - _LABIALS - {"ჲ"}


def georgian_letters(word: str) -> str:
    """The Georgian letters of `word` in Mkhedruli, the rest (hyphens, digits, other scripts) left out."""
    return "".join(letter for letter in fold_letters(word) if letter in CONVENTION)


def is_all_georgian(word: str) -> bool:
    """True when `word` is Georgian letters and nothing else."""
    return bool(word) and all(letter in CONVENTION for letter in fold_letters(word))


def convention_with(overrides: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The default convention with some letters spelled otherwise: {"ა": "a", "ჱ": "e i"} (phones apart by spaces).

    Raises UserError for a key that is not one Georgian letter or a value with no symbol.
    """
    convention = dict(CONVENTION)
    for letter, symbols in overrides.items():
        if letter not in CONVENTION:
            raise UserError(f"phonemes.convention has {letter!r}, which is not one of the letters {ALPHABET}{ARCHAIC}")
        if not symbols.split():
            raise UserError(f"phonemes.convention gives {letter} no symbol: write one, such as {CONVENTION[letter][0]}")
        convention[letter] = tuple(symbols.split())
    return convention


# ── transcription ────────────────────────────────────────────────────────────────────────────────────────────────────


def broad_chunks(letters: str, convention: Mapping[str, tuple[str, ...]] = CONVENTION) -> list[tuple[str, ...]]:
    """One chunk of phonemes for each of the Mkhedruli `letters`."""
    return [convention[letter] for letter in letters]


def narrow_chunks(letters: str, convention: Mapping[str, tuple[str, ...]] = CONVENTION) -> list[tuple[str, ...]]:
    """One chunk of allophones (none for an absorbed ვ) for each of the Mkhedruli `letters`, by the rules above."""
    is_word = any(letter in _VOWELS for letter in letters)
    return [
        _vin(letters, i, is_word, convention) if letters[i] == "ვ" else _allophone(letters, i, is_word, convention)
        for i in range(len(letters))
    ]


def _absorbed(letters: str, i: int) -> bool:
    """True when the letter at `i` is a ვ that lives on only as the rounding of the consonant before it (rule 1)."""
    return (
        0 < i < len(letters) - 1 and letters[i] == "ვ" and letters[i - 1] in _LABIALISABLE and letters[i + 1] in _VOWELS
    )


def _vin(letters: str, i: int, is_word: bool, convention: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if _absorbed(letters, i):
        return ()
    following = letters[i + 1 : i + 2]
    if following in _VOICELESS or (not following and is_word):
        return ("f",)
    if i and letters[i - 1] in _LABIALISABLE and following in _CONSONANTS:
        return ("w",)
    return convention["ვ"]


def _allophone(letters: str, i: int, is_word: bool, convention: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    letter = letters[i]
    if is_word and i == len(letters) - 1:
        return convention[_DEVOICED.get(letter, letter)]
    rounded = _absorbed(letters, i + 1)
    next_sound = letters[i + 2 if rounded else i + 1 :][:1]
    chunk = ("ɫ",) if letter == "ლ" and next_sound in _BACK_VOWELS else convention[letter]
    return (*chunk[:-1], chunk[-1] + "ʷ") if rounded else chunk


def inventory(
    convention: Mapping[str, tuple[str, ...]] = CONVENTION, *, narrow: bool = False, archaic: bool = False
) -> list[str]:
    """Every symbol that the rules can give, without repeats, in the order of the alphabet.

    `narrow` adds the allophones (Cʷ ɫ f w), `archaic` the phonemes of the five archaic letters.
    """
    letters = ALPHABET + (ARCHAIC if archaic else "")
    symbols = [symbol for letter in letters for symbol in convention[letter]]
    if narrow:
        symbols += [convention[letter][-1] + "ʷ" for letter in letters if letter in _LABIALISABLE]
        symbols += ["ɫ", "ɫʷ", "f", "w"]
    return list(dict.fromkeys(symbols))


def default_symbols(convention: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Symbol of `convention` → the default convention's symbol for the same sound, where a letter has one of each.

    What `romanise` and `features` know are IPA symbols; this lets them read any convention.
    """
    same: dict[str, str] = {}
    for letter, symbols in convention.items():
        if len(symbols) == len(CONVENTION[letter]):
            for symbol, default in zip(symbols, CONVENTION[letter], strict=True):
                same.setdefault(symbol, default)
                same.setdefault(symbol + "ʷ", default + "ʷ")
    return same


# ── what a symbol is: articulatory features and Latin spelling ───────────────────────────────────────────────────────

FEATURES = (
    "vowel",
    "sonorant",
    "voiced",
    "ejective",
    "aspirated",
    "labialised",
    "long",
    "labial",
    "dental",
    "postalveolar",
    "palatal",
    "velar",
    "uvular",
    "glottal",
    "stop",
    "affricate",
    "fricative",
    "nasal",
    "lateral",
    "trill",
    "tap",
    "glide",
    "high",
    "mid",
    "low",
    "front",
    "central",
    "back",
    "rounded",
)

# Base symbol: (Latin spelling, its features). Georgian's symbols first, then those that other transcriptions use.
_SYMBOLS: dict[str, tuple[str, str]] = {
    "ɑ": ("a", "vowel voiced low back"),
    "ɛ": ("e", "vowel voiced mid front"),
    "i": ("i", "vowel voiced high front"),
    "ɔ": ("o", "vowel voiced mid back rounded"),
    "u": ("u", "vowel voiced high back rounded"),
    "b": ("b", "voiced labial stop"),
    "p": ("p", "labial stop"),
    "d": ("d", "voiced dental stop"),
    "t": ("t", "dental stop"),
    "ɡ": ("g", "voiced velar stop"),
    "k": ("k", "velar stop"),
    "q": ("q", "uvular stop"),
    "d͡z": ("dz", "voiced dental affricate"),
    "t͡s": ("ts", "dental affricate"),
    "d͡ʒ": ("j", "voiced postalveolar affricate"),
    "t͡ʃ": ("ch", "postalveolar affricate"),
    "v": ("v", "voiced labial fricative"),
    "f": ("f", "labial fricative"),
    "z": ("z", "voiced dental fricative"),
    "s": ("s", "dental fricative"),
    "ʒ": ("zh", "voiced postalveolar fricative"),
    "ʃ": ("sh", "postalveolar fricative"),
    "ɣ": ("gh", "voiced velar fricative"),
    "x": ("kh", "velar fricative"),
    "h": ("h", "glottal fricative"),
    "m": ("m", "sonorant voiced labial nasal"),
    "n": ("n", "sonorant voiced dental nasal"),
    "l": ("l", "sonorant voiced dental lateral"),
    "ɫ": ("l", "sonorant voiced dental velar lateral"),
    "r": ("r", "sonorant voiced dental trill"),
    "j": ("y", "sonorant voiced palatal glide"),
    "w": ("v", "sonorant voiced labial velar glide rounded"),
    "a": ("a", "vowel voiced low central"),
    "ä": ("a", "vowel voiced low central"),
    "e": ("e", "vowel voiced mid front"),
    "o": ("o", "vowel voiced mid back rounded"),
    "ɪ": ("i", "vowel voiced high front"),
    "ə": ("e", "vowel voiced mid central"),
    "g": ("g", "voiced velar stop"),
    "ʔ": ("", "glottal stop"),
    "ts": ("ts", "dental affricate"),
    "dz": ("dz", "voiced dental affricate"),
    "tʃ": ("ch", "postalveolar affricate"),
    "dʒ": ("j", "voiced postalveolar affricate"),
    "q͡χ": ("q", "uvular affricate"),
    "χ": ("kh", "uvular fricative"),
    "ʁ": ("gh", "voiced uvular fricative"),
    "ɾ": ("r", "sonorant voiced dental tap"),
    "β": ("v", "voiced labial fricative"),
    "ɸ": ("f", "labial fricative"),
    "ŋ": ("n", "sonorant voiced velar nasal"),
}
_MODIFIERS = {"ʼ": "ejective", "ʰ": "aspirated", "ʷ": "labialised", "ː": "long"}
_DIACRITICS = dict.fromkeys(map(ord, "\u0325\u030a\u032a\u0329\u032c\u031d\u031e\u0318\u0319"))  # fine detail


def _dissect(symbol: str) -> tuple[str, list[str]]:
    """(base symbol, modifiers) of an IPA symbol: "t͡sʼʷ" → ("t͡s", ["ʼ", "ʷ"])."""
    plain = symbol if symbol in _SYMBOLS else symbol.translate(_DIACRITICS)
    modifiers = [mark for mark in plain if mark in _MODIFIERS]
    return "".join(mark for mark in plain if mark not in _MODIFIERS), modifiers


def romanise(phonemes: Sequence[str]) -> str:
    """The Latin spelling of a phoneme sequence as a reader of XTTS's own languages would say it.

    ʃ sh, t͡ʃ ch, x kh, ɣ gh, t͡s ts, d͡z dz, ʒ zh, d͡ʒ j, qʼ q, j y; ejective and aspirated stops alike are plain; Cʷ
    is spelled with v. A symbol that is not in the table gives its ASCII letters, which may be none.
    """
    spelled = []
    for symbol in phonemes:
        base, modifiers = _dissect(symbol)
        latin = (
            _SYMBOLS[base][0]
            if base in _SYMBOLS
            else "".join(
                mark for mark in unicodedata.normalize("NFD", base).lower() if mark.isascii() and mark.isalpha()
            )
        )
        spelled.append(latin + "v" * ("ʷ" in modifiers))
    return "".join(spelled)


def features(symbol: str) -> np.ndarray:
    """Articulatory features of an IPA symbol as float32 0/1 of shape (len(FEATURES),), named by `FEATURES`.

    Raises UserError for a symbol that is not in the table.
    """
    import numpy as np

    base, modifiers = _dissect(symbol)
    if base not in _SYMBOLS:
        raise UserError(f"phoneme symbol {symbol!r} has no articulatory features: use IPA as in phonemes.convention")
    named = {*_SYMBOLS[base][1].split(), *(_MODIFIERS[mark] for mark in modifiers)}
    if "vowel" in named:
        named.add("sonorant")
    return np.array([name in named for name in FEATURES], dtype=np.float32)


def feature_table(symbols: Iterable[str]) -> np.ndarray:
    """`features` of several symbols, shape (number of symbols, len(FEATURES))."""
    import numpy as np

    rows = [features(symbol) for symbol in symbols]
    return np.stack(rows) if rows else np.zeros((0, len(FEATURES)), dtype=np.float32)
