"""The letters, the folding of their other shapes, and questions about letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.georgian.alphabet import (
    ARCHAIC_LETTERS,
    GEORGIAN_LETTERS,
    fold_letters,
    georgian_fraction,
    georgian_letters,
    is_all_georgian,
    is_georgian,
    is_word,
    word_table,
    words,
)
from xtts_ka.georgian.text import normalise


def test_the_alphabet_is_the_thirty_three_letters_in_order():
    assert GEORGIAN_LETTERS == "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"
    assert len(GEORGIAN_LETTERS) == 33


@pytest.mark.parametrize("block", [0x1C90, 0x10A0, 0x2D00])
def test_the_other_three_alphabets_fold_to_mkhedruli(block):
    letters = "".join(chr(block + i) for i in range(38))
    assert fold_letters(letters) == GEORGIAN_LETTERS + ARCHAIC_LETTERS
    assert normalise(letters[:33]) == GEORGIAN_LETTERS


def test_folding_leaves_other_characters_and_reads_rare_letters_as_the_nearest_sound():
    assert fold_letters("ᲗᲑᲘᲚᲘᲡᲘ, Tbilisi") == "თბილისი, Tbilisi"
    assert fold_letters("Ⴀბⴂ") == "აბგ"
    assert fold_letters("ჶჷჹ") == "ფგ"


@given(st.text(max_size=30))
def test_any_string_has_georgian_letters_or_none(text):
    letters = georgian_letters(text)
    assert set(letters) <= set(GEORGIAN_LETTERS + ARCHAIC_LETTERS)
    assert is_all_georgian(text) == (bool(text) and len(letters) == len(text))
    assert is_word(letters) == bool(letters)


def test_a_word_with_anything_but_letters_that_sound_is_not_all_georgian():
    assert all(map(is_all_georgian, ["კაცი", "ᲙᲐᲪᲘ", "ჴმა"]))
    assert not any(map(is_all_georgian, ["", "კაც-ი", "კაცი ", "კაცiი", "გჷ"]))


def test_is_georgian_knows_all_alphabets():
    assert all(map(is_georgian, ["დედა", "ᲓᲔᲓᲐ", "ႣႤႣႠ", "ⴃⴄⴃⴀ", "abc დ"]))
    assert not any(map(is_georgian, ["", "mother", "мама", "123 !", "մայր"]))


def test_georgian_fraction_counts_letters_only():
    assert georgian_fraction("დედა") == 1.0
    assert georgian_fraction("დედა, 100%!") == 1.0
    assert georgian_fraction("დედა mama") == 0.5
    assert georgian_fraction("mama") == 0.0
    assert georgian_fraction("123") == 0.0


def test_words_are_letters_only():
    assert words("ნელ-ნელა, მოდის ჴმა - გაზაფხული!") == ["ნელ", "ნელა", "მოდის", "ჴმა", "გაზაფხული"]
    assert words("") == []


def test_a_table_is_read_from_text():
    assert word_table("a=ა b=") == {"a": "ა", "b": ""}
    assert word_table("ა შ=ასე შემდეგ, წ=წელი", ", ") == {"ა შ": "ასე შემდეგ", "წ": "წელი"}
