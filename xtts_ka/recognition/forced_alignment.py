"""When each letter of a known text is said, and how surely: CTC forced alignment.

Source: Graves et al. 2006, "Connectionist Temporal Classification"; `torchaudio.functional.forced_align` finds the
likeliest path of the text's letters and blanks through the recogniser's log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torchaudio.functional import forced_align, merge_tokens

from xtts_ka.recognition.symbols import BLANK, encode


@dataclass(frozen=True, slots=True)
class LetterSpan:
    """One letter of the text: where it is said, in frames from `start` to before `end`, and how surely.

    score: the mean log-probability of the letter in its frames, 0 at most: exp(score) is near 1 where it was said.
    """

    letter: str
    start: int
    end: int
    score: float


def align(log_probs: Tensor, text: str) -> list[LetterSpan]:
    """The span of each letter and space of `text` in its order; their places in seconds are frames × seconds_per_frame.

    log_probs: (frames, symbols) of the recogniser; text: `listener.spoken_letters` of what is said. The path has one
    frame or more for every letter, so a text that is not said there is placed somewhere too, with low scores; spaces
    are as long as the recogniser shows them, often one frame. Raises ValueError for a text that needs more frames than
    there are: one for a letter, and one between two equal ones.
    """
    ids = encode(text)
    if not ids:
        return []
    path, scores = likeliest_path(log_probs, ids)
    spans = merge_tokens(path, scores, blank=BLANK)
    return [LetterSpan(letter, s.start, s.end, float(s.score)) for letter, s in zip(text, spans, strict=True)]


def likeliest_path(log_probs: Tensor, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The symbol of each frame, BLANK or one of `ids` in their order, and its log-probability, both (frames,).

    log_probs: (frames, symbols). Raises ValueError as `align`.
    """
    needed = len(ids) + sum(a == b for a, b in pairwise(ids))
    if needed > len(log_probs):
        raise ValueError(f"{len(log_probs)} frames are too few for {len(ids)} letters")
    targets = torch.tensor([list(ids)], dtype=torch.int32)
    path, scores = forced_align(log_probs.detach().float().cpu()[None], targets, blank=BLANK)
    return path[0], scores[0]
