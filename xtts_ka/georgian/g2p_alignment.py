"""From a pronunciation lexicon to letters that each carry a chunk of phones, and the plain table over such letters.

Georgian spelling is nearly one letter to one phone, so grapheme-to-phoneme conversion is tagging: each letter gets a
chunk of zero to three phones. The chunks are found by hard expectation–maximisation (Viterbi alignment, as in
Jiampojamarn, Kondrak & Sherif 2007, "Applying many-to-many alignments", without the many-letter side).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

Chunk = tuple[str, ...]

MAX_CHUNK = 3  # phones that one letter can carry: ks and the like, with one to spare
_LENGTH_PRIOR = (0.04, 0.9, 0.05, 0.01)  # how often a letter carries 0, 1, 2, 3 phones, before any word is seen
_PRIOR_WEIGHT = 0.5  # of an unseen chunk, in words
_ROUNDS = 4

# ── alignment ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _ChunkModel:
    """P(chunk | letter) from counts, smoothed by the length prior."""

    def __init__(self, counts: Mapping[str, Counter[Chunk]]):
        self._counts = counts
        self._totals = {letter: sum(chunks.values()) for letter, chunks in counts.items()}
        self.favourite = {letter: min(chunks, key=lambda c: (-chunks[c], c)) for letter, chunks in counts.items()}
        self._cache: dict[tuple[str, Chunk], float] = {}

    def log_probability(self, letter: str, chunk: Chunk) -> float:
        known = self._cache.get((letter, chunk))
        if known is None:
            count = self._counts.get(letter, {}).get(chunk, 0) + _PRIOR_WEIGHT * _LENGTH_PRIOR[len(chunk)]
            known = math.log(count / (self._totals.get(letter, 0) + _PRIOR_WEIGHT))
            self._cache[letter, chunk] = known
        return known


def align(lexicon: Mapping[str, Sequence[str]]) -> dict[str, list[Chunk]]:
    """The most likely chunks of each word: lists as long as the word, whose concatenation is its transcription.

    Words with more than MAX_CHUNK phones a letter cannot be aligned and are left out.
    """
    counts: dict[str, Counter[Chunk]] = defaultdict(Counter)
    for word, phones in lexicon.items():
        if len(word) == len(phones):
            for letter, phone in zip(word, phones, strict=True):
                counts[letter][phone,] += 1
    aligned: dict[str, list[Chunk]] = {}
    for _ in range(_ROUNDS):
        model = _ChunkModel(counts)
        before, aligned = aligned, {}
        for word, phones in lexicon.items():
            chunks = _align_word(word, tuple(phones), model)
            if chunks is not None:
                aligned[word] = chunks
        if aligned == before:
            break
        counts = defaultdict(Counter)
        for word, chunks in aligned.items():
            for letter, chunk in zip(word, chunks, strict=True):
                counts[letter][chunk] += 1
    return aligned


def _align_word(word: str, phones: Chunk, model: _ChunkModel) -> list[Chunk] | None:
    """Viterbi over (letters read, phones given); None when the word has too many phones."""
    favourites = [model.favourite.get(letter, ()) for letter in word]
    if sum(favourites, ()) == phones:
        return favourites  # every letter's likeliest chunk: nothing can be likelier
    # For each number of letters read: phones given so far → (score, how many of them the last letter gave).
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for i, letter in enumerate(word):
        row: dict[int, tuple[float, int]] = {}
        letters_left = len(word) - i - 1
        # Where scores tie, the path that gave its phones sooner wins: in კვა → kʼʷ ɑ it is კ that sounds and ვ that is
        # silent, in every word alike, so that rounds to come can build on it.
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
    """What a network has to beat: a letter's most frequent chunk in the widest context that training saw.

    The contexts are ±3 letters, else ±2, else ±1, else the letter alone.
    """

    RADIUS = 3

    def __init__(self, aligned: Mapping[str, Sequence[Chunk]]):
        counts: dict[str, Counter[Chunk]] = defaultdict(Counter)
        for word, chunks in aligned.items():
            for i, chunk in enumerate(chunks):
                for context in self._contexts(word, i):
                    counts[context][chunk] += 1
        self._chunks = {context: min(seen, key=lambda c: (-seen[c], c)) for context, seen in counts.items()}

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
    """A number in [0, 1) that depends on word and purpose alone: splits by it never move when words are added."""
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
