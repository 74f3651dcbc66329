"""Letters a second: which texts cannot be what is said."""

import numpy as np
import pytest

from xtts_ka.corpus.speaking_rate import UsualRate, letters_aloud


def spoken(spread: float, count: int = 100) -> tuple[list[int], list[float]]:
    """(letters, seconds) of texts of about 40 letters, 12 a second, whose rates vary by `spread`."""
    rng = np.random.default_rng(0)
    letters = rng.integers(30, 60, count)
    return letters.tolist(), (letters / 12 / np.exp(rng.normal(0, spread, count))).tolist()


@pytest.mark.parametrize("text", ["1921 წელს", "ათას ცხრაას ოცდაერთ წელს"])
def test_numbers_count_as_they_are_read(text):
    assert letters_aloud(text) == len("ათასცხრაასოცდაერთწელს")


@pytest.mark.parametrize("times, odd", [(1.0, False), (1.1, False), (1.3, True), (1 / 1.3, True), (2.0, True)])
def test_in_even_speech_a_small_difference_is_odd(times, odd):
    usual = UsualRate.of(*spoken(0.04), closely=True)
    assert usual and usual.rate == pytest.approx(12, rel=0.02)
    assert usual.is_odd(60, 60 / 12 / times) == odd


def test_in_uneven_speech_or_where_somebody_listens_only_a_great_one_is():
    for usual in (UsualRate.of(*spoken(0.2), closely=True), UsualRate.of(*spoken(0.04), closely=False)):
        assert not usual.is_odd(60, 60 / 12 / 1.5) and usual.is_odd(60, 60 / 12 / 1.9)


def test_a_second_speaker_of_another_rate_is_not_odd():
    letters, seconds = spoken(0.03)
    slow = [length * (1.35 if n % 5 == 0 else 1) for n, length in enumerate(seconds)]
    usual = UsualRate.of(letters, slow, closely=True)
    assert not any(usual.is_odd(*each) for each in zip(letters, slow))


def test_short_texts_may_differ_more_and_the_shortest_are_not_judged():
    usual = UsualRate.of(*spoken(0.04), closely=True)
    assert usual.is_odd(60, 60 / 12 / 1.25) and not usual.is_odd(12, 12 / 12 / 1.25) and usual.is_odd(12, 12 / 12 / 1.9)
    assert not usual.is_odd(7, 0.1) and not usual.is_odd(20, 0.0)


def test_few_texts_have_no_usual_rate_and_some_no_spread():
    assert UsualRate.of([30] * 4, [2.0] * 4, closely=True) is None
    usual = UsualRate.of([30] * 10, [2.5] * 10, closely=True)
    assert usual and not usual.is_odd(30, 2.5 * 1.5) and usual.is_odd(30, 2.5 * 1.9)
