"""A text in a long recording: which words are read between which pauses."""

import numpy as np
import pytest
from planted_speech import sentence
from spoken_letters import say

from xtts_ka.corpus.planned_clips import Left, Limits, RecordingProblem
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.long_alignment import Book, compared, plan_from_text
from xtts_ka.recognition.symbols import spoken_letters

LIMITS = Limits(0.3, 20)


def book_of(sentences) -> Book:
    return Book.read("\n".join(", ".join(phrases) + "." for phrases in sentences), Reading())


def sentences(count: int, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [sentence(rng) for _ in range(count)]


def plan(written, read, wrong=0.05, **more):
    speech, heard = say([phrase for phrases in read for phrase in phrases], wrong)
    seconds = speech[-1].end + 0.5
    return plan_from_text(book_of(written), speech, heard, seconds, LIMITS, **more), speech


def text(phrases) -> str:
    return ", ".join(phrases) + "."


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.2])
def test_each_sentence_is_cut_at_the_pauses_around_it(wrong):
    written = sentences(60)
    found, speech = plan(written, written, wrong)
    by_text = {clip.text: clip for clip in found.clips}
    whole = [phrases for phrases in written if text(phrases) in by_text]
    assert len(whole) >= (60 if not wrong else 56 if wrong == 0.1 else 45)
    piece = 0
    for phrases in written:
        if clip := by_text.get(text(phrases)):
            assert clip.start == pytest.approx(speech[piece].start, abs=0.05)
            assert clip.end == pytest.approx(speech[piece + len(phrases) - 1].end, abs=0.05)
        piece += len(phrases)
    assert np.mean([clip.confidence for clip in found.clips]) == pytest.approx(1 - wrong, abs=0.06)


def test_a_sentence_that_is_not_read_is_listed_and_its_neighbours_are_kept():
    written = sentences(30)
    found, _ = plan(written, written[:14] + written[15:])
    assert {clip.text for clip in found.clips} >= {text(written[13]), text(written[15])}
    assert [left.text for left in found.left if left.reason == Left.NOT_READ] == [text(written[14])]


def test_speech_that_is_not_written_is_listed_with_its_time():
    written = sentences(30)
    found, speech = plan(written[:14] + written[15:], written)
    first = sum(map(len, written[:14]))
    last = first + len(written[14]) - 1
    spoken = [left for left in found.left if left.reason == Left.NO_TEXT]
    assert [(left.start, left.end) for left in spoken] == [(speech[first].start, speech[last].end)]
    assert len(found.clips) == 29


def test_another_sentence_than_the_written_one_is_in_no_clip():
    written, read = sentences(30), sentences(30)
    read[14] = sentences(1, seed=99)[0]
    found, _ = plan(written, read)
    inside = " ".join(clip.text for clip in found.clips)
    assert all(phrase not in inside for phrase in written[14] if len(phrase) > 12)
    assert {text(written[13]), text(written[15])} <= {clip.text for clip in found.clips}
    assert {left.reason for left in found.left} <= {Left.NOT_HEARD, Left.UNSURE, Left.NOT_READ, Left.NO_TEXT}


def test_a_chapter_of_a_book_lists_only_what_is_missing_inside():
    written = sentences(60)
    read = written[20:30] + written[31:40]
    found, _ = plan(written, read, whole=False)
    assert [left.text for left in found.left] == [text(written[30])]
    assert len(found.clips) == 19
    whole, _ = plan(written, read, whole=True)
    assert len([left for left in whole.left if left.reason == Left.NOT_READ]) == 3


def test_a_text_of_another_recording_or_alphabet_is_refused():
    with pytest.raises(RecordingProblem, match="another recording"):
        plan(sentences(30, seed=5), sentences(30))
    with pytest.raises(RecordingProblem, match="Georgian letters"):
        Book.read("It was the best of times, it was the worst of times.", Reading())


def test_numbers_and_marks_are_read_as_they_are_said():
    book = Book.read("5 კატა – შავი\nდა\n\n<i>თეთრი</i>.", Reading())
    assert [spoken_letters(word) for word in book.words] == ["ხუთი", "კატა", "შავი", "და", "თეთრი"]
    assert book.letters == "".join(spoken_letters(book.text(0, len(book.words))).split())
    assert Book.read("დილა მშვი-\nდობისა, სა\u00ad\nღამო", Reading()).text(0, 3) == "დილა მშვიდობისა, საღამო"


@pytest.mark.parametrize(
    "written, heard, confidence, bad",
    [
        ("დილამშვიდობისა", "დილამშვიდობისა", 1.0, False),
        ("დილამშვიდობისა", "დილამშვიდობის", 13 / 14, False),
        ("დილამშვიდობისა", "დილა", 4 / 14, True),
        ("დილა", "დილამშვიდობისა", 4 / 14, True),
        ("დილა", "", 0.0, False),
    ],
)
def test_letters_are_compared(written, heard, confidence, bad):
    assert compared(written, heard) == (pytest.approx(confidence), bad)
