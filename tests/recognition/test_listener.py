"""Who hears, by what the user gave, and the letters in which everything is compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.listener import open_listener, spoken_letters
from xtts_ka.recognition.train_recogniser import recogniser_folder


@given(st.text() | st.text("აბჱჳ -–.,!?19"))
def test_only_letters_and_single_spaces_are_left(text):
    letters = spoken_letters(text)
    assert set(letters) <= set(GEORGIAN_LETTERS + " ")
    assert letters == " ".join(letters.split()) and spoken_letters(letters) == letters


def test_texts_are_read_before_they_are_compared():
    assert spoken_letters("ᲓᲦᲔᲡ 2 კგ, ხილ-ბოსტანი!") == "დღეს ორი კილოგრამი ხილ ბოსტანი"
    assert spoken_letters("ჴელი", Reading("keep")) == "ხელი"
    assert spoken_letters("აბვ.", Reading(abbreviations={"აბვ.": "ანბანი"})) == "ანბანი"


def test_without_a_name_the_projects_own_is_opened(tones, tmp_path):
    config, recogniser = tones
    assert open_listener(None, folder=recogniser_folder(config)).name == recogniser.name
    with pytest.raises(UserError, match=r"recogniser\.json does not exist: train it"):
        open_listener(None, folder=tmp_path)
