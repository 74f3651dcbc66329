"""Held-out sentences, and transcripts that a model of the other transcripts predicts badly."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import SENTENCES

from xtts_ka.corpus.odd_transcripts import cross_fitted_bits, held_out_split, surprising_transcripts
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.georgian.character_ngram import CharacterNgram

NONSENSE = "ჟჰღწ ძჭჯყ ხფცძ ქწჟე რტყ უჰჟ ფჯღ ჭჟჰყ"


def clip(number: int, text: str, speaker: str = "ნინო", seconds: float = 2.0) -> Clip:
    return Clip(f"c{number:03d}", text, speaker, seconds, Path(f"/recordings/c{number:03d}.wav"), None)


@given(st.lists(st.text(alphabet=GEORGIAN_LETTERS, min_size=1, max_size=6), max_size=40), st.floats(0.01, 0.5))
def test_split_is_a_partition_of_the_distinct_sentences(texts, fraction):
    parts = held_out_split(texts, fraction)
    assert sorted(itertools.chain(*parts)) == sorted(set(texts))
    assert len(set(texts)) < 3 or all(parts)
    assert held_out_split(list(reversed(texts)) + texts, fraction) == parts


def test_more_sentences_move_none_between_parts():
    few, many = held_out_split(SENTENCES[:60], 0.2), held_out_split(SENTENCES, 0.2)
    assert all(set(a) <= set(b) for a, b in zip(few, many, strict=True))


def test_a_text_is_scored_by_models_that_have_not_seen_it():
    seen = []

    class Remembers:
        def __init__(self, texts):
            self.texts = set(texts)

        def bits(self, texts):
            seen.extend(text in self.texts for text in texts)
            return np.ones(len(texts))

    bits = cross_fitted_bits(SENTENCES + SENTENCES[:9], Remembers, folds=4)
    assert set(bits) == set(SENTENCES) and len(seen) == len(SENTENCES) and not any(seen)


def test_odd_transcripts_are_listed_and_good_ones_are_not():
    clips = [clip(i, text) for i, text in enumerate([*SENTENCES, NONSENSE, SENTENCES[0], "დიახ."])]
    bits = cross_fitted_bits([c.text for c in clips], lambda texts: CharacterNgram(texts, 4), folds=5)
    listed = surprising_transcripts(bits, clips)
    assert listed[0][0].text == NONSENSE and listed[0][1] == pytest.approx(bits[NONSENSE] / len(NONSENSE))
    assert not {c.text for c, _ in listed} & set(SENTENCES)
    assert surprising_transcripts(bits, clips, top=0) == []


def test_equal_or_single_transcripts_surprise_nobody():
    assert surprising_transcripts({"ა": 9.0}, [clip(0, "ა")]) == []
    assert surprising_transcripts({"აბ": 9.0, "ბა": 9.0}, [clip(0, "აბ")]) == []
