"""The recogniser's symbols."""

import pytest

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.recognition.symbols import BLANK, SPACE, SYMBOLS, decode, encode


def test_letters_and_space_have_ids_of_their_own():
    text = GEORGIAN_LETTERS + " ა"
    assert decode(encode(text)) == text and len(SYMBOLS) == 35
    assert encode(" ") == [SPACE] and BLANK not in encode(text) and decode([BLANK]) == ""


def test_other_signs_are_refused():
    with pytest.raises(KeyError):
        encode("ა.")
