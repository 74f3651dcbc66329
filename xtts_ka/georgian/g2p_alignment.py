"""Aligns a pronunciation lexicon: each letter of a word gets a chunk of its phones. Also a baseline and error rates.

Georgian spelling is nearly one letter to one phone, so grapheme-to-phoneme conversion is tagging: each letter gets a
chunk of zero to three phones. The chunks are found by hard expectation–maximisation (Viterbi alignment, as in
Jiampojamarn, Kondrak & Sherif 2007, "Applying many-to-many alignments", without the many-letter side).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from torchaudio.functional import edit_distance

from xtts_ka.georgian.phonology import Chunk

MAX_CHUNK = 3  # phones of one letter at most
_LENGTH_PRIOR = (0.04, 0.9, 0.05, 0.01)  # prior probability that a letter has 0, 1, 2, 3 phones
_PRIOR_WEIGHT = 0.5  # of the prior against the counts, in words
_ROUNDS = 4  # of expectation–maximisation at most


def align(lexicon: Mapping[str, Sequence[str]]) -> dict[str, list[Chunk]]:
    """The most likely chunks of each word: lists as long as the word, whose concatenation is its transcription.

    Words with more than MAX_CHUNK phones a letter cannot be aligned and are left out.
    """
    # The first counts are of the words with as many phones as letters.
    aligned: dict[str, list[Chunk]]
    aligned = {word: [(p,) for p in phones] for word, phones in lexicon.items() if len(word) == len(phones)}
    for _ in range(_ROUNDS):
        score, before = _log_probability(aligned), aligned
        found = {word: _align_word(word, tuple(phones), score) for word, phones in lexicon.items()}
        aligned = {word: chunks for word, chunks in found.items() if chunks is not None}
        if aligned == before:
            break
    return aligned


def _log_probability(aligned: Mapping[str, Sequence[Chunk]]) -> Callable[[str, Chunk], float]:
    """log P(chunk | letter) by the counts in `aligned`, smoothed by the length prior."""
    pairs = Counter(pair for word, chunks in aligned.items() for pair in zip(word, chunks, strict=True))
    letters = Counter("".join(aligned))

    @cache
    def score(letter: str, chunk: Chunk) -> float:
        count = pairs[letter, chunk] + _PRIOR_WEIGHT * _LENGTH_PRIOR[len(chunk)]
        return math.log(count / (letters[letter] + _PRIOR_WEIGHT))

    return score


def _align_word(word: str, phones: Chunk, score: Callable[[str, Chunk], float]) -> list[Chunk] | None:
    """Viterbi over (letters read, phones given); None when the word has too many phones."""
    paths: dict[int, tuple[float, list[Chunk]]] = {0: (0.0, [])}  # phones given so far → the best path
    for letter in word:
        longer: dict[int, tuple[float, list[Chunk]]] = {}
        # Where scores tie, the path that gave its phones sooner wins: in კვა → kʼʷ ɑ the phone belongs to კ and ვ is
        # silent. As it is so in every word, the counts of the next round become clear.
        for given, (before, chunks) in sorted(paths.items(), reverse=True):
            for end in range(given, min(given + MAX_CHUNK, len(phones)) + 1):
                total = before + score(letter, phones[given:end])
                if end not in longer or total > longer[end][0]:
                    longer[end] = (total, [*chunks, phones[given:end]])
        paths = longer
    return paths[len(phones)][1] if len(phones) in paths else None


class ContextTable:
    """The baseline for the network: a letter's most frequent chunk in the widest context that training saw.

    The contexts are ±3 letters, else ±2, else ±1, else the letter alone.
    """

    def __init__(self, aligned: Mapping[str, Sequence[Chunk]]):
        counts: dict[str, Counter[Chunk]] = defaultdict(Counter)
        for word, chunks in aligned.items():
            for i, chunk in enumerate(chunks):
                for context in _contexts(word, i):
                    counts[context][chunk] += 1
        # Of equally frequent chunks the first by symbol.
        self._chunks = {context: min(seen, key=lambda c: (-seen[c], c)) for context, seen in counts.items()}

    def phonemes(self, word: str) -> list[str]:
        """The table's transcription; a letter never seen in training gives nothing."""
        phones: list[str] = []
        for i in range(len(word)):
            phones += next((self._chunks[c] for c in _contexts(word, i) if c in self._chunks), ())
        return phones


def _contexts(word: str, i: int) -> list[str]:
    padded = f"^^^{word}$$$"
    return [padded[i + 3 - radius : i + 4 + radius] for radius in (3, 2, 1, 0)]


def error_rates(expected: Sequence[Sequence[str]], got: Sequence[Sequence[str]]) -> tuple[float | None, float | None]:
    """(word error rate, phoneme error rate), both as fractions; (None, None) when there is nothing to measure.

    WER: words not transcribed exactly / words. PER: edits / expected phones.
    """
    if not expected:
        return None, None
    edits = [edit_distance(e, g) for e, g in zip(expected, got, strict=True)]
    return sum(map(bool, edits)) / len(edits), sum(edits) / max(1, sum(map(len, expected)))
