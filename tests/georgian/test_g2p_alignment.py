"""Alignment, the context table and the error rates, on lexicons small enough to check by hand."""

from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.georgian.g2p_alignment import ContextTable, align, error_rates
from xtts_ka.georgian.phonology import narrow_chunks


def test_alignment_gives_an_absorbed_letter_nothing():
    words = ("კვალი", "კალი", "ვაკე", "სვეტი", "სეტი", "გვარი", "გარი", "თვალი", "თალი")
    aligned = align({word: [p for chunk in narrow_chunks(word) for p in chunk] for word in words})
    assert aligned["კვალი"] == [("kʼʷ",), (), ("ɑ",), ("l",), ("i",)]
    assert aligned["სვეტი"] == [("sʷ",), (), ("ɛ",), ("tʼ",), ("i",)]


def test_alignment_of_a_letter_with_two_phones():
    aligned = align(
        {
            word: list(phones)
            for word, phones in {"xa": "ksa", "ax": "aks", "at": "at", "ta": "ta", "tat": "tat"}.items()
        }
    )
    assert aligned["xa"] == [("k", "s"), ("a",)] and aligned["ax"] == [("a",), ("k", "s")]


def test_a_word_with_too_many_phones_is_left_out():
    assert align({"აბ": ["x"] * 7, "ა": ["ɑ"]}) == {"ა": [("ɑ",)]}


@given(st.dictionaries(st.text("აბგ", min_size=1, max_size=5), st.text("xyz", max_size=9).map(list), max_size=6))
def test_alignment_keeps_every_phone_in_order(lexicon):
    aligned = align(lexicon)
    assert set(aligned) == {word for word, phones in lexicon.items() if len(phones) <= 3 * len(word)}
    for word, chunks in aligned.items():
        assert len(chunks) == len(word) and [p for chunk in chunks for p in chunk] == lexicon[word]


def test_table_backs_off_to_what_it_has_seen():
    table = ContextTable(
        {"აბგდე": [("a",), ("b",), ("g",), ("d",), ("e",)], "ბა": [("B",), ("a",)], "ბო": [("B",), ("o",)]}
    )
    assert table.phonemes("აბგდე") == ["a", "b", "g", "d", "e"]  # the whole context is known
    assert table.phonemes("ეაბგ") == ["e", "a", "b", "g"]  # ±1 letter decides for ბ
    assert table.phonemes("ებე") == ["e", "B", "e"]  # only the letter: its commonest chunk
    assert table.phonemes("ჟ") == []


def test_error_rates_count_words_and_edits():
    assert error_rates([["a", "b"], ["c"]], [["a", "b"], ["c"]]) == (0, 0)
    assert error_rates([["a", "b", "c"], ["d"]], [["a", "x"], ["d"]]) == (0.5, 0.5)
    assert error_rates([], []) == (None, None)
    assert error_rates(["kitten"], ["sitting"]) == (1, 3 / 6)
