"""Finds a written text in a long recording: which of its words are read between which pauses.

Letters that the recogniser hears are matched with those of the text (text_matching.py): linear in length, tolerant of
text that is not read and of speech that is not in the text. A pause between two matched words is a place to cut. Where
words beside a pause were misheard, forced alignment of the few words around it says on which side they are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from xtts_ka.corpus.planned_clips import Left, LeftOut, Limits, Passage, Plan, RecordingProblem, plan_of, text_problem
from xtts_ka.corpus.segmentation import Speech
from xtts_ka.georgian.alphabet import georgian_fraction, words
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.forced_alignment import align
from xtts_ka.recognition.heard import Heard, between, letters_of
from xtts_ka.recognition.symbols import spoken_letters
from xtts_ka.recognition.text_matching import match_letters, share_in_runs

ENOUGH = 0.1  # share of the letters heard that must be in the text (`share_in_runs`); with a CER of 30 % 0.3 are
MATCHED = 0.5  # share of a word's letters that must be heard
_ALIKE = 0.6  # likeness of a word and of the letters heard beside a gap
_BAD_RUN = 10  # letters in a row that are only written or only heard: more than a recogniser's mistakes
_FEW = 0.35  # letters heard, as a share of those written, or the other way: nothing belongs together
_AT_END = 2  # as much counts a letter at the end of a passage
_MOST = 400  # letters that are placed by forced alignment
_BROKEN = re.compile(r"(?<=[ა-ჰ])[-¬\u00ad][ \t]*\n[ \t]*(?=[ა-ჰ])")  # a word that goes on in the next line
_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Book:
    """A text as words: as they are read aloud, with marks; letters: of all words; begins: of each word in `letters`."""

    words: list[str]
    letters: str
    begins: np.ndarray

    @classmethod
    def read(cls, text: str, reading: Reading) -> Book:
        """RecordingProblem for a text that is not Georgian."""
        share = georgian_fraction(text)
        if share < 0.5:
            start = " ".join(text.split())[:40]
            raise RecordingProblem(f"its text is not in Georgian letters ({share:.0%} of them): {start!r}")
        found: list[str] = []
        for paragraph in _PARAGRAPH.split(_BROKEN.sub("", text)):
            clean, _ = text_problem(" ".join(paragraph.split()))
            for word in reading(clean).split():
                if words(word) or not found:  # a mark that stands alone belongs to the word before it
                    found.append(word)
                else:
                    found[-1] += f" {word}"
        spoken = ["".join(spoken_letters(word).split()) for word in found]
        begins = np.cumsum([0, *map(len, spoken)])
        return cls(found, "".join(spoken), begins)

    def text(self, first: int, last: int) -> str:
        return " ".join(self.words[first:last])

    def letters_of(self, first: int, last: int) -> str:
        return self.letters[self.begins[first] : self.begins[last]]


def plan_from_text(
    book: Book, speech: Sequence[Speech], heard: Heard, seconds: float, limits: Limits, whole: bool = True
) -> Plan:
    """The clips of a recording in which (parts of) the book are read.

    whole: the book belongs to this recording alone, so what stands before and after what is read is listed as well.
    RecordingProblem where what is heard is hardly ever in the text.
    """
    found = _Match(book, speech, heard)
    share = share_in_runs(found.where, len(found.letters))
    if share < ENOUGH or not len(found.words):
        raise RecordingProblem(f"{share:.0%} of what is heard in it is in the text: is the text of another recording?")
    placed = np.zeros(len(book.words), bool)
    passages = []
    for pieces, first, last in found.passages():
        first, last = _trimmed(book, found, pieces, first, last)
        placed[first:last] = True
        passages.append(_passage(book, found, pieces, first, last))
    plan = plan_of(passages, speech, seconds, limits)
    span = range(len(book.words)) if whole else range(int(found.words[0]), int(found.words[-1]) + 1)
    plan.left += _not_read(book, placed, span)
    return plan


class _Match:
    """What was heard, letter by letter, against the book, and the places where both can be cut."""

    def __init__(self, book: Book, speech: Sequence[Speech], heard: Heard):
        self.book, self.heard = book, heard
        self.letters, self.times = letters_of(heard)
        self.where = match_letters(book.letters, self.letters)
        self.pauses = np.array([(one.end + other.start) / 2 for one, other in pairwise(speech)])
        self.pieces = np.searchsorted(self.pauses, self.times)  # of each letter heard
        self.count = len(speech)
        self.words, self.begins, self.ends = self._matched_words()

    def _matched_words(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(words of the book that are heard, the first and the last letter heard of each)."""
        places = np.flatnonzero(self.where >= 0)
        word_of = np.searchsorted(self.book.begins, places, side="right") - 1
        numbers, first, counts = np.unique(word_of, return_index=True, return_counts=True)
        heard = self.where[places]
        begins, ends = heard[first], heard[first + counts - 1]
        lengths = np.diff(self.book.begins)[numbers]
        good = (counts >= MATCHED * lengths) & (ends - begins < 2 * lengths + 2)
        return numbers[good], begins[good], ends[good]

    def passages(self) -> Iterator[tuple[range, int, int]]:
        """(pieces, first word, last word + 1) between the pauses at which the text is cut; no words: none is read."""
        firsts, lasts = self.pieces[self.begins], self.pieces[self.ends]
        before = np.searchsorted(lasts, np.arange(self.count), side="right") - 1
        behind = np.searchsorted(firsts, np.arange(self.count), side="right")
        piece, word = 0, self._cut(-1, 0, 0)[1]
        for pause in range(self.count):
            if before[pause] + 1 == behind[pause]:  # else a word is heard on both sides
                end, begin = self._cut(int(before[pause]), int(behind[pause]), pause)
                yield range(piece, pause + 1), word, max(word, end)
                piece, word = pause + 1, max(word, begin)

    def _cut(self, before: int, behind: int, pause: int) -> tuple[int, int]:
        """(the word before which the speech before a pause ends, the word with which that behind it begins).

        before, behind: numbers in `words` of the last one heard before it and the first one behind it.
        """
        end = int(self.words[before]) + 1 if before >= 0 else 0
        begin = int(self.words[behind]) if behind < len(self.words) else len(self.book.words)
        first = int(self.ends[before]) + 1 if before >= 0 else 0
        last = int(self.begins[behind]) if behind < len(self.words) else len(self.letters)
        time = self.pauses[pause] if 0 <= pause < len(self.pauses) else (np.inf if pause >= 0 else -np.inf)
        early, late = self._peeled(end, begin, first, last)
        if (place := int(np.searchsorted(early, time))) < len(early):
            return end + place, end + place
        if place := int(np.searchsorted(late, time)):
            return begin - len(late) + place, begin - len(late) + place
        end, begin = end + len(early), begin - len(late)
        if end == begin:
            return end, begin
        first, last = first + self._length(end - len(early), end), last - self._length(begin, begin + len(late))
        written = self._length(end, begin)
        if not _FEW * written <= last - first <= written / _FEW or written > _MOST:
            return end, begin  # not read, or something else is said
        middle = self._middles(end, begin, first, last)
        place = end + int(np.searchsorted(middle, time))
        return place, place

    def _length(self, first: int, last: int) -> int:
        return int(self.book.begins[last] - self.book.begins[first])

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def _peeled(self, end: int, begin: int, first: int, last: int) -> tuple[list[float], list[float]]:
        """Seconds of the words from `end` on, and of those before `begin`, that are like what is heard there.

        Words of a gap that edit distance has matched with something else than the letters beside its edges.
        """
        early: list[float] = []
        while end < begin and self._alike(end, first, first + self._length(end, end + 1), last):
            early.append(float(self.times[first]))
            first, end = first + self._length(end, end + 1), end + 1
        late: list[float] = []
        while end < begin and self._alike(begin - 1, last - self._length(begin - 1, begin), last, last, first):
            late.insert(0, float(self.times[last - 1]))
            last, begin = last - self._length(begin - 1, begin), begin - 1
        return early, late

    def _alike(self, word: int, start: int, end: int, last: int, first: int = 0) -> bool:
        if start < first or end > last or start == end:
            return False
        return (
            Levenshtein.normalized_similarity(self.book.letters_of(word, word + 1), self.letters[start:end]) >= _ALIKE
        )

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def _middles(self, first_word: int, last_word: int, first: int, last: int) -> np.ndarray:
        """Seconds at which misheard words between two letters heard are said, by forced alignment."""
        start = self.times[first - 1] if first else 0.0
        end = self.times[last] if last < len(self.times) else np.inf
        log_probs, times = between(self.heard, start + 1e-6, end)
        lengths = np.diff(self.book.begins[first_word : last_word + 1])
        text = self.book.letters[self.book.begins[first_word] : self.book.begins[last_word]]
        try:
            spans = align(log_probs, text)
        except ValueError:  # more letters than frames: spread them evenly
            return np.linspace(start, times[-1] if len(times) else start, len(lengths) + 2)[1:-1]
        ends = np.cumsum(lengths)
        return np.array([times[(spans[b - n].start + spans[b - 1].end - 1) // 2] for n, b in zip(lengths, ends)])


def _passage(book: Book, found: _Match, pieces: range, first: int, last: int) -> Passage:
    if first == last:
        return Passage(range(0), "")
    low, high = np.searchsorted(found.pieces, [pieces.start, pieces.stop])
    heard = found.letters[low:high]
    confidence, bad = compared(book.letters_of(first, last), heard)
    problem = (Left.NOT_HEARD, f"heard: {heard[:80]}") if bad else None
    return Passage(pieces, book.text(first, last), confidence=round(confidence, 3), problem=problem)


def _trimmed(book: Book, found: _Match, pieces: range, first: int, last: int) -> tuple[int, int]:
    """The words of a passage without those at its ends for which nothing was heard."""
    low, high = np.searchsorted(found.pieces, [pieces.start, pieces.stop])
    start, end = int(book.begins[first]), int(book.begins[last])
    for change in Levenshtein.opcodes(book.letters[start:end], found.letters[low:high]):
        written, heard = change.src_end - change.src_start, change.dest_end - change.dest_start
        if change.tag == "equal" or heard > _FEW * written:
            continue
        if change.src_start == 0:
            first = int(np.searchsorted(book.begins, start + change.src_end, side="right")) - 1
        elif change.src_end == end - start:
            last = int(np.searchsorted(book.begins, start + change.src_start))
    return first, max(first, last)


def compared(written: str, heard: str) -> tuple[float, bool]:
    """(share of the letters that agree, whether more letters in a row disagree than a recogniser mishears)."""
    changes = [op for op in Levenshtein.opcodes(written, heard) if op.tag != "equal"]
    errors = sum(max(op.src_end - op.src_start, op.dest_end - op.dest_start) for op in changes)
    worst = max((_weight(op, len(written)) for op in changes), default=0)
    return max(0.0, 1 - errors / max(len(written), len(heard), 1)), worst >= _BAD_RUN


def _weight(change: Any, length: int) -> int:
    """Letters that a change adds or leaves out; at the ends of a passage, where words of its neighbour may be, more."""
    size = max(change.src_end - change.src_start, change.dest_end - change.dest_start)
    at_end = change.src_start == 0 or change.src_end == length
    return size * _AT_END if at_end else size


def _not_read(book: Book, placed: np.ndarray, span: range) -> list[LeftOut]:
    """The runs of words of the book that are in no passage."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], placed[span.start : span.stop], [True]])))
    left = []
    for first, last in zip(edges[::2] + span.start, edges[1::2] + span.start):
        text = book.text(int(first), int(last))
        left.append(LeftOut(-1, -1, Left.NOT_READ, f"{last - first:,} words are not heard", text))
    return left
