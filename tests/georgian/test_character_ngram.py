import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import SENTENCES

from xtts_ka.georgian import character_ngram as cn
from xtts_ka.georgian.alphabet import READING_SYMBOLS
from xtts_ka.georgian.character_ngram import CharacterNgram

NONSENSE = "ჟჰღწ ძჭჯყ ხფცძ ქწჟე რტყ უჰჟ ფჯღ ჭჟჰყ"


def test_unigram_by_hand():
    # ა twice, the end twice, ბ once, of 5. n1 = 1, n2 = 2, so y = 1/(1+4), D1 = 1 − 2·y·2 = 0.2, and D2 = 2 is held at
    # 1.95. What is taken, 0.2 + 2 · 1.95 = 4.1 of 5, goes evenly to 46 letters, blank and marks, the end and unknown.
    model = CharacterNgram(["აბ", "ა"], order=1)
    even = 4.1 / 5 / 48
    expected = -math.log2(0.8 / 5 + even) - math.log2(0.05 / 5 + even)
    assert model.bits(["ბ"])[0] == pytest.approx(expected)


@pytest.mark.parametrize("order", [1, 2, 4, 7])
def test_ngram_gives_a_distribution_after_every_context(order):
    model = CharacterNgram(SENTENCES[:30], order)
    for context in ("", "ბი", "გოგონა ე", "ჟჟჟ"):
        # p(context + c + end) / p(context + c …) cancels nothing, so take the chain: p(c | context) from two texts
        symbols = READING_SYMBOLS
        here = _prefix_bits(model, context)
        total = sum(2 ** (here - _prefix_bits(model, context + c)) for c in symbols)
        end = 2 ** (here - model.bits([context])[0])
        unknown = 2 ** (here - _prefix_bits(model, context + "€") + cn.UNKNOWN_BITS)
        assert total + end + unknown == pytest.approx(1)


def _prefix_bits(model: CharacterNgram, prefix: str) -> float:
    """−log₂ p of beginning with `prefix`, without any end: the end's own share is taken off."""
    codes, ends, _ = model._codes([prefix])
    p = np.full(len(ends), 1 / (len(model._ids) + 2))
    for n, (grams, own, contexts, left) in enumerate(model._levels, start=1):
        wanted = model._grams(codes, ends, n)
        p = cn._look_up(grams, own, wanted, 0.0) + cn._look_up(contexts, left, wanted >> 8, 1.0) * p
    return float(-np.log2(p[:-1]).sum()) + cn.UNKNOWN_BITS * int((codes[ends] == cn.UNKNOWN).sum())


def test_longer_contexts_help_and_strange_text_surprises():
    held_out = SENTENCES[::5]
    train = [sentence for sentence in SENTENCES if sentence not in held_out]
    short, long = (CharacterNgram(train, n).bits(held_out).sum() for n in (1, 5))
    assert long < short / 2
    model = CharacterNgram(train, 5)
    usual, odd = model.bits([held_out[0]])[0] / len(held_out[0]), model.bits([NONSENSE])[0] / len(NONSENSE)
    assert odd > 3 * usual


@given(st.lists(st.text(max_size=1200), max_size=4))
def test_any_text_has_finite_bits(texts):
    bits = CharacterNgram(SENTENCES[:10]).bits(texts)
    assert bits.shape == (len(texts),) and np.isfinite(bits).all() and (bits > 0).all()


FOUR = CharacterNgram(SENTENCES[:30], 4)  # one model for all texts below, so that contexts recur


@given(st.text(st.sampled_from("აბგ ი€"), max_size=12))
def test_letters_after_their_contexts_make_up_a_text(text):
    chain = sum(float(FOUR.log_probs_after(text[:i], [text[i]])[0]) for i in range(len(text)))
    unknown = cn.UNKNOWN_BITS * text.count("€")
    assert -chain / math.log(2) + unknown == pytest.approx(_prefix_bits(FOUR, text))
