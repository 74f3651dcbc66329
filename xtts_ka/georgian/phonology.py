"""Georgian sounds by rule: letters → IPA at two levels, and Latin spelling.

Broad: one phoneme a letter. Narrow: the broad transcription with the allophones that depend on their neighbours. The
rules look at letters, because in Georgian a letter is a phoneme, and give each letter a *chunk* of zero or more phones.

The narrow rules, in the order in which they apply:

1. Labialisation. Consonant + ვ + vowel → Cʷ + vowel; the ვ has no phone of its own: ცხვარი [t͡s xʷ ɑ r i]. Not
   after the labials ბ ფ პ მ ვ, where lip rounding has nothing to add: გეგმვა [ɡ ɛ ɡ m v ɑ].
2. ვ → f before a voiceless consonant: კავკასია [kʼ ɑ f kʼ ɑ s i ɑ]; ვ → w between a consonant other than a labial and
   a voiced consonant: გვრიტი [ɡ w r i tʼ i]. Elsewhere v.
3. Word-final devoicing of the stops ბ დ გ, which become aspirated: კარგად [kʼ ɑ r ɡ ɑ tʰ]. A lone consonant (the name
   of a letter) is no word and stays.
4. ნ → ŋ before the velar stops გ კ ქ: ბანკი [b ɑ ŋ kʼ i].
5. Dark l. ლ → ɫ before the back vowels ɑ ɔ u, after rule 1 has removed a ვ between them: ლამაზი [ɫ ɑ m ɑ z i],
   ალვა [ɑ ɫʷ ɑ]; plain l before ɛ i, before consonants and at the end of a word: ხელი [x ɛ l i].

Two more, off unless the config's `phonemes.allophones` names them, because speakers vary freely:

* `final_fricatives`: ვ ზ ჟ ღ ძ ჯ too are voiceless at the end of a word: ვაზ [v ɑ s], თავ [tʰ ɑ f].
* `initial_stops`: ბ დ გ before a vowel or sonorant that begin a word are voiced weakly: დედა [d̥ ɛ d ɑ].

Where they come from. 1, 5 and the possible devoicing of final b d g stand in descriptions of the language: Shosted &
Chikovani 2006, "Standard Georgian", JIPA 36, and the key to Georgian of Wikipedia's IPA help, which follows it; Aronson
1990, "Georgian: A Reading Grammar", and Butskhrikidze 2002, "The Consonant Phonotactics of Georgian", treat ვ beside
consonants (1 and 2). That 3 is applied always, to the stops and to them alone, 4, and the marks of `initial_stops` are
the practice of lexica that are themselves made by rule (Wiktionary's transcriptions, which WikiPron collects): agreeing
with such a lexicon shows that the rules are the same, not that speakers follow them. Nothing here was measured in
recordings.

Left out because speakers vary freely: tapped and trilled r, fricated qʼ, the dropped ვ of ვუ-.

The five letters that the reform of 1879 removed keep their Old Georgian values (Shanidze's grammar; the same values
stand in Wiktionary): ჱ ɛj, ჲ j, ჳ wi, ჴ qʰ, ჵ ɔː.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

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
_FINAL_STOPS = dict(zip("ბდგ", "ფთქ", strict=True))
_FINAL_FRICATIVES = dict(zip("ზჟღძჯ", "სშხცჩ", strict=True))
_WEAK = {"ბ": "b̥", "დ": "d̥", "გ": "ɡ̊"}
_VELAR_STOPS = frozenset("გკქ")
_SONORANTS = frozenset("მნრლ")
OPTIONAL_RULES = ("final_fricatives", "initial_stops")
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


def narrow_chunks(letters: str, convention: Convention = CONVENTION, optional: Collection[str] = ()) -> list[Chunk]:
    """One chunk of allophones (none for an absorbed ვ) for each of the Mkhedruli `letters`, by the rules above.

    optional: which of `OPTIONAL_RULES` apply.
    """
    is_word = any(letter in _VOWELS for letter in letters)
    chunks = [
        _vin(letters, i, convention) if letters[i] == "ვ" else _allophone(letters, i, is_word, convention)
        for i in range(len(letters))
    ]
    if is_word and "final_fricatives" in optional:
        last = letters[-1]
        if last in _FINAL_FRICATIVES:
            chunks[-1] = convention[_FINAL_FRICATIVES[last]]
        elif chunks[-1] == convention["ვ"] and last == "ვ":
            chunks[-1] = ("f",)
    if is_word and "initial_stops" in optional and letters[0] in _WEAK and letters[1:2] in _VOWELS | _SONORANTS:
        chunks[0] = (_WEAK[letters[0]],)
    return chunks


def _absorbed(letters: str, i: int) -> bool:
    """True when the letter at `i` is a ვ heard only as the rounding of the consonant before it (rule 1)."""
    inside = 0 < i < len(letters) - 1
    return inside and letters[i] == "ვ" and letters[i - 1] in _LABIALISABLE and letters[i + 1] in _VOWELS


def _vin(letters: str, i: int, convention: Convention) -> Chunk:
    if _absorbed(letters, i):
        return ()
    following = letters[i + 1 : i + 2]
    if following in _VOICELESS:
        return ("f",)
    if i and letters[i - 1] in _LABIALISABLE and following in _CONSONANTS:
        return ("w",)
    return convention["ვ"]


def _allophone(letters: str, i: int, is_word: bool, convention: Convention) -> Chunk:
    letter = letters[i]
    if is_word and i == len(letters) - 1:
        return convention[_FINAL_STOPS.get(letter, letter)]
    if letter == "ნ" and letters[i + 1 : i + 2] in _VELAR_STOPS:
        return ("ŋ",)
    rounded = _absorbed(letters, i + 1)
    next_sound = letters[i + 2 if rounded else i + 1 :][:1]
    chunk = ("ɫ",) if letter == "ლ" and next_sound in _BACK_VOWELS else convention[letter]
    return (*chunk[:-1], chunk[-1] + "ʷ") if rounded else chunk


def inventory(convention: Convention = CONVENTION, *, narrow: bool = False) -> list[str]:
    """Every symbol that the rules can give, without repeats, in the order of the alphabet.

    `narrow` adds the allophones (Cʷ ɫ ŋ f w), and those of the optional rules.
    """
    symbols = [symbol for chunk in convention.values() for symbol in chunk]
    if narrow:
        symbols += [chunk[-1] + "ʷ" for letter, chunk in convention.items() if letter in _LABIALISABLE]
        symbols += ["ɫ", "ɫʷ", "ŋ", "f", "w", *_WEAK.values()]
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
