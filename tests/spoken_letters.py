"""What a recogniser would hear, without one: log-probabilities of texts said at known times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xtts_ka.corpus.segmentation import Speech
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.recognition.heard import Heard
from xtts_ka.recognition.symbols import SYMBOLS

FRAME = 0.04
LETTER = 0.08  # seconds of each


def misheard(text: str, share: float, rng: np.random.Generator) -> str:
    """`text` with a share of its letters replaced by others."""
    return "".join(
        GEORGIAN_LETTERS[rng.integers(33)] if letter != " " and rng.uniform() < share else letter for letter in text
    )


def say(texts: Sequence[str], wrong: float = 0.0, pause: float = 0.3, seed: int = 0) -> tuple[list[Speech], Heard]:
    """Each text as a piece of speech with pauses between: (pieces, what is heard in them)."""
    rng, at = np.random.default_rng(seed), 0.5
    speech, rows, times = [], [], []
    for text in texts:
        symbols = []
        for letter in misheard(text, wrong, rng):
            symbols += [SYMBOLS.index(letter), 0]
        start = at
        for symbol in symbols:
            row = np.full(len(SYMBOLS), np.log(0.1 / (len(SYMBOLS) - 1)))
            row[symbol] = np.log(0.9)
            rows.append(row)
            times.append(at + FRAME / 2)
            at += FRAME
        speech.append(Speech(start, at))
        at += pause
    return speech, Heard(np.array(rows, np.float16), np.array(times))
