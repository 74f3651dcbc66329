"""Georgian sounds by rule: letters → IPA at two levels, and Latin spelling.

Broad: one phoneme a letter. Narrow: the broad transcription with the allophones that depend on their neighbours. The
rules look at letters, because in Georgian a letter is a phoneme, and give each letter a *chunk* of zero or more phones.

The narrow rules, in the order in which they apply (sources: Shosted & Chikovani 2006, "Standard Georgian", JIPA 36;
Aronson 1990, "Georgian: A Reading Grammar"; Butskhrikidze 2002, "The Consonant Phonotactics of Georgian"):

1. Labialisation. Consonant + ვ + vowel → Cʷ + vowel; the ვ has no phone of its own: ცხვარი [t͡s xʷ ɑ r i]. Not
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

from collections.abc import Mapping

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS, VOWELS

Chunk = tuple[str, ...]  # the phones of one letter
Convention = Mapping[str, Chunk]  # letter → its phonemes

# ── the letters and their phonemes ───────────────────────────────────────────────────────────────────────────────────

_PHONEMES = "ɑ b ɡ d ɛ v z tʰ i kʼ l m n ɔ pʼ ʒ r s tʼ u pʰ kʰ ɣ qʼ ʃ t͡ʃ t͡s d͡z t͡sʼ t͡ʃʼ x d͡ʒ h".split()
_ARCHAIC_PHONEMES = (("ɛ", "j"), ("j",), ("w", "i"), ("qʰ",), ("ɔː",))
CONVENTION: dict[str, Chunk] = {letter: (phoneme,) for letter, phoneme in zip(GEORGIAN_LETTERS, _PHONEMES, strict=True)}
CONVENTION |= zip(ARCHAIC_LETTERS, _ARCHAIC_PHONEMES, strict=True)

_VOWELS = frozenset(VOWELS + "ჱჵ")
_BACK_VOWELS = frozenset("აოუჵ")
_CONSONANTS = frozenset(CONVENTION) - _VOWELS - {"ჳ"}
_VOICELESS = frozenset("თკპსტფქყშჩცწჭხჰჴ")
_DEVOICED = dict(zip("ბდგზჟღძჯ", "ფთქსშხცჩ", strict=True))
_LABIALISABLE = _CONSONANTS - frozenset("ბფპმვჲ")


def convention_with(overrides: Mapping[str, str]) -> dict[str, Chunk]:
    """The default convention with some letters spelled otherwise: {"ა": "a", "ჱ": "e i"} (phones apart by spaces).

    Raises UserError for a key that is not one Georgian letter or a value with no symbol.
    """
    letters = GEORGIAN_LETTERS + ARCHAIC_LETTERS
    for letter, symbols in overrides.items():
        if letter not in CONVENTION:
            raise UserError(f"phonemes.convention has {letter!r}, which is not one of the letters {letters}")
        if not symbols.split():
            raise UserError(f"phonemes.convention gives {letter} no symbol: write one, such as {CONVENTION[letter][0]}")
    return CONVENTION | {letter: tuple(symbols.split()) for letter, symbols in overrides.items()}


# ── transcription ────────────────────────────────────────────────────────────────────────────────────────────────────


def broad_chunks(letters: str, convention: Convention = CONVENTION) -> list[Chunk]:
    """One chunk of phonemes for each of the Mkhedruli `letters`."""
    return [convention[letter] for letter in letters]


def narrow_chunks(letters: str, convention: Convention = CONVENTION) -> list[Chunk]:
    """One chunk of allophones (none for an absorbed ვ) for each of the Mkhedruli `letters`, by the rules above."""
    is_word = any(letter in _VOWELS for letter in letters)
    return [
        _vin(letters, i, is_word, convention) if letters[i] == "ვ" else _allophone(letters, i, is_word, convention)
        for i in range(len(letters))
    ]


def _absorbed(letters: str, i: int) -> bool:
    """True when the letter at `i` is a ვ heard only as the rounding of the consonant before it (rule 1)."""
    inside = 0 < i < len(letters) - 1
    return inside and letters[i] == "ვ" and letters[i - 1] in _LABIALISABLE and letters[i + 1] in _VOWELS


def _vin(letters: str, i: int, is_word: bool, convention: Convention) -> Chunk:
    if _absorbed(letters, i):
        return ()
    following = letters[i + 1 : i + 2]
    if following in _VOICELESS or (not following and is_word):
        return ("f",)
    if i and letters[i - 1] in _LABIALISABLE and following in _CONSONANTS:
        return ("w",)
    return convention["ვ"]


def _allophone(letters: str, i: int, is_word: bool, convention: Convention) -> Chunk:
    letter = letters[i]
    if is_word and i == len(letters) - 1:
        return convention[_DEVOICED.get(letter, letter)]
    rounded = _absorbed(letters, i + 1)
    next_sound = letters[i + 2 if rounded else i + 1 :][:1]
    chunk = ("ɫ",) if letter == "ლ" and next_sound in _BACK_VOWELS else convention[letter]
    return (*chunk[:-1], chunk[-1] + "ʷ") if rounded else chunk


def inventory(convention: Convention = CONVENTION, *, narrow: bool = False) -> list[str]:
    """Every symbol that the rules can give, without repeats, in the order of the alphabet.

    `narrow` adds the allophones (Cʷ ɫ f w).
    """
    symbols = [symbol for chunk in convention.values() for symbol in chunk]
    if narrow:
        symbols += [chunk[-1] + "ʷ" for letter, chunk in convention.items() if letter in _LABIALISABLE]
        symbols += ["ɫ", "ɫʷ", "f", "w"]
    return list(dict.fromkeys(symbols))


# ── Latin spelling ───────────────────────────────────────────────────────────────────────────────────────────────────

_LATIN = dict(
    zip(
        GEORGIAN_LETTERS + ARCHAIC_LETTERS,
        "a b g d e v z t i k l m n o p zh r s t u p k gh q sh ch ts dz ts ch kh j h ey y vi q o".split(),
        strict=True,
    )
)


def romanise(letters: str) -> str:
    """Mkhedruli `letters` in the Latin spelling that a reader of XTTS's own languages would say most like them.

    Ejective and aspirated stops have one spelling, as those languages have one series of voiceless stops.
    """
    return "".join(_LATIN[letter] for letter in letters)
