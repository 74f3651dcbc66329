"""Fits the hints of subtitles to the pauses of the recording they belong to.

First the whole file: subtitles of another cut are late by seconds, those of another frame rate drift; those of another
film fit nowhere. Then each cue: dynamic programming chooses for every cue, or for a few cues that are said in one
breath, the run of speech between pauses that begins and ends near the hint and is as long as its letters take.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from xtts_ka.corpus.segmentation import Speech
from xtts_ka.corpus.speaking_rate import letters_aloud
from xtts_ka.corpus.subtitles import Cue

# ── the file as a whole ──────────────────────────────────────────────────────────────────────────────────────────────

MAX_SHIFT = 60.0  # seconds by which a whole file may be early or late
ENOUGH_CUES = 20  # to judge a file by
FITS = 6.0  # standard deviations by which the best shift stands out from the others: chance reaches 4 to 5
FRAME_RATES = (24 / 23.976, 25 / 23.976, 25 / 24)  # films are sped up and slowed down by these
_STEP = 0.05  # seconds of the grid on which beginnings are compared
# Seconds, standard deviation, and by what the score is multiplied so that chance reaches as much: exact hints stand out
# more with the first, those that are wrong by more than 0.3 s with the other.
_BLURS = ((0.15, 1.0), (0.3, 1.15))


@dataclass(frozen=True, slots=True)
class Fit:
    """Times of the recording = times of the file × `ratio` + `shift`; score: as FITS."""

    ratio: float
    shift: float
    score: float


def fit_of(cues: Sequence[Cue], speech: Sequence[Speech]) -> Fit:
    """Where the beginnings of the cues meet most beginnings of speech."""
    begins = np.array([piece.start for piece in speech])
    starts = np.array([cue.start for cue in cues])
    best = _best_shift(starts, begins, 1.0)
    if best.score < 2 * FITS and len(cues) >= ENOUGH_CUES:
        others = [_best_shift(starts, begins, ratio) for rate in FRAME_RATES for ratio in (rate, 1 / rate)]
        best = max([best, *others], key=lambda fit: fit.score + (fit.ratio == 1.0))
    return best


def _best_shift(starts: np.ndarray, begins: np.ndarray, ratio: float) -> Fit:
    """The best fit of the cues' beginnings, made longer by `ratio`."""
    starts = starts * ratio
    reach = round(MAX_SHIFT / _STEP)
    size = int(max(starts.max(initial=0.0), begins.max(initial=0.0)) / _STEP) + 2 * reach + 2
    grids = [np.bincount(np.round(times / _STEP).astype(int), minlength=size)[:size] for times in (begins, starts)]
    length = 1 << (2 * size - 1).bit_length()
    product = np.fft.irfft(
        np.fft.rfft(np.minimum(grids[0], 1), length) * np.conj(np.fft.rfft(grids[1], length)), length
    )
    wide = reach + round(3 * _BLURS[-1][0] / _STEP)
    lags = np.concatenate([product[-wide:], product[: wide + 1]])  # of −wide to wide
    return max((_peak(lags, reach, blur, weight, ratio) for blur, weight in _BLURS), key=lambda fit: fit.score)


def _peak(lags: np.ndarray, reach: int, blur: float, weight: float, ratio: float) -> Fit:
    """The shift at which most beginnings meet to within `blur` seconds; 0 where that is almost as good.

    lags: how many meet, by the shift in steps, from below −reach to above reach.
    """
    near = len(lags) // 2 - reach
    kernel = np.exp(-0.5 * (np.arange(-near, near + 1) * _STEP / blur) ** 2)
    lags = np.convolve(lags, kernel, mode="valid")
    spread = float(lags.std()) / weight
    if not spread:
        return Fit(ratio, 0.0, 0.0)
    at = int(lags.argmax())
    still = (lags[reach] - lags.mean()) / spread
    score = (lags[at] - lags.mean()) / spread
    if abs(at - reach) * _STEP <= 0.5 or still > 0.9 * score:
        return Fit(ratio, 0.0, float(still if still > 0.9 * score else score))
    return Fit(ratio, (at - reach) * _STEP, float(score))


def moved(cues: Sequence[Cue], fit: Fit) -> list[Cue]:
    """The cues with their times in the recording."""
    times = [(cue.start * fit.ratio + fit.shift, cue.end * fit.ratio + fit.shift) for cue in cues]
    return [replace(cue, start=start, end=end) for cue, (start, end) in zip(cues, times)]


# ── each cue ─────────────────────────────────────────────────────────────────────────────────────────────────────────

