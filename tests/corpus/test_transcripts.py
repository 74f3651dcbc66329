"""Transcripts as corpora write them: what is mended, what is refused, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.corpus.transcripts import mend_letters, mixed_words, read_transcript


@pytest.mark.parametrize(
    "raw, text, reason",
    [
        ("კარგი&nbsp;დღე &amp;quot;აქ&amp;quot;", 'კარგი დღე "აქ"', "entities"),
        ("<b>კარგი</b> დღე<br/>აქ", "კარგი დღე აქ", "markup"),
        ("წყალი H<sub>2</sub>O", "წყალი H2O", "markup"),
        ("კარგი [pause] დღე (პაუზა)", "კარგი დღე", "markup"),
        ("*კარგი* დღე", "კარგი დღე", "markup"),
        ("12.\tკარგი დღე", "კარგი დღე", "markup"),
        (r"კარგი\nდღე\N აქ", "კარგი დღე აქ", "markup"),
        ("გამარჯoბა", "გამარჯობა", "homoglyphs"),
        ("გამარjoბა და თბილисი", "გამარჯობა და თბილისი", "homoglyphs"),
    ],
)
def test_markup_is_mended_and_told(raw, text, reason):
    transcript = read_transcript(raw)
    assert (transcript.text, transcript.refused) == (text, None)
    assert reason in {kind for kind, _ in transcript.mended}
    assert not read_transcript(text).mended


@pytest.mark.parametrize(
    "tag",
    ["<noise>", "[laughter]", "[MUSIC]", "{breath}", "*cough*", "#uh", "%um", "(laughs)", "(სიცილი)", "[ხმაური]"]
    + ["++NOISE++", "/noise/", "|noise|", "＜noise＞", "【noise】", "<|music|>", "‹noise›", "==სიცილი==", "~laughs~"]
    + ["<noise", "[noise", "noise]", "<<noise>>", "{სიცილი", "@ეე"]
    + ["<laugh>ჰაჰა</laugh>", "[background noise]", "<vocalized-noise>", "(ფონური ხმაური)", "[SPK]"],
)
def test_tags_of_sounds_refuse_the_row(tag):
    assert read_transcript(f"კარგი {tag} დღე").refused[0] == "noise_tag"


@pytest.mark.parametrize(
    "mark",
    [
        "<unk>",
        "[UNK]",
        "(*)",
        "(???)",
        "[...]",
        "***",
        "xxx",
        "(......)",
        "კარ\ufffdი",
        "((რაღაც))",
        "(არ ისმის)",
        "[გაურკვეველი]",
        "[inaudible]",
    ],
)
def test_marks_of_unclear_speech_refuse_the_row(mark):
    assert read_transcript(f"კარგი {mark} დღე").refused[0] == "unclear_speech"


@pytest.mark.parametrize(
    "text",
    [
        "კარგი (ძალიან კარგი) დღე",
        "ტონი (tone) მაღალია",
        "XXX საუკუნე",
        "C# და AT&T",
        "#ქართული",
        "2*3*4",
        "5 < 7 და 8 > 3",
    ]
    + ["ნახვა-კითხვა: დილა და/ან საღამო", "მან თქვა: კარგი დღეა", "თქვა: კარგი", "მოვიდა 12:30 საათზე, ანგარიშით (3:2)"]
    + [
        "კარგი (ე.ი. ძალიან კარგი)",
        "სიჩქარე 1/2 ან 20 კმ/სთ",
        "ა -> ბ",
        "მუსიკა/სიმღერა",
        "5 კმ² და 20ºზე",
        "5 μმ სიგრძე",
    ]
    + ["SMSი მივიღე", "iPhone-ი", "<nino@mail.ge>", "ვიტამინი B12", "(რეკლამა)", "[12] კარგი", "ჩაწერა (USB)"],
)
def test_what_only_looks_like_a_tag_stays(text):
    transcript = read_transcript(text)
    assert (transcript.text, transcript.refused, transcript.mended) == (text, None, ())
    assert not [why for kind, why in transcript.suspected if kind != "mixed_script"]


@pytest.mark.parametrize(
    "text, reason",
    [("სუპერVIP მოვიდა", "mixed_script"), ("მან [ნინომ] თქვა", "brackets"), ("ჩქიმი ჯიმა ჸუდე", "other_language")]
    + [(f"კარგი {mark} დღე", "brackets") for mark in ("(ოხრავს)", "(ხმამაღლა ყვირის)", "|კარგი|", "[კარგი", "#სიცილი")]
    + [("(ჩუმად) კარგი დღე", "brackets"), ("კარგი *ოხრავს* დღე", "brackets")]
    + [
        (f"{name}: კარგი დღე", "label") for name in ("NINO", "ნინო", "ᲜᲘᲜᲝ", "Speaker 1", "ნინო აბაშიძე", "- მთხრობელი")
    ],
)
def test_what_looks_wrong_is_suspected(text, reason):
    assert [kind for kind, _ in read_transcript(text).suspected] == [reason]


@pytest.mark.parametrize("word", ["სAქARთVელო", "ჩემიfacebook", "ჩემიFacebookი"])
def test_a_word_that_would_be_read_letter_by_letter_refuses_the_row(word):
    assert read_transcript(f"კარგი {word} დღე").refused[0] == "mixed_script"


@given(st.text(alphabet="აბოob<>[](){}*#&;xunk/ \t…?0", max_size=40))
def test_any_text_is_read_and_a_mended_one_needs_no_more_letters(text):
    transcript = read_transcript(text)
    assert transcript.refused or mend_letters(transcript.text)[0] == transcript.text
    assert isinstance(mixed_words(text), list)
