"""The prefix beam search against adding up every path, and what the n-gram changes."""

import itertools
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.georgian.character_ngram import CharacterNgram
from xtts_ka.recognition.beam_search import beam_search
from xtts_ka.recognition.symbols import BLANK, SYMBOLS, decode, encode

TRIED = [BLANK, *encode(" აბ")]


def spread(rows):
    """Rows of scores of TRIED as log-probabilities over all symbols, the others nearly impossible."""
    log_probs = torch.full((len(rows), len(SYMBOLS)), -60.0)
    log_probs[:, TRIED] = torch.tensor(rows, dtype=torch.float64).log_softmax(-1).float()
    return log_probs


def by_all_paths(log_probs, prior):
    """ln p of every text, added up over all paths, and its prior."""
    texts: dict[str, float] = {}
    for path in itertools.product(TRIED, repeat=len(log_probs)):
        text = " ".join(decode(symbol for symbol, _ in itertools.groupby(path)).split())
        p = sum(float(log_probs[frame, symbol]) for frame, symbol in enumerate(path))
        texts[text] = float(np.logaddexp(texts.get(text, -math.inf), p))
    return {text: p + prior(text) for text, p in texts.items()}


ROWS = st.lists(st.lists(st.floats(-4, 4), min_size=4, max_size=4), min_size=1, max_size=5)


@given(ROWS)
def test_a_wide_beam_finds_the_likeliest_text_of_all(rows):
    log_probs = spread(rows)
    texts = by_all_paths(log_probs, lambda text: 0.0)
    found = beam_search(log_probs, width=10_000, likely=-30.0)
    assert texts[found] >= max(texts.values()) - 1e-5


@given(ROWS)
def test_with_an_n_gram_too(rows):
    model, weight, bonus = CharacterNgram(["აბა აბ", "ბა აბა", "აბ"], 3), 0.7, 0.4

    def prior(text):
        after = (model.log_probs_after(text[:i], [text[i]])[0] for i in range(len(text)))
        return sum(weight * p + bonus for p in after)

    log_probs = spread(rows)
    texts = by_all_paths(log_probs, prior)
    found = beam_search(log_probs, model, width=10_000, likely=-30.0, weight=weight, bonus=bonus)
    # A text that ends in a space shares the score of the text without it, whose prior is better known at the end.
    assert texts[found] >= max(texts.values()) - 1e-4


def test_the_n_gram_decides_between_letters_that_sound_alike():
    model = CharacterNgram(["დღეს კარგი ამინდია", "კარგი დღე", "კარგი"], 4)
    row = {**dict.fromkeys(range(len(SYMBOLS)), -12.0)}
    frames = []
    for letter in "კარგი":
        scores = dict(row) | {encode(letter)[0]: -0.1}
        if letter == "კ":
            scores |= {encode("ქ")[0]: -0.65, encode("კ")[0]: -0.75}
        frames.append([scores[i] for i in range(len(SYMBOLS))])
    log_probs = torch.tensor(frames).log_softmax(-1)
    assert beam_search(log_probs) == "ქარგი" and beam_search(log_probs, model) == "კარგი"


def test_nothing_is_heard_in_blanks():
    log_probs = torch.full((3, len(SYMBOLS)), -20.0)
    log_probs[:, BLANK] = 0
    assert beam_search(log_probs) == "" == beam_search(log_probs[:0])
