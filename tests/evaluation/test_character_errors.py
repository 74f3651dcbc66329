import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.evaluation.character_errors import count_errors, marked, mean, ratio

spoken = st.lists(st.text("აბგდ", min_size=1, max_size=4), min_size=1, max_size=6).map(" ".join)


def test_letters_and_words_are_counted():
    found = count_errors("დღეს კარგი დარია", "დღეს კარგ დაარია")
    assert (found.letters, found.wrong_letters, found.words, found.wrong_words) == (16, 2, 3, 2)
    assert not found.perfect and count_errors("მზე", "მზე").perfect


def test_a_clip_is_wrong_once_however_long_it_babbles():
    found = count_errors("მზე", "ლა ლა ლა ლა ლა")
    assert (found.wrong_letters, found.wrong_words) == (3, 1)


@given(spoken, spoken)
def test_the_marks_hold_both_texts(expected, heard):
    pieces = marked(expected, heard)
    assert "".join(letters for kind, letters in pieces if kind != "missing") == heard
    assert all(kind == "equal" for kind, _ in pieces) == (expected == heard)


def test_the_interval_holds_the_truth_in_about_95_of_100_draws():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        wrong = rng.binomial(20, 0.1, size=60)
        figure = ratio(wrong, [20] * 60, range(60))
        inside += figure["low"] <= 0.1 <= figure["high"]
    assert 88 <= inside <= 99


def test_clips_of_one_text_are_drawn_together():
    wrong, texts = [1, 1, 1, 0, 0, 0] * 5, [n // 3 for n in range(30)]
    apart = mean(wrong, range(30))
    together = mean(wrong, texts)
    assert together["value"] == apart["value"] == 0.5
    assert together["high"] - together["low"] > 1.3 * (apart["high"] - apart["low"])


def test_without_anything_measured_there_is_no_figure():
    assert mean([], []) == {"value": None, "low": None, "high": None}
