"""From cues to clips, without any sound."""

import pytest

from xtts_ka.corpus.cue_clips import plan_from_cues
from xtts_ka.corpus.planned_clips import Left, Limits, RecordingProblem
from xtts_ka.corpus.segmentation import Speech
from xtts_ka.corpus.subtitles import Cue

TEXT = "ეს წინადადება ხმამაღლა ითქვა."  # 25 letters
COUNT = 30
SPEECH = [Speech(4.0 * n + 1 + n % 7 / 4, 4.0 * n + 3 + n % 7 / 4) for n in range(COUNT)]  # at uneven distances
SECONDS = 4.0 * COUNT + 3


def cues(shift: float = 0.0, texts: dict[int, str] | None = None, speakers: dict[int, str] | None = None) -> list[Cue]:
    return [
        Cue(piece.start + shift, piece.end + shift, (texts or {}).get(n, TEXT), (speakers or {}).get(n, ""))
        for n, piece in enumerate(SPEECH)
    ]


def test_each_cue_becomes_a_clip_around_its_speech():
    plan = plan_from_cues(cues(), SPEECH, SECONDS, Limits())
    assert [clip.text for clip in plan.clips] == [TEXT] * COUNT and not plan.left and not plan.remarks
    assert all(clip.start < piece.start and piece.end < clip.end for clip, piece in zip(plan.clips, SPEECH))


@pytest.mark.parametrize("shift, word", [(7.3, "7.3 s early"), (-5.2, "5.2 s late")])
def test_a_file_that_is_late_is_moved_and_that_is_said(shift, word):
    late = [cue for cue in cues(-shift) if cue.start >= 0]
    plan = plan_from_cues(late, SPEECH, SECONDS, Limits())
    assert len(plan.clips) == len(late)
    (remark,) = plan.remarks
    assert "the times were corrected" in remark and word.split()[-1] in remark


def test_cues_that_cannot_train_keep_their_reason_and_move_no_other():
    texts = {3: "[სიცილი]", 5: "♪ ლა ლა ლა ♪", 8: "...", 11: "It is said in English.", 14: "(გაურკვეველია) რა?"}
    plan = plan_from_cues(cues(texts=texts), SPEECH, SECONDS, Limits())
    assert len(plan.clips) == COUNT - len(texts)
    reasons = {left.text: left.reason for left in plan.left if left.text}
    assert reasons["[სიცილი]"] == Left.NOISE_TAG and reasons["It is said in English."] == Left.NON_GEORGIAN_TEXT
    assert reasons["♪ ლა ლა ლა ♪"] == Left.NOISE_TAG and reasons["(გაურკვეველია) რა?"] == Left.UNCLEAR_SPEECH
    assert reasons["..."] == Left.EMPTY_TEXT
    spoken = {(left.start, left.end) for left in plan.left if left.reason == Left.NO_TEXT}
    assert {(SPEECH[n].start, SPEECH[n].end) for n in (3, 8)} <= spoken


def test_a_cue_over_silence_has_another_reason_than_one_over_speech_of_another_length():
    quiet = Cue(SPEECH[9].end + 0.4, SPEECH[9].end + 1.6, "ამას არავინ ამბობს აქ.")
    speech = [piece if piece.start < quiet.start else Speech(piece.start + 9, piece.end + 9) for piece in SPEECH]
    with_quiet = [Cue(p.start, p.end, TEXT) for p in speech[:10]] + [Cue(quiet.start + 4, quiet.end + 4, quiet.text)]
    with_quiet += [Cue(p.start, p.end, TEXT) for p in speech[10:]]
    (left,) = plan_from_cues(with_quiet, speech, SECONDS + 9, Limits()).left
    assert (left.reason, left.text) == (Left.NO_SPEECH, quiet.text)
    last = SPEECH[-1].end
    within = Cue(last + 9, last + 12, "ეს გრძელი საუბრის შუაშია.")
    plan = plan_from_cues([*cues(), within], [*SPEECH, Speech(last + 3, last + 20)], last + 21, Limits())
    assert {left.reason: left.text for left in plan.left} == {Left.WRONG_LENGTH: within.text, Left.NO_TEXT: ""}


def test_two_speakers_in_one_breath_are_left_out_and_names_kept():
    speakers = {n: "ნინო" if n % 2 else "გია" for n in range(COUNT)}
    named = cues(speakers=speakers)
    middle = (named[4].start + named[4].end) / 2
    half = [Cue(named[4].start, middle, "ეს ერთმა თქვა", "გია"), Cue(middle, named[4].end, "ეს მეორემ.", "ნინო")]
    plan = plan_from_cues([*named[:4], *half, *named[5:]], SPEECH, SECONDS, Limits())
    assert [left.reason for left in plan.left] == [Left.TWO_SPEAKERS]
    assert [clip.speaker for clip in plan.clips] == [speakers[n] for n in range(COUNT) if n != 4]


def test_another_films_subtitles_and_another_language_are_refused():
    wrong = [Cue(3.37 * n + 0.9 * (n * n % 5), 3.37 * n + 0.9 * (n * n % 5) + 1.5, TEXT) for n in range(COUNT)]
    with pytest.raises(RecordingProblem, match="another recording"):
        plan_from_cues(wrong, SPEECH, SECONDS, Limits())
    with pytest.raises(RecordingProblem, match="not in Georgian letters"):
        plan_from_cues(cues(texts=dict.fromkeys(range(16), "In English.")), SPEECH, SECONDS, Limits())
    with pytest.raises(RecordingProblem, match="1 h 0 min, is behind the recording's end"):
        plan_from_cues(cues(3600.0), SPEECH, SECONDS, Limits())


@pytest.mark.parametrize(
    "pause, early, late",
    [(1.0, 0.5, 1.5), (2.0, 0.0, 3.0), (2.0, 0.3, 1.6), (3.0, 0.1, 2.9), (3.0, 1.2, 1.8), (0.5, 0.1, 3.0)],
)
def test_cues_that_stay_for_reading_give_their_clips(pause, early, late):
    starts = [(2.0 + pause) * n + 1 + n % 4 / 10 for n in range(8)]
    speech = [Speech(start, start + 2.0 - n % 3 / 10) for n, start in enumerate(starts)]
    lingering = [Cue(max(0.0, piece.start - early), piece.end + late, TEXT) for piece in speech]
    plan = plan_from_cues(lingering, speech, speech[-1].end + 3, Limits())
    assert len(plan.clips) == 8 and not plan.left


def test_what_is_shown_but_perhaps_not_spoken_is_listed():
    texts = {2: f"(ოხრავს) {TEXT}", 5: f"VOICE: {TEXT}", 7: f"გიო: {TEXT}"}
    reversed_ = Cue(40.0, 30.0, "დრო უკუღმაა.")
    plan = plan_from_cues([*cues(texts=texts), reversed_], SPEECH, SECONDS, Limits())
    assert len(plan.clips) == COUNT - 2 and {clip.text for clip in plan.clips} == {TEXT}
    assert [clip.speaker for clip in plan.clips if clip.speaker] == ["გიო"]
    assert [left.reason for left in plan.left] == [Left.NOT_SPOKEN] * 2 + [Left.BAD_TIMES]
    assert plan.left[-1].text == reversed_.text
