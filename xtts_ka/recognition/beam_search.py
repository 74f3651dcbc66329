"""CTC prefix beam search with a character n-gram (Hannun et al. 2014, "First-Pass Large Vocabulary … using RNNs").

Greedy decoding takes each frame's likeliest symbol. The beam search adds up the paths that give the same text, and
weighs the text by how usual its letters are in the training transcripts. The score of a text is

    ln p(text | sound)  +  weight · ln p(text | n-gram)  +  bonus · letters
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from xtts_ka.recognition.symbols import BLANK, SYMBOLS

WIDTH = 8  # texts kept after each frame
WEIGHT, BONUS = 0.5, 1.0  # of the n-gram, and for each letter, which the n-gram makes less likely
LIKELY = math.log(1e-3)  # a symbol less likely than this in a frame is not tried there, if its likeliest is not either

_NEVER = -math.inf
_LETTERS = SYMBOLS[1:]


class LetterModel(Protocol):
    """What weighs texts: `character_ngram.CharacterNgram`."""

    def log_probs_after(self, context: str, letters: Sequence[str]) -> np.ndarray:
        """ln p of each of `letters` behind `context`, the whole text before it."""
        ...


def beam_search(
    log_probs: Tensor,
    model: LetterModel | None = None,
    *,
    width: int = WIDTH,
    weight: float = WEIGHT,
    bonus: float = BONUS,
    likely: float = LIKELY,
) -> str:
    """The text with the best score among those that the beam of `width` texts reaches; (frames, symbols) → text.

    Without a `model` the score is that of the sound alone, and the text is the likeliest one where the beam is wide
    enough. Spaces are single, none at either end.
    """
    search = _Search(model, weight, bonus if model else 0.0)
    beams: dict[str, tuple[float, float]] = {"": (0.0, _NEVER)}  # text → ln p of its paths that end in blank, in letter
    for row in log_probs.double().tolist():
        best = max(row)
        tried = [(i, p) for i, p in enumerate(row) if p >= min(likely, best)]
        beams = search.best(_extended(beams, tried), width)
    stripped: dict[str, tuple[float, float]] = {}
    for text in sorted(beams):  # "a" comes before "a ", and both are the text "a"
        before = stripped.get(text.rstrip(" "), (_NEVER, _NEVER))
        stripped[text.rstrip(" ")] = _add(before[0], beams[text][0]), _add(before[1], beams[text][1])
    return max(stripped, key=lambda text: search.final(text, stripped[text]))


def _extended(
    beams: dict[str, tuple[float, float]], tried: Sequence[tuple[int, float]]
) -> dict[str, tuple[float, float]]:
    """Every text after one more frame, with its paths' probabilities added up."""
    blank: dict[str, float] = defaultdict(lambda: _NEVER)
    letter: dict[str, float] = defaultdict(lambda: _NEVER)
    for text, (in_blank, in_letter) in beams.items():
        both = _add(in_blank, in_letter)
        for i, p in tried:
            symbol = SYMBOLS[i]
            if i == BLANK:
                blank[text] = _add(blank[text], both + p)
            elif symbol == " " and text[-1:] in ("", " "):  # spaces are single, and none is at the start
                letter[text] = _add(letter[text], both + p)
            elif text.endswith(symbol):
                letter[text] = _add(letter[text], in_letter + p)
                letter[text + symbol] = _add(letter[text + symbol], in_blank + p)
            else:
                letter[text + symbol] = _add(letter[text + symbol], both + p)
    return {text: (blank[text], letter[text]) for text in blank.keys() | letter.keys()}


def _add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))"""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))


class _Search:
    """Scores texts, and keeps what the n-gram adds to each."""

    def __init__(self, model: LetterModel | None, weight: float, bonus: float):
        self.model, self.weight, self.bonus = model, weight, bonus
        self._prior: dict[str, float] = {"": 0.0}

    def prior(self, text: str) -> float:
        """weight · ln p(text | n-gram) + bonus · letters"""
        if self.model is None:
            return 0.0
        if text not in self._prior:
            before, letter = text[:-1], text[-1]
            ln_p = float(self.model.log_probs_after(before, _LETTERS)[_LETTERS.index(letter)])
            self._prior[text] = self.prior(before) + self.weight * ln_p + self.bonus
        return self._prior[text]

    def final(self, text: str, beam: tuple[float, float]) -> float:
        return _add(*beam) + self.prior(text)

    def best(self, beams: dict[str, tuple[float, float]], width: int) -> dict[str, tuple[float, float]]:
        """The `width` best; of equal ones the first by letters, so that the result does not depend on their order."""
        kept = sorted(beams, key=lambda text: (-self.final(text, beams[text]), text))[:width]
        return {text: beams[text] for text in kept}
