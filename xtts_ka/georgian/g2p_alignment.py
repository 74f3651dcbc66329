"""Aligns a pronunciation lexicon: each letter of a word gets a chunk of its phones. Also a baseline and error rates.

Georgian spelling is nearly one letter to one phone, so grapheme-to-phoneme conversion is tagging: each letter gets a
chunk of zero to three phones. The chunks are found by hard expectation–maximisation (Viterbi alignment, as in
Jiampojamarn, Kondrak & Sherif 2007, "Applying many-to-many alignments", without the many-letter side).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

from xtts_ka.georgian.phonology import Chunk

MAX_CHUNK = 3  # phones of one letter at most
_LENGTH_PRIOR = (0.04, 0.9, 0.05, 0.01)  # prior probability that a letter has 0, 1, 2, 3 phones
_PRIOR_WEIGHT = 0.5  # of the prior against the counts, in words
_ROUNDS = 4  # of expectation–maximisation at most
Counts = Mapping[str, Counter[Chunk]]  # letter → how often it has each chunk

# ── alignment ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _ChunkModel:
    """P(chunk | letter) from counts, smoothed by the length prior."""

    def __init__(self, counts: Counts):
        self._counts = counts
        self._totals = {letter: chunks.total() for letter, chunks in counts.items()}
        self.favourite = _most_frequent(counts)
        self.log_probability = cache(self._log_probability)

    def _log_probability(self, letter: str, chunk: Chunk) -> float:
        seen = self._counts[letter][chunk] if letter in self._counts else 0
        count = seen + _PRIOR_WEIGHT * _LENGTH_PRIOR[len(chunk)]
        return math.log(count / (self._totals.get(letter, 0) + _PRIOR_WEIGHT))


def align(lexicon: Mapping[str, Sequence[str]]) -> dict[str, list[Chunk]]:
    """The most likely chunks of each word: lists as long as the word, whose concatenation is its transcription.

    Words with more than MAX_CHUNK phones a letter cannot be aligned and are left out.
    """
    words = {word: tuple(phones) for word, phones in lexicon.items()}
    counts = _count({word: [(p,) for p in phones] for word, phones in words.items() if len(word) == len(phones)})
    aligned: dict[str, list[Chunk]] = {}
    for _ in range(_ROUNDS):
        model = _ChunkModel(counts)
        before = aligned
        found = {word: _align_word(word, phones, model) for word, phones in words.items()}
        aligned = {word: chunks for word, chunks in found.items() if chunks is not None}
        if aligned == before:
            break
        counts = _count(aligned)
    return aligned


def _count(aligned: Mapping[str, Sequence[Chunk]]) -> Counts:
    counts: dict[str, Counter[Chunk]] = defaultdict(Counter)
    for word, chunks in aligned.items():
        for letter, chunk in zip(word, chunks, strict=True):
            counts[letter][chunk] += 1
    return counts


def _most_frequent(counts: Counts) -> dict[str, Chunk]:
    """The most frequent chunk of each letter (or context); of equally frequent ones the first by symbol."""
    return {letter: min(chunks, key=lambda c: (-chunks[c], c)) for letter, chunks in counts.items()}


def _align_word(word: str, phones: Chunk, model: _ChunkModel) -> list[Chunk] | None:
    """Viterbi over (letters read, phones given); None when the word has too many phones."""
    favourites = [model.favourite.get(letter, ()) for letter in word]
    if sum(favourites, ()) == phones:
        return favourites  # the likeliest chunk of every letter: no alignment can be likelier
    # For each number of letters read: phones given so far → (score, how many of them the last letter gave).
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for i, letter in enumerate(word):
        row: dict[int, tuple[float, int]] = {}
        letters_left = len(word) - i - 1
        # Where scores tie, the path that gave its phones sooner wins: in კვა → kʼʷ ɑ the phone belongs to კ and ვ is
        # silent. As it is so in every word, the counts of the next round become clear.
        for given, (score, _) in sorted(best[i].items(), reverse=True):
            for length in range(MAX_CHUNK + 1):
                end = given + length
                if end > len(phones) or len(phones) - end > MAX_CHUNK * letters_left:
                    continue
                total = score + model.log_probability(letter, phones[given:end])
                if end not in row or total > row[end][0]:
                    row[end] = (total, length)
        best.append(row)
    if len(phones) not in best[-1]:
        return None
    chunks, end = [], len(phones)
    for row in reversed(best[1:]):
        length = row[end][1]
        chunks.append(phones[end - length : end])
        end -= length
    return chunks[::-1]


# ── the baseline ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ContextTable:
    """The baseline for the network: a letter's most frequent chunk in the widest context that training saw.

    The contexts are ±3 letters, else ±2, else ±1, else the letter alone.
    """

    RADIUS = 3

    def __init__(self, aligned: Mapping[str, Sequence[Chunk]]):
        counts: dict[str, Counter[Chunk]] = defaultdict(Counter)
        for word, chunks in aligned.items():
            for i, chunk in enumerate(chunks):
                for context in self._contexts(word, i):
                    counts[context][chunk] += 1
        self._chunks = _most_frequent(counts)

    def _contexts(self, word: str, i: int) -> list[str]:
        padded = "^" * self.RADIUS + word + "$" * self.RADIUS
        centre = i + self.RADIUS
        return [padded[centre - radius : centre + radius + 1] for radius in range(self.RADIUS, -1, -1)]

    def phonemes(self, word: str) -> list[str]:
        """The table's transcription; a letter never seen in training gives nothing."""
        phones: list[str] = []
        for i in range(len(word)):
            phones += next((self._chunks[c] for c in self._contexts(word, i) if c in self._chunks), ())
        return phones


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def share(word: str, purpose: str) -> float:
    """A hash of word and purpose as a number in [0, 1): a split by it stays the same when words are added."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{word}".encode()).digest()[:8]) / 2**64


def edit_distance(expected: Sequence[str], got: Sequence[str]) -> int:
    """Levenshtein distance in phones."""
    row = list(range(len(got) + 1))
    for i, wanted in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, given in enumerate(got, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != given))
    return row[-1]


def error_rates(
    expected: Sequence[Sequence[str]], got: Sequence[Sequence[str]]
) -> tuple[float, float] | tuple[None, None]:
    """(word error rate, phoneme error rate), both as fractions; (None, None) when there is nothing to measure.

    WER: words not transcribed exactly / words. PER: edits / expected phones.
    """
    if not expected:
        return None, None
    pairs = [(list(e), list(g)) for e, g in zip(expected, got, strict=True)]
    wrong = [(e, g) for e, g in pairs if e != g]
    phones = sum(len(e) for e, _ in pairs)
    return len(wrong) / len(pairs), sum(edit_distance(e, g) for e, g in wrong) / max(phones, 1)
