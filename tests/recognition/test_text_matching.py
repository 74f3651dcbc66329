"""Letters heard against the letters of a long text: mishearings, parts not read, speech that is not written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_speech import words
from spoken_letters import misheard

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.recognition.text_matching import match_letters


def random_text(count: int, seed: int) -> str:
    pool, rng = words(), np.random.default_rng(seed)
    return "".join(pool[rng.integers(len(pool))] for _ in range(count))


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.3])
def test_misheard_letters_do_not_lead_astray(wrong):
    text = random_text(600, 0)
    where = match_letters(text, misheard(text, wrong, np.random.default_rng(1)))
    right = (where == np.arange(len(text))).mean()
    assert right > 0.98 - 1.1 * wrong and ((where >= 0) & (where != np.arange(len(text)))).mean() < 0.02


def test_what_is_not_read_and_what_is_not_written_stay_unmatched():
    parts = [random_text(200, seed) for seed in range(4)]
    text, heard = parts[0] + parts[1] + parts[2], parts[0] + parts[3] + parts[2]
    where = match_letters(text, misheard(heard, 0.1, np.random.default_rng(1)))
    a, b = len(parts[0]), len(parts[0]) + len(parts[1])
    shift = len(parts[3]) - len(parts[1])
    assert (where[:a] == np.arange(a)).mean() > 0.85
    assert (where[b:] == np.arange(b, len(text)) + shift).mean() > 0.85
    longest = max(map(len, "".join("x" if place >= 0 else " " for place in where[a + 20 : b - 20]).split()), default=0)
    assert longest < 20  # a word that both have


def test_one_chapter_is_found_in_the_whole_book():
    book, chapter = random_text(5000, 0), slice(14_000, 16_000)
    where = match_letters(book, misheard(book[chapter], 0.15, np.random.default_rng(1)))
    found = np.flatnonzero(where >= 0)
    assert found[0] > 13_950 and found[-1] < 16_050 and (where[chapter] == np.arange(2000)).mean() > 0.8


@given(st.text(GEORGIAN_LETTERS[:4], max_size=80), st.text(GEORGIAN_LETTERS[:4], max_size=80))
def test_matches_are_equal_letters_in_ascending_order(text, heard):
    where = match_letters(text, heard)
    found = np.flatnonzero(where >= 0)
    assert len(where) == len(text) and (np.diff(where[found]) > 0).all()
    assert all(text[place] == heard[where[place]] for place in found)
