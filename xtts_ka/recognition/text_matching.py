"""Which letter of a long text was heard where: anchors that are the same in both, then edit distance between them.

Linear in length: 500,000 letters on either side (a book of ten hours) take seconds. Text that nobody reads and speech
that is not in the text stay unmatched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
from rapidfuzz.distance import Levenshtein

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS

ANCHORS = (10, 6)  # letters of an anchor: over the whole text, then between two anchors; 10 of 6 bits fit into 64
RUN = 6
_NEIGHBOURS = 400  # letters within which an anchor must have another on the same course
_LONG = 30  # letters of an anchor that needs no other
_EDGE = 1000  # letters beside an anchor that are compared by edit distance, at most
_SPARE = 20
_CODES = {letter: number for number, letter in enumerate(GEORGIAN_LETTERS)}


def match_letters(text: str, heard: str) -> np.ndarray:
    """For each letter of `text` the index of the equal letter of `heard` that it was heard as, or −1; ascending.

    Both consist of the 33 letters, without spaces.
    """
    where = np.full(len(text), -1, np.int64)
    texts, sounds = (np.array([_CODES[letter] for letter in letters], np.uint64) for letters in (text, heard))
    for t0, t1, h0, h1 in _gaps(_supported(_anchors(texts, sounds, ANCHORS[0])), len(text), len(heard), where):
        inner = _anchors(texts[t0:t1], sounds[h0:h1], ANCHORS[1]) if max(t1 - t0, h1 - h0) > 2 * _SPARE else []
        moved = [(t + t0, h + h0, length) for t, h, length in inner]
        for gap in _gaps(moved, t1, h1, where, t0, h0):
            _compare(text, heard, gap, where)
    return where


def _anchors(text: np.ndarray, heard: np.ndarray, size: int) -> list[tuple[int, int, int]]:
    """(place in the text, place in what was heard, length) of runs that are equal, once on either side, in order."""
    if min(len(text), len(heard)) < size:
        return []
    (text_codes, text_places), (heard_codes, heard_places) = _once(text, size), _once(heard, size)
    _, a, b = np.intersect1d(text_codes, heard_codes, assume_unique=True, return_indices=True)
    pairs = sorted(zip(text_places[a].tolist(), heard_places[b].tolist()))
    runs: list[tuple[int, int, int]] = []
    for t, h in _ascending(pairs):
        if runs and t - runs[-1][0] == h - runs[-1][1] and t <= runs[-1][0] + runs[-1][2]:
            runs[-1] = (runs[-1][0], runs[-1][1], t - runs[-1][0] + size)
        elif not runs or (t >= runs[-1][0] + runs[-1][2] and h >= runs[-1][1] + runs[-1][2]):
            runs.append((t, h, size))
    return runs


def _once(letters: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes, places) of the runs of `size` letters that occur once."""
    codes = np.zeros(len(letters) - size + 1, np.uint64)
    for place in range(size):
        codes = codes << np.uint64(6) | letters[place : place + len(codes)]
    found, places, counts = np.unique(codes, return_index=True, return_counts=True)
    return found[counts == 1], places[counts == 1]


def _ascending(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence of pairs, sorted by their first number, in which the second number ascends too."""
    ends: list[int] = []  # the smallest second number that ends a subsequence of each length
    last: list[int] = []  # the pair with it
    before = [-1] * len(pairs)
    for number, (_, second) in enumerate(pairs):
        at = bisect_left(ends, second)
        before[number] = last[at - 1] if at else -1
        if at == len(ends):
            ends.append(second)
            last.append(number)
        else:
            ends[at], last[at] = second, number
    chain = []
    number = last[-1] if last else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _supported(anchors: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Without the lone ones: ten letters may be equal by chance, far from where the text is read."""

    def same_course(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        text, heard = abs(other[0] - one[0]), abs(other[1] - one[1])
        return max(text, heard) <= _NEIGHBOURS and abs(text - heard) <= 2 * _SPARE + 0.2 * text

    return [
        anchor
        for number, anchor in enumerate(anchors)
        if anchor[2] >= _LONG
        or (number and same_course(anchor, anchors[number - 1]))
        or (number + 1 < len(anchors) and same_course(anchor, anchors[number + 1]))
    ]


def _gaps(
    anchors: list[tuple[int, int, int]], text_end: int, heard_end: int, where: np.ndarray, t: int = 0, h: int = 0
) -> Iterator[tuple[int, int, int, int]]:
    """Note the anchors in `where` and yield (text from, to, heard from, to) of what is between them."""
    for text, heard, length in [*anchors, (text_end, heard_end, 0)]:
        if text > t and heard > h:
            yield t, text, h, heard
        where[text : text + length] = np.arange(heard, heard + length)
        t, h = text + length, heard + length


def _compare(text: str, heard: str, gap: tuple[int, int, int, int], where: np.ndarray) -> None:
    """Match the letters of a gap by edit distance; of a side that is much longer only what is near the anchors."""
    t0, t1, h0, h1 = gap
    opens, closes = min(t0, h0) > 0, t1 < len(text) and h1 < len(heard)  # whether an anchor is on this side
    text_places = _near_edges(t0, t1, h1 - h0, opens or not closes, closes or not opens)
    heard_places = _near_edges(h0, h1, t1 - t0, opens or not closes, closes or not opens)
    one, other = ("".join(letters[place] for place in places) for letters, places in
                  ((text, text_places), (heard, heard_places)))  # fmt: skip
    for block in Levenshtein.opcodes(one, other):
        if block.tag == "equal":
            places = text_places[block.src_start : block.src_end]
            where[places] = heard_places[block.dest_start : block.dest_end]


def _near_edges(start: int, end: int, other: int, opens: bool, closes: bool) -> np.ndarray:
    """The places from `start` to `end`; of many more than the other side has, those near the edges with an anchor."""
    near = min(other + _SPARE, _EDGE)
    if end - start <= (opens + closes) * near:
        return np.arange(start, end)
    sides = [np.arange(start, start + near)] * opens + [np.arange(end - near, end)] * closes
    return np.concatenate(sides)


def share_in_runs(where: np.ndarray, heard: int) -> float:
    """The share of `heard` letters that stand in runs of RUN letters or more which are equal in the text.

    Single letters of two texts agree often, whatever they are; of unlike texts hardly any letter is in such a run.
    """
    if not heard or not len(where):
        return 0.0
    breaks = np.flatnonzero((np.diff(where) != 1) | (where[1:] < 0) | (where[:-1] < 0)) + 1
    edges = np.concatenate([[0], breaks, [len(where)]])
    lengths = np.diff(edges)
    return float(lengths[(lengths >= RUN) & (where[edges[:-1]] >= 0)].sum() / heard)
