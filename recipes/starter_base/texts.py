"""Step 1: random sentences in ten languages, written to `texts.jsonl.gz`.

The languages are those of XTTS whose spelling follows their sound, and Hindi, because its aspirated and plain stops are
near Georgian's. Words come from the lists of the package `wordfreq` (code Apache-2.0, lists CC BY-SA 4.0), common words
more often than rare ones, but less so than in real text: rare words hold the rarer sounds. Every line has the phonemes
too, as espeak-ng reads the sentence.

The order of the lines is random, so the first N lines are a sample of all. Neither `wordfreq` nor this step is needed
where `texts.jsonl.gz` has been copied to.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from starter_base.sizes import LANGUAGES
from xtts_ka.core.console import progress, say
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import write_bytes
from xtts_ka.starter.speech import loaded_espeak

TEXTS = "texts.jsonl.gz"
LATIN = "abcdefghijklmnopqrstuvwxyz"
# XTTS's language id → (letters of the words that are used, vowels one of which a word must have)
LETTERS = {
    "es": (LATIN + "áéíóúüñ", "aeiouáéíóúü"),
    "it": (LATIN + "àèéìòù", "aeiouàèéìòù"),
    "pl": (LATIN + "ąćęłńóśźż", "aeiouyąęó"),
    "cs": (LATIN + "áčďéěíňóřšťúůýž", "aeiouyáéěíóúůý"),
    "hu": (LATIN + "áéíóöőúüű", "aeiouáéíóöőúüű"),
    "tr": ("abcdefghijklmnoprstuvyzçğıöşü", "aeiouıöü"),
    "de": (LATIN + "äöüß", "aeiouyäöü"),
    "nl": (LATIN + "éëïöü", "aeiouyéëïöü"),
    "ru": ("абвгдежзийклмнопрстуфхцчшщъыьэюяё", "аеиоуыэюяё"),
    "hi": ("".join(map(chr, [*range(0x901, 0x904), *range(0x905, 0x93A), *range(0x93C, 0x94E)])), ""),
}
SENTENCES = 60_000
WORDS = 25_000  # of a list, from the commonest on
FLATTENING = 0.6  # words are drawn by their frequency to this power: 1 as in real text, 0 all equally often
LONG = 0.25  # share of long sentences
SHORT_LETTERS, LONG_LETTERS = (8, 36), (50, 125)  # letters of a sentence: under 3 s, and 4 to 10 s
MARKS, MARK_SHARES = (".", "?", "!"), (0.8, 0.12, 0.08)
COMMA = 0.18  # share of the words inside a sentence that a comma follows

_ASCII_NAMES = ord("\t") << 8  # espeak-ng's phoneme names, with tabs between them
_NOT_SOUNDS = re.compile(r"[',%=|]|_[:!^|]*|!$|;$")  # stress, pauses and the like in a phoneme's name


def run(work: Path, options: Any) -> None:
    write_texts(work)


def write_texts(work: Path, sentences: int = SENTENCES, seed: int = 14) -> None:
    """Write `work/texts.jsonl.gz`: {text, language, phonemes} a line, none twice."""
    rows = progress(list(_sentences(sentences, seed)), what="texts", unit="sentence")
    lines = [json.dumps(row, ensure_ascii=False) for row in _with_phonemes(rows)]
    data = gzip.compress(("\n".join(lines) + "\n").encode("utf-8"), 9, mtime=0)
    write_bytes(work / TEXTS, data)
    say(f"texts       {len(lines)} sentences, {len(data) / 1e6:.1f} MB")


def read_texts(work: Path, most: int | None = None) -> list[dict[str, str]]:
    """The first `most` lines of `work/texts.jsonl.gz`."""
    with gzip.open(work / TEXTS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(most or 10**9))]


def _sentences(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(text, language), the languages in turn."""
    rng = np.random.default_rng(seed)
    lists = {language: words_of(language) for language in LANGUAGES}
    said: set[str] = set()
    while len(said) < count:
        language = LANGUAGES[len(said) % len(LANGUAGES)]
        if (text := _sentence(*lists[language], rng)) not in said:
            said.add(text)
            yield text, language


def words_of(language: str) -> tuple[list[str], np.ndarray]:
    """Words that espeak-ng reads as words, and how often each is drawn."""
    from wordfreq import top_n_list, word_frequency

    letters, vowels = LETTERS[language]
    listed = top_n_list(language, 2 * WORDS)
    # espeak-ng spells out single letters and words without a vowel
    words = [w for w in listed if len(w) > 1 and set(w) <= set(letters) and (not vowels or set(w) & set(vowels))]
    if language == "hi":
        words = [word for word in words if "अ" <= word[0] <= "ह"]  # not a mark that belongs to a letter before it
    shares = np.array([word_frequency(word, language) for word in words[:WORDS]]) ** FLATTENING
    return words[:WORDS], shares / shares.sum()


def _sentence(words: list[str], shares: np.ndarray, rng: np.random.Generator) -> str:
    """Words up to a random number of letters, with commas between some and a mark at the end."""
    low, high = LONG_LETTERS if rng.random() < LONG else SHORT_LETTERS
    wanted, chosen = int(rng.integers(low, high + 1)), ""
    for word in rng.choice(len(words), size=high // 2, p=shares):
        comma = "," if chosen and rng.random() < COMMA else ""
        longer = f"{chosen}{comma} {words[word]}".strip()
        if chosen and len(longer) > wanted:
            break
        chosen = longer
    return chosen + str(rng.choice(MARKS, p=MARK_SHARES))


# ── phonemes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _with_phonemes(sentences: Iterable[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """Sentences in which espeak-ng speaks a word in another language are left out."""
    with loaded_espeak() as (library, _):
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        for text, language in sentences:
            if phonemes := _phonemes(library, text, language):
                yield {"text": text, "language": language, "phonemes": " ".join(phonemes)}


def phonemes_of(text: str, language: str) -> list[str]:
    """espeak-ng's names of the text's phonemes, without stress; [] where it changes the language."""
    with loaded_espeak() as (library, _):
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        return _phonemes(library, text, language)


def _phonemes(library: ctypes.CDLL, text: str, language: str) -> list[str]:
    if library.espeak_SetVoiceByName(language.encode()) != 0:
        raise RunError(f"espeak-ng has no language {language}: pip install --force-reinstall espeakng-loader")
    left, names = ctypes.c_char_p(text.encode("utf-8")), list[str]()
    while left.value:  # a clause at a time
        clause = library.espeak_TextToPhonemes(ctypes.byref(left), 1, _ASCII_NAMES)
        names += (clause or b"").decode("utf-8").split()
    if any("(" in name for name in names):
        return []
    sounds = [_NOT_SOUNDS.sub("", name) for name in names]
    return [sound for sound in sounds if sound]
