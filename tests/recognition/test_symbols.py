"""The letters in which everything is compared, and the recogniser's symbols."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.symbols import BLANK, SPACE, SYMBOLS, decode, encode, spoken_letters


@given(st.text() | st.text("აბჱჳ -–.,!?19"))
def test_only_letters_and_single_spaces_are_left(text):
    letters = spoken_letters(text)
    assert set(letters) <= set(GEORGIAN_LETTERS + " ")
    assert letters == " ".join(letters.split()) and spoken_letters(letters) == letters


def test_texts_are_read_before_they_are_compared():
    assert spoken_letters("ᲓᲦᲔᲡ 2 კგ, ხილ-ბოსტანი!") == "დღეს ორი კილოგრამი ხილ ბოსტანი"
    assert spoken_letters("ჴელი", Reading("keep")) == "ხელი"
    assert spoken_letters("აბვ.", Reading(abbreviations={"აბვ.": "ანბანი"})) == "ანბანი"


def test_letters_and_space_have_ids_of_their_own():
    text = GEORGIAN_LETTERS + " ა"
    assert decode(encode(text)) == text and len(SYMBOLS) == 35
    assert encode(" ") == [SPACE] and BLANK not in encode(text) and decode([BLANK]) == ""


def test_other_signs_are_refused():
    with pytest.raises(KeyError):
        encode("ა.")
