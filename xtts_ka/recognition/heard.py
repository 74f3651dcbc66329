"""What the recogniser hears in a long recording: log-probabilities of windows cut at pauses, and their letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xtts_ka.core.torch_settings import one_thread
from xtts_ka.corpus import audio
from xtts_ka.corpus.segmentation import Speech
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.recognition.symbols import BLANK, SPACE, SYMBOLS

GAP = 1.0  # seconds of a pause inside a window at most
LONG_PAUSE, SENTENCE = 0.35, 3.0  # seconds: a pause at which a sentence may end, and the shortest that ends there
SIDE = 0.2  # seconds of silence that are heard on either side of a window
_TOGETHER = 8  # windows heard at once: at most 3 minutes of sound in memory


def windows(speech: Sequence[Speech], longest: float, long_pause: float = GAP, sentence: float = 0.0) -> list[range]:
    """Runs of pieces that are heard together: at most `longest` seconds, but a piece without a pause may be longer.

    A run that has `sentence` seconds ends at the first pause of `long_pause`.
    """
    runs: list[range] = []
    for number, piece in enumerate(speech):
        if runs:
            start, before = speech[runs[-1].start].start, speech[number - 1].end
            gap = piece.start - before
            ends = gap > GAP or (gap > long_pause and before - start >= sentence)
            if not ends and piece.end - start <= longest:
                runs[-1] = range(runs[-1].start, number + 1)
                continue
        runs.append(range(number, number + 1))
    return runs


def sentences(speech: Sequence[Speech], longest: float) -> list[range]:
    """The windows that become clips where there is no text: they end at longer pauses, as sentences do."""
    return windows(speech, longest, LONG_PAUSE, SENTENCE)


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """log_probs: float16 (frames, symbols) of all windows one after the other; times: seconds, of each frame."""

    log_probs: np.ndarray
    times: np.ndarray


def joined(parts: Sequence[Heard]) -> Heard:
    return Heard(np.concatenate([p.log_probs for p in parts]), np.concatenate([p.times for p in parts]))


def hear(path: Path, spans: Sequence[tuple[float, float]], recogniser: Recogniser) -> Heard:
    """Listen to spans (seconds), which stand in order and apart, of a recording."""
    found = [Heard(np.zeros((0, len(SYMBOLS)), np.float16), np.zeros(0))]
    waiting: list[tuple[float, np.ndarray]] = []
    for number, ((start, _), (wave, rate)) in enumerate(zip(spans, audio.read_parts(path, spans)), 1):
        waiting.append((start, wave))
        if len(waiting) == _TOGETHER or number == len(spans):
            with one_thread():
                rows = recogniser.log_probs([wave for _, wave in waiting], rate)
            for (begin, _), row in zip(waiting, rows):
                times = begin + (np.arange(len(row)) + 0.5) * recogniser.seconds_per_frame
                found.append(Heard(row.half().numpy(), times))
            waiting = []
    return joined(found)


def spans_of(runs: Sequence[range], speech: Sequence[Speech], seconds: float) -> list[tuple[float, float]]:
    """Where windows are cut out of a recording of `seconds`: with SIDE, or half a shorter pause, on both sides."""
    spans = []
    for run in runs:
        first, last = run[0], run[-1]
        before = (speech[first - 1].end + speech[first].start) / 2 if first else 0.0
        after = (speech[last].end + speech[last + 1].start) / 2 if last + 1 < len(speech) else seconds
        spans.append((max(before, speech[first].start - SIDE), min(after, speech[last].end + SIDE)))
    return spans


def letters_of(heard: Heard) -> tuple[str, np.ndarray]:
    """(the likeliest letters without spaces, the seconds at which each begins)."""
    best = heard.log_probs.argmax(axis=1)
    begins = np.concatenate([[True], best[1:] != best[:-1]]) & (best != BLANK) & (best != SPACE)
    return "".join(SYMBOLS[symbol] for symbol in best[begins]), heard.times[begins]


def between(heard: Heard, start: float, end: float) -> tuple[torch.Tensor, np.ndarray]:
    """(float32 log-probabilities, times) of the frames between two times."""
    first, last = np.searchsorted(heard.times, [start, end])
    return torch.from_numpy(heard.log_probs[first:last]).float(), heard.times[first:last]
