"""An interpolated modified Kneser–Ney n-gram over characters, and the constants that it shares with the language model.

Both models read at most MAX_CHARACTERS of a text and predict every sentence with its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np

from xtts_ka.georgian.alphabet import READING_SYMBOLS

MAX_CHARACTERS = 1000  # of one transcript: more than XTTS can speak at once
UNKNOWN_BITS = 16.0  # added for a symbol outside a model's alphabet, which is one of about 2¹⁶ others
CONTEXTS = 50_000  # for which a model keeps the probabilities of the next letter: some 30 MB
BOUNDARY, UNKNOWN = 0, 1  # the first two symbols of both models: sentence start or end, and any unknown symbol

_Level = tuple[np.ndarray, ...]  # what `_discounted` returns for the n-grams of one order


class CharacterNgram:
    """Interpolated modified Kneser–Ney over characters (Chen & Goodman 1999, "An empirical study of smoothing…").

    An n-gram is one integer of 8 bits a character, so that counting and looking up are sorting and bisection in numpy.
    """

    def __init__(self, texts: Sequence[str], order: int = 6):
        if not 1 <= order <= 7:
            raise ValueError(f"order must be 1 to 7, not {order}")
        self.order = order
        letters = sorted(set(READING_SYMBOLS) | {c for c, _ in Counter("".join(texts)).most_common(200)})[:250]
        self._ids = {letter: i for i, letter in enumerate(letters, start=2)}
        codes, ends, _ = self._codes(texts)
        self._levels: list[_Level] = []
        longer = None
        for n in range(order, 0, -1):
            grams, counts = np.unique(self._grams(codes, ends, n), return_counts=True)
            if longer is not None:  # below the highest order the count is of the different characters before the n-gram
                shorter, preceded = np.unique(longer & ((1 << 8 * n) - 1), return_counts=True)
                from_start = (n > 1) & (grams >> 8 * (n - 1) == BOUNDARY)  # nothing precedes a sentence's start
                counts = np.where(from_start, counts, _look_up(shorter, preceded, grams, 1))
            longer = grams
            self._levels.insert(0, _discounted(grams, counts))

    def bits(self, texts: Sequence[str]) -> np.ndarray:
        """−log₂ p of each text with its end, (len(texts),) float64."""
        codes, ends, owner = self._codes(texts)
        p = np.full(len(ends), 1 / (len(self._ids) + 2))
        for n, (grams, own, contexts, left) in enumerate(self._levels, start=1):
            wanted = self._grams(codes, ends, n)
            p = _look_up(grams, own, wanted, 0.0) + _look_up(contexts, left, wanted >> 8, 1.0) * p
        bits = -np.log2(p) + UNKNOWN_BITS * (codes[ends] == UNKNOWN)
        return np.bincount(owner, bits, minlength=len(texts))

    def log_probs_after(self, context: str, letters: Sequence[str]) -> np.ndarray:
        """ln p of each of `letters` (not of UNKNOWN_BITS) behind `context`, the whole text before it; float64."""
        return self._after(context[max(0, len(context) - self.order + 1) :], tuple(letters))

    @cached_property
    def _after(self) -> Callable[[str, tuple[str, ...]], np.ndarray]:
        """`_look_up_after`, which keeps what it returned: texts have many contexts of order − 1 letters in common."""
        return lru_cache(CONTEXTS)(self._look_up_after)

    def _look_up_after(self, context: str, letters: tuple[str, ...]) -> np.ndarray:
        """What `log_probs_after` returns; context: its last order − 1 letters, all of them where it has fewer."""
        before = [BOUNDARY] * (self.order - 1 - len(context)) + [self._ids.get(c, UNKNOWN) for c in context]
        last = np.array([self._ids.get(c, UNKNOWN) for c in letters], np.int64)
        p = np.full(len(last), 1 / (len(self._ids) + 2))
        for n, (grams, own, contexts, left) in enumerate(self._levels, start=1):
            history = 0
            for code in before[self.order - n :]:
                history = history << 8 | code
            wanted = last | history << 8
            p = _look_up(grams, own, wanted, 0.0) + _look_up(contexts, left, wanted >> 8, 1.0) * p
        return np.log(p)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that `from_arrays` needs, by name."""
        letters = np.array([ord(letter) for letter in self._ids], np.int64)
        levels = {f"{n}.{part}": a for n, level in enumerate(self._levels, 1) for part, a in enumerate(level)}
        return {"letters": letters, **levels}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> CharacterNgram:
        """The model whose `arrays` these are. Raises KeyError where one is missing."""
        model = cls.__new__(cls)
        model.order = (len(arrays) - 1) // 4
        model._ids = {chr(code): i for i, code in enumerate(arrays["letters"].tolist(), start=2)}
        model._levels = [tuple(arrays[f"{n}.{part}"] for part in range(4)) for n in range(1, model.order + 1)]
        return model

    def _codes(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All texts as one array of codes, the positions in it to predict, and the number of each position's text."""
        padding = [BOUNDARY] * (self.order - 1)
        rows = [[self._ids.get(c, UNKNOWN) for c in text[:MAX_CHARACTERS]] + [BOUNDARY] for text in texts]
        codes = np.array([code for row in rows for code in padding + row], np.int64)
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        ends = np.arange(len(owner)) + len(padding) * (owner + 1)
        return codes, ends, owner

    @staticmethod
    def _grams(codes: np.ndarray, ends: np.ndarray, n: int) -> np.ndarray:
        """The n-gram that ends at each position, as an integer."""
        grams = np.zeros(len(ends), np.int64)
        for back in range(n - 1, -1, -1):
            grams = grams << 8 | codes[ends - back]
        return grams


def _discounted(grams: np.ndarray, counts: np.ndarray) -> _Level:
    """(grams, their discounted shares of their context, contexts, the share each context leaves to the lower order)."""
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2) if n1 else 0.5
    followed = ((1, n1, n2), (2, n2, n3), (3, n3, n4))
    found = [k - (k + 1) * y * more / fewer if fewer else 0.5 for k, fewer, more in followed]
    # In a small corpus the estimated discounts can fall outside the range in which the probabilities stay positive.
    steps = np.array([0.0, *(min(max(d, 0.05), k - 0.05) for k, d in enumerate(found, start=1))])
    taken = steps[np.minimum(counts, 3)]
    contexts, inverse = np.unique(grams >> 8, return_inverse=True)
    totals = np.bincount(inverse, counts)
    return grams, (counts - taken) / totals[inverse], contexts, np.bincount(inverse, taken) / totals


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, absent: float) -> np.ndarray:
    """The value of each `wanted` among sorted `keys`, or `absent`."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], absent)
