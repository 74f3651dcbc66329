"""English words by their sound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.georgian.alphabet import is_word
from xtts_ka.georgian.english import _dictionary, english

WORDS = """
people პიპლ|house ჰაუს|news ნიუს|smart სმარტ|world ვორლდ|cup კაპ|league ლიგ|black ბლეკ|market მარკეტ|planet პლენეტ
window ვინდოუ|show შოუ|station სტეიშენ|doctor დოკტორ|internet ინტერნეტ|school სქულ|church ჩერჩ|teacher ტიჩერ
festival ფესტივალ|global გლობალ|message მესიჯ|image იმიჯ|quick კვიკ|guitar გიტარ|night ნაიტ|light ლაიტ|work ვორკ
girl გერლ|dollar დოლარ|weather ვეზერ|nation ნეიშენ|vision ვიჟენ|shopping შოპინგ|bank ბენკ|pizza პიცა|photo ფოტო
"""


@pytest.mark.parametrize("pair", WORDS.replace("\n", "|").strip("|").split("|"))
def test_words_are_read_by_sound(pair):
    word, stem = pair.split()
    assert english(word) == stem


def test_a_word_that_the_dictionary_lacks_has_no_reading():
    assert english("bazaleti") is None


@given(st.data())
def test_every_word_of_the_dictionary_is_read_in_georgian_letters(data):
    word = data.draw(st.sampled_from(sorted(word for word in _dictionary() if word.isalpha())))
    reading = english(word)
    assert reading is not None and is_word(reading)