TOLERANCE = 1.5  # seconds between a hint and the pause it means, at most
USUAL_LETTERS = 14.0  # a second, where nothing tells
MAX_JOINED = 6  # cues that are said without a pause between them
# Cost of a run of speech: squares of the distance of its beginning and end from the hints, and of the logarithm of
# its length over that of its letters, each in the unit below and limited, since one bad hint must not move the next.
_START, _END, _LENGTH = 0.3, 0.45, 0.3
_USUAL, _PATIENCE = 0.15, 2.0  # the median distance of beginnings for which these are made; how far they may grow
_LIMIT = 9.0
_COST_OF_DOUBT = 10.0  # at which the confidence is 1/e
_JOIN, _JOIN_AT_PAUSE = 2.0, 11.0  # for taking a cue and the next together: where no pause is near, and where one is
_PAUSE_NEAR = 0.5  # seconds between the hints and a pause
_NOTHING, _THOUGH_SPOKEN = 4.0, 10.0  # for a cue that gets no speech; more by the share of its time with speech
_SLACK = 0.25  # seconds of silence that stay at the ends of a hint
_EDGE = 0.5  # seconds: less of a neighbour's speech is an edge of it, behind a pause that is longer
_UNCLAIMED = 1.0  # for a second of speech inside a hint that no cue gets


@dataclass(frozen=True, slots=True)
class Fitted:
    """Cues (indices `first` to before `last`) and the run of speech that is theirs; `pieces` empty: there is none.

    confidence: 1 where the hints meet the pauses and the letters take as long as the speech, towards 0 where not.
    """

    first: int
    last: int
    pieces: range
    confidence: float


def fit_cues(cues: Sequence[Cue], speech: Sequence[Speech]) -> list[Fitted]:
    """The likeliest runs of speech for cues that stand in order of time. Linear in the number of cues.

    Where the hints turn out to be less exact than usual, they are fitted again with as much patience.
    """
    if not cues:
        return []
    hints, shares = _without_silence(cues, speech), _shares(cues, speech)
    units = _fitted(hints, speech, shares, 1.0)
    found = [unit for unit in units if unit.pieces]
    if len(found) < ENOUGH_CUES:
        return units
    distance = median(abs(speech[unit.pieces[0]].start - hints[unit.first].start) for unit in found)
    patience = min(_PATIENCE, distance / _USUAL)
    return _fitted(hints, speech, shares, patience) if patience > 1.2 else units


def _without_silence(cues: Sequence[Cue], speech: Sequence[Speech]) -> list[Cue]:
    """The cues without the silence at their ends, but for _SLACK: they stay on the screen until they are read.

    The edge of a neighbour's speech that a cue reaches beyond a pause counts as silence.
    """
    begins, ends = [piece.start for piece in speech], [piece.end for piece in speech]
    gaps = [math.inf, *(start - end for start, end in zip(begins[1:], ends)), math.inf]  # before each piece
    found = []
    for cue in cues:
        first, last = bisect_right(ends, cue.start), bisect_left(begins, cue.end) - 1
        if first <= last and begins[first] < cue.start and ends[first] - cue.start < _EDGE < gaps[first + 1]:
            first += 1
        if first <= last and cue.end < ends[last] and cue.end - begins[last] < _EDGE < gaps[last]:
            last -= 1
        if first <= last:
            cue = replace(cue, start=max(cue.start, begins[first] - _SLACK), end=min(cue.end, ends[last] + _SLACK))
        found.append(cue)
    return found


def _fitted(cues: Sequence[Cue], speech: Sequence[Speech], spoken: Sequence[float], patience: float) -> list[Fitted]:
    """spoken: share of each cue's time, silence at its ends included, in which somebody speaks.

    patience: by which the distances of hints are divided.
    """
    letters = [letters_aloud(cue.text) for cue in cues]
    rate = _usual_rate(cues, letters)
    begins, ends = [piece.start for piece in speech], [piece.end for piece in speech]
    hinted = _hinted(cues, speech)
    joins = list(itertools.accumulate(_join_costs(cues, begins, ends), initial=0.0))
    # best[n]: last piece used → (cost, units so far as a linked list) after n cues
    best: list[dict[int, tuple[float, tuple | None]]] = [{} for _ in range(len(cues) + 1)]
    best[0][-1] = (0.0, None)
    for n in range(len(cues)):
        reached, best[n] = _pareto(best[n], bisect_left(begins, cues[n].start - TOLERANCE)), {}
        nothing = _NOTHING + _THOUGH_SPOKEN * spoken[n]
        for used, (cost, path) in reached:
            _offer(best[n + 1], used, cost + nothing, (path, n, n + 1, range(0), 0.0))
        lasts = [used for used, _ in reached]
        for last in range(n + 1, min(n + MAX_JOINED, len(cues)) + 1):
            hint = Cue(cues[n].start, max(cue.end for cue in cues[n:last]), "")
            seconds = sum(letters[n:last]) / rate
            for first_piece in _near(begins, hint.start):
                place = bisect_left(lasts, first_piece) - 1
                if place < 0:
                    continue
                used, (cost, path) = reached[place]
                cost += _UNCLAIMED * (hinted[first_piece] - hinted[used + 1])
                for last_piece in _near(ends, hint.end):
                    if last_piece >= first_piece:
                        own = (
                            _cost(hint, begins[first_piece], ends[last_piece], seconds, patience)
                            + joins[last - 1]
                            - joins[n]
                        )
                        unit = (path, n, last, range(first_piece, last_piece + 1), own)
                        _offer(best[last], last_piece, cost + own, unit)
    return _units(min(best[-1].values(), key=lambda found: found[0])[1])


