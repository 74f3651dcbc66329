"""Forced alignment on log-probabilities in which letters were planted, and on the recogniser's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tone_speech import HELD_OUT, RATE, speak

from xtts_ka.recognition.forced_alignment import align
from xtts_ka.recognition.symbols import BLANK, SYMBOLS, encode


def planted(text, lengths, gaps):
    """(log-probabilities, [(start, end)]): each letter for its length, blanks between."""
    ids, spans = [], []
    for symbol, length, gap in zip(encode(text), lengths, gaps):
        ids += [BLANK] * gap
        spans.append((len(ids), len(ids) + length))
        ids += [symbol] * length
    return (torch.eye(len(SYMBOLS))[ids + [BLANK]] * 8).log_softmax(-1), spans


@given(st.lists(st.tuples(st.sampled_from("აბგ "), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=12))
def test_planted_letters_are_found_where_they_are(letters):
    text = "".join(letter for letter, _, _ in letters)
    log_probs, spans = planted(text, *zip(*(rest for _, *rest in letters)))
    found = align(log_probs, text)
    assert [span.letter for span in found] == list(text)
    assert [(span.start, span.end) for span in found] == spans
    assert all(span.score > -0.1 for span in found)


def test_a_letter_that_is_not_said_has_a_low_score():
    log_probs, _ = planted("აბა", [3, 3, 3], [2, 2, 2])
    scores = [span.score for span in align(log_probs, "აგბა")]
    assert scores[1] < -4 and min(scores[0], *scores[2:]) > -3


def test_too_few_frames_are_refused():
    log_probs, _ = planted("აა", [1, 1], [0, 1])
    assert [(s.start, s.end) for s in align(log_probs, "აა")] == [(0, 1), (2, 3)]
    with pytest.raises(ValueError, match="3 frames are too few"):
        align(log_probs[:3], "აბგდ")
    with pytest.raises(ValueError, match="too few"):
        align(log_probs[:2], "აა")
    assert align(log_probs, "") == []


def test_letters_of_a_wave_are_near_where_they_were_put(tones):
    _, recogniser = tones
    text = HELD_OUT[0]
    (log_probs,) = recogniser.log_probs([speak(text)], RATE)
    begin = 0.05
    for span in align(log_probs, text):
        middle, seconds = (
            (span.start + span.end) / 2 * recogniser.seconds_per_frame,
            0.12 if span.letter == " " else 0.16,
        )
        assert begin - 0.1 < middle < begin + seconds + 0.1
        begin += seconds
