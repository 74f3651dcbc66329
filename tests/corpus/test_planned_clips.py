"""Rules by which passages become clips, without any sound."""

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.cue_clips import plan_from_cues
from xtts_ka.corpus.planned_clips import Left, Limits, Passage, plan_of
from xtts_ka.corpus.segmentation import MARGIN, Speech
from xtts_ka.corpus.subtitles import Cue

SPEECH = [Speech(1.0, 3.0), Speech(3.3, 5.0), Speech(5.05, 5.5), Speech(9.0, 11.0)]


def passage(first, last, text, **more):
    return Passage(range(first, last), text, **more)


def test_cuts_keep_a_margin_or_half_a_short_pause():
    plan = plan_of([passage(0, 1, "ერთი."), passage(1, 2, "ორი."), passage(2, 4, "სამი.")], SPEECH, 11.02, Limits(0.5))
    assert [(clip.start, clip.end) for clip in plan.clips] == [
        pytest.approx((1 - MARGIN, 3 + MARGIN)),
        pytest.approx((3.3 - MARGIN, 5.025)),
        pytest.approx((5.025, 11.02)),
    ]


def test_broken_sentences_and_short_texts_are_joined_but_not_across_long_pauses_or_speakers():
    texts = [passage(0, 1, "ერთი,"), passage(1, 2, "ორი."), passage(2, 3, "კი."), passage(3, 4, "სამი,")]
    plan = plan_of(texts, SPEECH, 12, Limits(1.0))
    assert [clip.text for clip in plan.clips] == ["ერთი, ორი. კი.", "სამი,"]
    other = [texts[0], passage(1, 2, "ორი.", speaker="ნინო"), *texts[2:]]
    assert [clip.text for clip in plan_of(other, SPEECH, 12, Limits(1.0)).clips] == ["ერთი,", "ორი.", "სამი,"]


def test_texts_without_punctuation_are_not_joined():
    texts = [passage(0, 1, "ერთი"), passage(1, 2, "ორი"), passage(3, 4, "სამი")]
    assert len(plan_of(texts, SPEECH, 12, Limits(1.0)).clips) == 3


def test_what_cannot_be_a_clip_is_listed():
    texts = [
        passage(0, 1, "ერთი.", confidence=0.1),
        passage(1, 3, "ორი.", problem=(Left.NOISE_TAG, "[სიცილი]")),
        Passage(range(0), "სამი.", problem=(Left.NO_SPEECH, "nobody")),
    ]
    plan = plan_of(texts, SPEECH, 12, Limits())
    assert not plan.clips
    assert [(left.reason, left.text) for left in plan.left] == [
        (Left.UNSURE, "ერთი."),
        (Left.NOISE_TAG, "ორი."),
        (Left.NO_SPEECH, "სამი."),
        (Left.NO_TEXT, ""),
    ]
    long = plan_of([passage(0, 4, "გრძელი.")], SPEECH, 12, Limits(1, 5))
    assert [left.reason for left in long.left] == [Left.TOO_LONG]


def test_letters_that_nobody_says_in_that_time_are_listed():
    speech = [Speech(2.0 * n, 2.0 * n + 1.5) for n in range(8)]
    texts = [passage(n, n + 1, "ა" * (60 if n == 3 else 20) + ".") for n in range(8)]
    (left,) = plan_of(texts, speech, 16, Limits()).left
    assert (left.reason, left.start) == (Left.WRONG_LENGTH, 6.0)


def test_a_text_that_nobody_listened_to_must_be_as_long_as_its_speech():
    speech = [Speech(3.0 * n, 3.0 * n + 2) for n in range(25)]
    texts = [passage(n, n + 1, "ა" * (31 if n == 3 else 24) + ".") for n in range(24)]
    texts.append(passage(24, 25, "1921 წლის მაისი."))  # read as 27 letters
    (left,) = plan_of(texts, speech, 75, Limits(), unheard=True).left
    assert (left.reason, left.start) == (Left.WRONG_LENGTH, 9.0)
    assert not plan_of(texts, speech, 75, Limits()).left


def test_two_people_at_once_music_and_dialogues_are_listed():
    cues = [
        Cue(1, 3, "დილა მშვიდობისა."),
        Cue(1.1, 2.9, "გამარჯობა."),
        Cue(3.3, 5.5, "- კი.\n- არა."),
        Cue(6, 8, "♪ ლა ლა ♪"),
        Cue(9, 11, "ნახვამდის მეგობრებო."),
        Cue(9, 11, "ნახვამდის მეგობრებო."),
    ]
    plan = plan_from_cues(cues, SPEECH, 12, Limits())
    assert [clip.text for clip in plan.clips] == ["ნახვამდის მეგობრებო."]
    assert [left.reason for left in plan.left] == [Left.TWO_SPEAKERS, Left.TWO_SPEAKERS, Left.NOISE_TAG]


@pytest.mark.parametrize("wrong", [(0, 20, 0.3), (5, 3, 0.3), (1, 90, 0.3), (1, 20, 1.5)])
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(UserError):
        Limits(*wrong)


def test_words_with_times_are_put_together_between_pauses():
    words = [
        Cue(1.0, 1.5, "დილა"),
        Cue(1.5, 2.2, "იყო"),
        Cue(2.25, 3.0, "თბილი"),
        Cue(3.3, 4.2, "და"),
        Cue(4.2, 5, "წყნარი"),
    ]
    plan = plan_from_cues(words, SPEECH[:2], 12, Limits(0.5))
    assert [clip.text for clip in plan.clips] == ["დილა იყო თბილი", "და წყნარი"]
