"""Letters a second: whether a text takes as long as the speech that is said to be it.

Nobody has to listen for this, so it is what tells a wrong text of a subtitle. How far a good text may be from the usual
rate depends on how evenly the recording is spoken: of synthetic speech 90 % of the sentences are within 6 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from xtts_ka.georgian.alphabet import georgian_letters
from xtts_ka.georgian.text import normalise

FEW_LETTERS = 8  # of a text whose rate says little
ODD = 1.8  # times the usual rate, over or under, is too much in any recording
_LEAST = 1.15  # times the usual rate is never too much: the edges of pauses are that inexact
_ENOUGH, _ENOUGH_FOR_SPREAD = 5, 20  # texts whose median is the usual rate; whose spread is known
_MOST, _BEYOND = 0.9, 2.5  # what is so many times as far from the usual rate as this share of the texts is too far


def letters_aloud(text: str) -> int:
    """The letters of a text as it is read aloud: those of 1921 are those of ათას ცხრაას ოცდაერთი."""
    return len(georgian_letters(normalise(text)))


@dataclass(frozen=True, slots=True)
class UsualRate:
    """rate: letters a second; limit: how far the logarithm of a long text's rate may be from that of `rate`.

    letters: of a text of usual length; a shorter one may be further away, as the mean of fewer letters is.
    """

    rate: float
    limit: float
    letters: float

    @classmethod
    def of(cls, letters: Sequence[int], seconds: Sequence[float], closely: bool) -> UsualRate | None:
        """Of texts with so many letters in so many seconds; None where they are too few.

        closely: judge by the spread of their rates as well; else ODD is the limit.
        """
        known = [(count, length) for count, length in zip(letters, seconds) if count >= FEW_LETTERS and length > 0]
        if len(known) < _ENOUGH:
            return None
        rates = [count / length for count, length in known]
        usual, limit = median(rates), math.log(ODD)
        if closely and len(known) >= _ENOUGH_FOR_SPREAD:
            spread = float(np.quantile(np.abs(np.log(rates) - math.log(usual)), _MOST))
            limit = max(math.log(_LEAST), _BEYOND * spread)
        return cls(usual, limit, median(count for count, _ in known))

    def is_odd(self, letters: int, seconds: float) -> bool:
        """Whether a text of so many letters is not what is said in so many seconds."""
        if letters < FEW_LETTERS or seconds <= 0:
            return False
        limit = min(math.log(ODD), self.limit * math.sqrt(max(1.0, self.letters / letters)))
        return abs(math.log(letters / seconds / self.rate)) > limit
