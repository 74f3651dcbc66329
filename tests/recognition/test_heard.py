"""Windows in which a long recording is heard, and where in time the letters are."""

import numpy as np
import pytest
from spoken_letters import say

from xtts_ka.corpus.segmentation import Speech
from xtts_ka.recognition.heard import between, joined, letters_of, sentences, spans_of, windows

SPEECH = [Speech(1, 3), Speech(3.2, 5), Speech(5.5, 7), Speech(9, 40), Speech(40.2, 41)]


def test_windows_end_at_long_pauses_and_at_their_limit():
    assert [list(run) for run in windows(SPEECH, 20)] == [[0, 1, 2], [3], [4]]
    assert [list(run) for run in windows(SPEECH, 5)] == [[0, 1], [2], [3], [4]]
    assert [list(run) for run in sentences(SPEECH, 20)] == [
        [0, 1],
        [2],
        [3],
        [4],
    ]  # the first pause of 0.35 s after 3 s
    assert windows([], 20) == []


def test_spans_have_silence_on_either_side_and_do_not_overlap():
    spans = spans_of(windows(SPEECH, 20), SPEECH, 41.1)
    assert spans == [pytest.approx(span) for span in ((0.8, 7.2), (8.8, 40.1), (40.1, 41.1))]


def test_letters_have_the_times_at_which_they_are_said():
    speech, heard = say(["დილა მზე", "ღამე"])
    letters, times = letters_of(heard)
    assert letters == "დილამზეღამე"
    assert times[0] == pytest.approx(speech[0].start, abs=0.05)
    assert times[7] == pytest.approx(speech[1].start, abs=0.05)
    log_probs, inside = between(heard, times[7] - 0.01, times[8] - 0.01)
    assert len(log_probs) == len(inside) == 2 and inside[0] == times[7]
    twice = joined([heard, heard])
    assert len(twice.times) == 2 * len(heard.times) and np.array_equal(
        twice.log_probs[: len(heard.times)], heard.log_probs
    )
