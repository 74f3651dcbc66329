"""Error rates and their intervals."""

import numpy as np
import pytest

from xtts_ka.recognition.error_rates import Rate, bootstrap, character_error_rate, word_error_rate


def test_characters_and_words_are_counted_over_all_clips():
    said, heard = ["კარგი დღე", "ხე"], ["კარგი დღ", "ხე"]
    assert character_error_rate(said, heard).value == pytest.approx(1 / 11)
    assert word_error_rate(said, heard).value == pytest.approx(1 / 3)


def test_what_is_heard_beyond_the_text_counts():
    assert character_error_rate(["ხე"], ["ხეხეხე"]).value == 2


def test_the_interval_holds_the_value_and_narrows_with_more_clips():
    rng = np.random.default_rng(1)
    parts = (rng.random(400) < 0.1).astype(float)
    few, many = bootstrap(parts[:40], np.ones(40)), bootstrap(parts, np.ones(400))
    assert few.low <= few.value <= few.high and many.low <= many.value <= many.high
    assert many.high - many.low < few.high - few.low
    assert many.high - many.low == pytest.approx(2 * 1.96 * (0.1 * 0.9 / 400) ** 0.5, rel=0.2)
    assert bootstrap(parts, np.ones(400)) == many


def test_nothing_to_count_is_an_error():
    with pytest.raises(ValueError, match="no letters"):
        character_error_rate([""], ["ა"])


def test_a_rate_is_shown_with_its_interval():
    assert str(Rate(0.037, 0.031, 0.0449)) == "3.7 % (3.1–4.5)"
