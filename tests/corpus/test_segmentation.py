"""Pauses from probabilities of speech and levels that are written down by hand."""

import numpy as np
import pytest

from xtts_ka.corpus.segmentation import speech_between_pauses
from xtts_ka.corpus.voice_activity import SECONDS_PER_CHUNK, Activity

LOUD, QUIET = -20.0, -60.0


def activity(voiced, loud, seconds: float = 6.0, floor: float = QUIET) -> Activity:
    """voiced: (start, end) that silero-vad takes for speech; loud: (start, end, level)."""
    centres = (np.arange(round(seconds / SECONDS_PER_CHUNK)) + 0.5) * SECONDS_PER_CHUNK
    speech = np.full(len(centres), 0.02, np.float16)
    for start, end in voiced:
        speech[(centres > start) & (centres < end)] = 0.95
    level = np.full(round(seconds * 100), floor, np.float16)
    for start, end, loudness in loud:
        level[round(100 * start) : round(100 * end)] = loudness
    return Activity(seconds, speech, level)


def pieces(*arguments, **more):
    return [(p.start, p.end) for p in speech_between_pauses(activity(*arguments, **more))]


def near(*expected):
    return [pytest.approx(each, abs=0.011) for each in expected]


def test_edges_are_where_the_level_changes_not_where_the_detector_notices():
    found = pieces([(1.1, 3.1), (4.1, 5.05)], [(1.0, 3.0, LOUD), (4.0, 5.0, LOUD)])
    assert found == near((1.0, 3.0), (4.0, 5.0))


def test_a_burst_after_a_closure_is_part_of_the_word():
    final = pieces([(1.0, 3.0), (4.0, 5.0)], [(1.0, 3.0, LOUD), (3.08, 3.12, -30.0), (4.0, 5.0, LOUD)])
    assert final == near((1.0, 3.12), (4.0, 5.0))
    initial = pieces([(1.0, 3.0), (4.1, 5.0)], [(1.0, 3.0, LOUD), (3.98, 4.02, -30.0), (4.1, 5.0, LOUD)])
    assert initial == near((1.0, 3.0), (3.98, 5.0))
    click = pieces([(1.0, 3.0), (4.0, 5.0)], [(1.0, 3.0, LOUD), (3.4, 3.44, -30.0), (4.0, 5.0, LOUD)])
    assert click == near((1.0, 3.0), (4.0, 5.0))


def test_noise_beside_speech_is_not_its_end_but_a_fading_sound_is():
    beside = [(0.0, 0.9, -30.0), (1.0, 3.0, LOUD), (4.0, 5.0, LOUD)]
    assert pieces([(1.1, 3.1), (4.0, 5.0)], [*beside, (3.0, 3.4, -30.0)]) == near((1.0, 3.4), (4.0, 5.0))
    assert pieces([(1.1, 3.1), (4.0, 5.0)], [*beside, (3.0, 3.9, -30.0)])[0][1] == pytest.approx(3.1, abs=0.02)
    found = pieces([(1.0, 3.0), (3.95, 5.0)], [(1.0, 3.0, LOUD), (3.1, 4.0, -30.0), (4.0, 5.0, LOUD)])
    assert [found[0][1], found[1][0]] == pytest.approx([3.0, 3.95], abs=0.02)


@pytest.mark.parametrize("gap, count", [(0.1, 1), (0.14, 1), (0.2, 2)])
def test_a_closure_is_no_pause(gap, count):
    found = pieces([(1.0, 3.0), (3.0 + gap, 5.0)], [(1.0, 3.0, LOUD), (3.0 + gap, 5.0, LOUD)])
    assert len(found) == count


def test_a_moment_of_doubt_amid_loud_speech_is_no_pause():
    assert pieces([(1.0, 3.0), (3.06, 5.0)], [(1.0, 3.04, LOUD), (3.04, 3.2, -34.0), (3.2, 5.0, LOUD)]) == near(
        (1.0, 5.0)
    )


def test_under_music_the_detector_alone_decides():
    sound = activity([(1.0, 3.0), (4.0, 5.0)], [(1.0, 3.0, LOUD), (4.0, 5.0, LOUD)], floor=-22.0)
    edges = [edge for piece in speech_between_pauses(sound) for edge in (piece.start, piece.end)]
    assert edges == pytest.approx([1.0, 3.0, 4.0, 5.0], abs=SECONDS_PER_CHUNK)


def test_what_is_hardly_ever_like_speech_is_none():
    doubtful = activity([(1.0, 3.0)], [(1.0, 3.0, LOUD), (4.0, 5.0, LOUD)])
    doubtful.speech[round(4.0 / SECONDS_PER_CHUNK) : round(5.0 / SECONDS_PER_CHUNK)] = 0.4
    doubtful.speech[round(4.5 / SECONDS_PER_CHUNK)] = 0.6
    assert len(speech_between_pauses(doubtful)) == 1
