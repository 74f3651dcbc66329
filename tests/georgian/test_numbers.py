"""Number words and declension against known answers, and against CLDR where the two should agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unicode_rbnf import RbnfEngine

from xtts_ka.georgian.numbers import (
    DROP,
    ERGATIVE,
    KEEP,
    agree,
    attach,
    cardinal,
    case_before,
    decline,
    ordinal,
    part,
    whole,
)


@pytest.mark.parametrize(
    ("n", "word"),
    [
        (0, "ნული"), (18, "თვრამეტი"), (25, "ოცდახუთი"), (58, "ორმოცდათვრამეტი"), (101, "ას ერთი"),
        (225, "ორას ოცდახუთი"),
        (1000, "ათასი"), (1984, "ათას ცხრაას ოთხმოცდაოთხი"), (2026, "ორი ათას ოცდაექვსი"),
        (125_000, "ას ოცდახუთი ათასი"),
        (10**6, "ერთი მილიონი"), (10**9 + 1, "ერთი მილიარდ ერთი"), (10**12, "ერთი ტრილიონი"),
        (-7, "მინუს შვიდი"),
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
    ("stem", "ending", "word"),
    [
        ("ხუთ", "მა", "ხუთმა"), ("რვა", "მა", "რვამ"), ("რვა", "ის", "რვის"), ("მეხუთე", "ის", "მეხუთის"),
        ("ევრო", "ის", "ევროს"), ("ევრო", "ით", "ევროთი"), ("ხუთ", "დან", "ხუთიდან"),
        ("ცხრა", "დან", "ცხრიდან"),
        ("ხუთ", "მდე", "ხუთამდე"), ("რვა", "მდე", "რვამდე"), ("რვა", "თან", "რვასთან"), ("წელ", "ის", "წლის"),
        ("წელ", "ს", "წელს"), ("წელ", "მდე", "წლამდე"), ("იანვარ", "დან", "იანვრიდან"),
        ("დეკემბერ", "ში", "დეკემბერში"),
        ("ხუთ", "ც", "ხუთიც"), ("ხუთ", "საც", "ხუთსაც"), ("რვა", "მაც", "რვამაც"), ("სამ", "ვე", "სამივე"),
        ("ორმოც", "იანი", "ორმოციანი"), ("რვა", "იანი", "რვიანი"), ("რვა", "წლიანი", "რვაწლიანი"),
        ("ხუთ", "ია", "ხუთია"),
    ],
)  # fmt: skip
def test_endings(stem, ending, word):
    assert attach(stem, ending) == word


def test_a_numeral_agrees_with_its_noun():
    assert agree("ხუთი", KEEP) == "ხუთი"
    assert agree("ხუთი", DROP) == "ხუთ"
    assert agree("ხუთი", ERGATIVE) == "ხუთმა"
    assert agree("რვა", ERGATIVE) == "რვა"
    assert agree("ხუთი ათასი", DROP) == "ხუთ ათას"
    assert agree("ორი ათას ოცდაექვსი", DROP) == "ორი ათას ოცდაექვს"
    assert decline("ხუთი ათასი", "მდე") == "ხუთ ათასამდე"
    assert decline("ორი ათას ოცდაექვსი", "ში") == "ორი ათას ოცდაექვსში"


@pytest.mark.parametrize(
    ("word", "case"),
    [
        ("ლარი", KEEP), ("წლის", KEEP), ("წუთით", KEEP), ("პროგრამა", KEEP), ("ფორმა", KEEP),
        ("აქვს", KEEP), ("და", KEEP),
        ("წელს", DROP), ("ქალაქში", DROP), ("კილომეტრზე", DROP), ("ლარამდე", DROP), ("ნაწილად", DROP),
        ("დიდ", DROP),
        ("კაცმა", ERGATIVE), ("ბავშვმა", ERGATIVE),
    ],
)  # fmt: skip
def test_the_word_that_follows_decides_the_case(word, case):
    assert case_before(word) == case
