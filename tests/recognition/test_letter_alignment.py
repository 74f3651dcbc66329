from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from xtts_ka.recognition.letter_alignment import align

letters = st.text("აბგდ", max_size=12)


def test_a_doubled_word_is_one_run():
    assert align("კატაზისძაღლი", "კატაზისზისძაღლი").added == [(4, 4, 7)]


def test_letters_after_the_end_stand_together_even_if_one_of_them_fits():
    found = align("მზე", "მზელელე")
    assert found.pairs == [0, 1, 2] and found.added == [(3, 3, 7)]


def test_a_lost_word_is_missing_as_a_whole():
    assert align("დიდიკატაზის", "დიდიზის").pairs == [0, 1, 2, 3, -1, -1, -1, -1, 4, 5, 6]


@given(letters, letters)
def test_every_letter_has_one_place(expected, heard):
    found = align(expected, heard)
    taken = [place for place in found.pairs if place >= 0]
    runs = [place for _, start, end in found.added for place in range(start, end)]
    assert sorted(taken + runs) == list(range(len(heard))) and taken == sorted(taken)
    assert len(found.pairs) == len(expected)
    edits = len(runs) + found.pairs.count(-1) + sum(p >= 0 and heard[p] != e for e, p in zip(expected, found.pairs))
    assert edits >= Levenshtein.distance(expected, heard)


@given(letters)
def test_equal_texts_match_letter_by_letter(text):
    assert align(text, text).pairs == list(range(len(text))) and not align(text, text).added
