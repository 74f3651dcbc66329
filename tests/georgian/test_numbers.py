"""Number words against known answers, and against CLDR where the two should agree; numbers written in digits."""

import pytest
from georgian_readings import readings
from hypothesis import given
from hypothesis import strategies as st
from unicode_rbnf import RbnfEngine

from xtts_ka.georgian.numbers import cardinal, ordinal, part, split_number, whole
from xtts_ka.georgian.text import normalise


@readings("numbers")
def test_texts_are_read_as_a_georgian_reads_them_and_readings_stay_as_they_are(written, reading):
    assert normalise(written) == reading
    assert normalise(reading) == reading


@pytest.mark.parametrize(
    ("n", "word"),
    [
        (0, "ნული"), (18, "თვრამეტი"), (25, "ოცდახუთი"), (58, "ორმოცდათვრამეტი"), (101, "ას ერთი"),
        (225, "ორას ოცდახუთი"),
        (1000, "ათასი"), (1984, "ათას ცხრაას ოთხმოცდაოთხი"), (2026, "ორი ათას ოცდაექვსი"),
        (125_000, "ას ოცდახუთი ათასი"),
        (10**6, "ერთი მილიონი"), (10**9 + 1, "ერთი მილიარდ ერთი"), (10**12, "ერთი ტრილიონი"),
        (10**15, "ერთი კვადრილიონი"),
    ],
)  # fmt: skip
def test_cardinals(n, word):
    assert cardinal(n) == word


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_cardinals_are_cldr_with_other_spaces_and_its_eighteen_corrected(n):
    cldr = RbnfEngine.for_language("ka").format_number(n).text.replace("თრვამეტ", "თვრამეტ")
    assert cardinal(n).replace(" ", "") == cldr.replace(" ", "")


@pytest.mark.parametrize(
    ("n", "word"),
    [
        (0, "ნულოვანი"), (1, "პირველი"), (2, "მეორე"), (5, "მეხუთე"), (8, "მერვე"), (9, "მეცხრე"),
        (18, "მეთვრამეტე"),
        (20, "მეოცე"), (21, "ოცდამეერთე"), (40, "მეორმოცე"), (70, "სამოცდამეათე"), (99, "ოთხმოცდამეცხრამეტე"),
        (100, "მეასე"), (101, "ას მეერთე"), (121, "ას ოცდამეერთე"), (300, "მესამასე"), (1000, "მეათასე"),
        (2026, "ორი ათას ოცდამეექვსე"), (10**6, "მემილიონე"),
    ],
)  # fmt: skip
def test_ordinals(n, word):
    assert ordinal(n) == word


def test_parts_and_runs_of_digits():
    assert [part(2), part(4), part(10), part(25)] == ["მეორედი", "მეოთხედი", "მეათედი", "ოცდამეხუთედი"]
    assert whole("05") == "ნული ხუთი"
    assert whole("1" * 5000).split() == ["ერთი"] * 5000


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("1.234,5", ("1234", "5")), ("1.234", ("1234", "")), ("0.125", ("0", "125")), ("12,500", ("12500", "")),
        ("3,14", ("3", "14")), ("1 234 567", ("1234567", "")), ("1'000", ("1000", "")), ("12,345", ("12", "345")),
    ],
)  # fmt: skip
def test_whole_and_fractional_digits_are_told_apart_by_the_separators(written, parts):
    assert split_number(written) == parts


@given(st.integers(min_value=0, max_value=10**15))
def test_every_number_up_to_ten_to_the_fifteen_is_read_as_its_cardinal(n):
    assert normalise(f"{n} ₾") == f"{cardinal(n)} ლარი"
    if len(str(n)) != 9 or str(n)[0] != "5":  # nine digits that begin with 5 are a telephone number
        assert normalise(str(n)) == cardinal(n)