def _join_costs(cues: Sequence[Cue], begins: Sequence[float], ends: Sequence[float]) -> Iterator[float]:
    """What it costs to take each cue and the next together."""
    for one, other in itertools.pairwise(cues):
        low, high = sorted((one.end, other.start))
        after = bisect_left(begins, low - _PAUSE_NEAR)  # the first pause that ends behind that
        near = 0 < after < len(begins) and ends[after - 1] <= high + _PAUSE_NEAR
        yield _JOIN_AT_PAUSE if near else _JOIN


def _overlaps(cues: Sequence[Cue], speech: Sequence[Speech]) -> Iterator[tuple[int, int, float]]:
    """(number of a cue, number of a piece of speech in its time, seconds that both share)."""
    ends = [piece.end for piece in speech]
    for n, cue in enumerate(cues):
        for number in range(bisect_left(ends, cue.start), len(speech)):
            piece = speech[number]
            if piece.start >= cue.end:
                break
            yield n, number, min(piece.end, cue.end) - max(piece.start, cue.start)


def _shares(cues: Sequence[Cue], speech: Sequence[Speech]) -> list[float]:
    """The share of each cue's time in which somebody speaks."""
    shares = [0.0] * len(cues)
    for n, _, both in _overlaps(cues, speech):
        shares[n] += both / (cues[n].end - cues[n].start)
    return shares


def _hinted(cues: Sequence[Cue], speech: Sequence[Speech]) -> list[float]:
    """The seconds of speech inside hints before each piece."""
    seconds = [0.0] * (len(speech) + 1)
    for _, number, both in _overlaps(cues, speech):
        seconds[number + 1] = min(speech[number].seconds, seconds[number + 1] + both)
    return list(itertools.accumulate(seconds))


def _offer(table: dict[int, tuple[float, tuple | None]], used: int, cost: float, path: tuple) -> None:
    if used not in table or cost < table[used][0]:
        table[used] = (cost, path)


def _pareto(
    table: dict[int, tuple[float, tuple | None]], reachable: int
) -> list[tuple[int, tuple[float, tuple | None]]]:
    """States by the last piece used, only those that are cheaper than all that used less.

    reachable: the first piece that this cue or a later one may take. Of the states that used none from there on, the
    cheapest can do all that the others can, so they are left out: else their number would grow with every cue.
    """
    kept: list[tuple[int, tuple[float, tuple | None]]] = []
    for used, state in sorted(table.items()):
        if not kept or state[0] < kept[-1][1][0]:
            if kept and used < reachable:
                kept.pop()
            kept.append((used, state))
    return kept


def _near(times: Sequence[float], hint: float) -> range:
    """The indices of times within TOLERANCE of a hint."""
    return range(bisect_left(times, hint - TOLERANCE), bisect_right(times, hint + TOLERANCE))


def _cost(hint: Cue, start: float, end: float, seconds: float, patience: float) -> float:
    length = math.log((end - start) / seconds) / _LENGTH if seconds > 0 else 0.0
    early, late = (start - hint.start) / _START / patience, (end - hint.end) / _END / patience
    return sum(min(_LIMIT, value * value) for value in (early, late, length))


def _usual_rate(cues: Sequence[Cue], letters: Sequence[int]) -> float:
    """Letters a second, as the hints of long cues say."""
    rates = [count / (cue.end - cue.start) for cue, count in zip(cues, letters) if count >= 10]
    return min(25.0, max(6.0, median(rates))) if rates else USUAL_LETTERS


def _units(path: tuple | None) -> list[Fitted]:
    found = []
    while path is not None:
        path, first, last, pieces, cost = path
        confidence = math.exp(-cost / _COST_OF_DOUBT) if pieces else 0.0
        found.append(Fitted(first, last, pieces, round(confidence, 3)))
    return found[::-1]
