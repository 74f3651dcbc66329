"""Where abbreviations end sentences, and what looks like a verb."""

import pytest

from xtts_ka.georgian.sentences import ends_sentence, looks_like_verb
from xtts_ka.georgian.text import normalise, split_sentences


@pytest.mark.parametrize("word", "დაიბადა გარდაიცვალა აცხადებს გაიმარჯვეს გამოიცა იყო ეწვია ესტუმრა იბრძოდა".split())
def test_verbs_are_known_by_their_look(word):
    assert looks_like_verb(word)


@pytest.mark.parametrize("word", "კონსტიტუცია განცხადება პრეზიდენტი გაეროს ისტორია ამოცანა გამოცდა წელი".split())
def test_nouns_are_no_verbs(word):
    assert not looks_like_verb(word)


@pytest.mark.parametrize(("after", "over"), [("", True), ("  ", True), ("!", True), (" ის წავიდა", True),
                                             (" გზა", False), (", გზა", False)])  # fmt: skip
def test_an_abbreviation_ends_a_sentence_at_the_end_and_before_a_word_that_begins_one(after, over):
    assert ends_sentence("5 კმ." + after, 5) is over


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("გაიარა 5 კმ. და დაჯდა. მერე ადგა.", 2),
        ("პროფ. გ. ჩიტაია და აკად. ა. შანიძე მოვიდნენ.", 1),
        ("ი. ბ. ჭავჭავაძე 1837 წ. დაიბადა.", 1),
        ("იყიდა ვაშლი და ა.შ. მერე წავიდა.", 2),
        ("გზა 12 კმ. ის შორია.", 2),
        ("კარგი… მაგრამ გვიანია.", 1),
        ("შემოსავალი იყო 5 მლნ. ეს ცოტაა.", 2),
        ("მისამართი: ქ. თბილისი, რუსთაველის გამზ. 5.", 1),
        ("სამშ. და ხუთშ. ისვენებს, შაბ. არა.", 1),
        ("შ.პ.ს. „მზე“ და ს.ს. „თელასი“ შეთანხმდნენ.", 1),
    ],
)
def test_a_text_is_split_where_its_sentences_end(text, sentences):
    assert len(split_sentences(normalise(text), 400)) == sentences
