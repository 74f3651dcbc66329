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
    + ["SMSი მივიღე", "iPhone-ი", "<nino@mail.ge>", "ვიტამინი B12", "(რეკლამა)", "[12] კარგი", "ჩაწერა (USB)"],
)
def test_what_only_looks_like_a_tag_stays(text):
    transcript = read_transcript(text)
    assert (transcript.text, transcript.refused, transcript.mended) == (text, None, ())


@pytest.mark.parametrize(
    "text, reason",
    [("სახლis კარი", "mixed_script"), ("მან [ნინომ] თქვა", "brackets"), ("ჩქიმი ჯიმა ჸუდე", "other_language")],
)
def test_what_looks_wrong_is_suspected(text, reason):
    assert [kind for kind, _ in read_transcript(text).suspected] == [reason]


@given(st.text(alphabet="აბოob<>[](){}*#&;xunk/ \t…?0", max_size=40))
def test_any_text_is_read_and_a_mended_one_needs_no_more_letters(text):
    transcript = read_transcript(text)
    assert transcript.refused or mend_letters(transcript.text)[0] == transcript.text
    assert isinstance(mixed_words(text), list)
