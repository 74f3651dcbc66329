"""Abbreviations, expanded and declined."""

from georgian_readings import readings

from xtts_ka.georgian.abbreviations import may_abbreviate
from xtts_ka.georgian.text import normalise


@readings("abbreviations")
def test_texts_are_read_as_a_georgian_reads_them_and_readings_stay_as_they_are(written, reading):
    assert normalise(written) == reading
    assert normalise(reading) == reading


def test_words_that_may_abbreviate_cover_contractions_first_parts_and_initials():
    found = may_abbreviate(".,")
    assert {"კმ", "კმ,", "და"} & found == {"კმ", "კმ,"}
    assert {"ა.", "ძვ.", "გვ.", "ჟ."} <= found
