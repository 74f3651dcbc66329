"""Case endings, and the form of a numeral before a declined noun."""

import pytest
from georgian_readings import readings

from xtts_ka.georgian.declension import DROP, ERGATIVE, KEEP, agree, attach, case_before, decline
from xtts_ka.georgian.text import normalise


@readings("declension")
def test_texts_are_read_as_a_georgian_reads_them_and_readings_stay_as_they_are(written, reading):
    assert normalise(written) == reading
    assert normalise(reading) == reading


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
