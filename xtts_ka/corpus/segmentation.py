"""Speech between pauses: where a long recording may be cut without cutting a word.

silero-vad says that there is a pause, to within 32 to 100 ms; the level says where it begins and ends, to within 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xtts_ka.corpus.voice_activity import SECONDS_PER_CHUNK, SECONDS_PER_FRAME, Activity

BEGINS, ENDS = 0.5, 0.35  # probabilities of speech from which it begins, and below which it ends (silero-vad's own)
MIN_PAUSE = 0.15  # seconds; the closures of Georgian stops and ejectives, up to 0.12 s, are no pauses
MIN_SPEECH = 0.1  # seconds; what is shorter is a click or a breath
MARGIN = 0.04  # seconds of a pause that stay with the speech on either side of it
_ABOVE_FLOOR, _BELOW_PEAK = (
    6.0,
    38.0,
)  # dB: speech is louder than a pause by one, and no quieter than its peak by the other
_CLEAR = 20.0  # dB below the peak: only so quiet a moment becomes a pause that silero-vad takes for a shorter one
_NEARBY = 0.5  # seconds of speech beside a pause whose peak counts, and whose quietest moments do
# in frames of 10 ms
_REACH = 25  # by which an edge may move from where silero-vad puts it
_QUIET = 3  # in a row: shorter lulls are part of the speech
_CLOSURE = 12  # the longest silence inside a word
_FADING = 50  # the longest sound without voice at the end of speech: what is longer is music or noise beside it


@dataclass(frozen=True, slots=True)
class Speech:
    """A piece of speech with a pause on either side, in seconds of the recording."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def speech_between_pauses(activity: Activity, min_pause: float = MIN_PAUSE) -> list[Speech]:
    """The recording's speech, cut at all pauses of at least `min_pause` seconds, in order."""
    level = activity.level.astype(np.float32)
    edges: list[tuple[float, float]] = []
    for number, (start, end) in enumerate(_voiced(activity.speech)):
        if number and edges:
            quiet = _pause(level, edges[-1][1], start)
            if quiet[1] - quiet[0] < min_pause:
                edges[-1] = (edges[-1][0], end)
                continue
            edges[-1] = (edges[-1][0], quiet[0])
            start = quiet[1]
        edges.append((start, end))
    if edges:
        edges[0] = (_pause(level, 0.0, edges[0][0])[1], edges[0][1])
        edges[-1] = (edges[-1][0], _pause(level, edges[-1][1], activity.seconds)[0])
    pieces = (Speech(start, end) for start, end in edges if end - start >= MIN_SPEECH)
    return [piece for piece in pieces if _mean_probability(activity, piece) >= BEGINS]


def _mean_probability(activity: Activity, piece: Speech) -> float:
    """The piece's mean probability of speech.

    Speech has more than 0.75; noise and chords, which silero-vad takes for speech at moments, less than 0.45.
    """
    first = int(piece.start / SECONDS_PER_CHUNK)
    return float(activity.speech[first : max(first + 1, round(piece.end / SECONDS_PER_CHUNK))].mean(dtype=np.float32))


def _voiced(speech: np.ndarray) -> Iterator[tuple[float, float]]:
    """(start, end) of runs that rise above BEGINS, each as far as the probability stays above ENDS."""
    inside = np.concatenate([[0], (speech >= ENDS).astype(np.int8), [0]])
    steps = np.flatnonzero(np.diff(inside))
    peaks = np.maximum.reduceat(speech, steps[::2]) if len(steps) else ()  # to the next run: what is between is below
    for first, last, peak in zip(steps[::2], steps[1::2], peaks):
        if peak >= BEGINS:
            yield first * SECONDS_PER_CHUNK, last * SECONDS_PER_CHUNK


def _pause(level: np.ndarray, start: float, end: float) -> tuple[float, float]:
    """The edges of a pause that silero-vad puts at `start` to `end`, moved to where the level falls and rises.

    Each stays where nothing near it is quiet, as beside music.
    """
    first, last = round(start / SECONDS_PER_FRAME), min(len(level), round(end / SECONDS_PER_FRAME))
    if last - first < _QUIET:
        return start, end
    near = round(_NEARBY / SECONDS_PER_FRAME)
    floor = float(np.percentile(level[max(0, first - near) : last + near], 5))
    beside = [part.max() for part in (level[max(0, first - near) : first], level[last : last + near]) if len(part)]
    peak = float(max(beside, default=floor))
    limit = max(floor + _ABOVE_FLOOR, peak - _BELOW_PEAK)
    if limit > peak - (_CLEAR if end - start < MIN_PAUSE else 3.0):
        return start, end
    quiet = level < limit
    begins, ends = _left_edge(quiet, first, last), _right_edge(quiet, first, last)
    if ends <= begins:
        return start, end
    return begins * SECONDS_PER_FRAME, ends * SECONDS_PER_FRAME


def _left_edge(quiet: np.ndarray, first: int, last: int) -> int:
    """The frame where the quiet begins, given that silero-vad ends the speech at `first` and begins it at `last`.

    A burst that follows the speech within a stop's closure is part of it: a final კ or თ.
    """
    at = _quiet_from(quiet, first, min(last, first + _FADING))
    if at is None:
        return first
    if at == first:
        while at > 0 and quiet[at - 1] and first - at < _REACH:
            at -= 1
    while (burst := _burst(quiet, at, min(last, first + _REACH))) is not None:
        at = burst
    return at


def _quiet_from(quiet: np.ndarray, first: int, last: int) -> int | None:
    return next((at for at in range(first, last - _QUIET + 1) if quiet[at : at + _QUIET].all()), None)


def _burst(quiet: np.ndarray, at: int, last: int) -> int | None:
    """Where the sound ends that begins within a closure's length after `at`; None where there is none."""
    loud = np.flatnonzero(~quiet[at : min(at + _CLOSURE, last)])
    return _quiet_from(quiet, at + int(loud[0]), last) if len(loud) else None


def _right_edge(quiet: np.ndarray, first: int, last: int) -> int:
    """Where the quiet ends: as `_left_edge`, seen from the other side."""
    size = len(quiet)
    return size - _left_edge(quiet[::-1], size - last, size - first)
