"""Where somebody speaks in long recordings, and the pauses between: espeak speech with known boundaries."""

import itertools

import numpy as np
import planted_speech
import pytest
import soundfile

from xtts_ka.corpus import voice_activity
from xtts_ka.corpus.resampling import resampled
from xtts_ka.corpus.segmentation import speech_between_pauses
from xtts_ka.corpus.silero import speech_probabilities


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    """(recording of 40 s, what is said in it)"""
    path = tmp_path_factory.mktemp("tape") / "tape.flac"
    found = list(planted_speech.record(40, seed=3, faults={}, together=0.0))
    soundfile.write(path, np.concatenate([wave for _, wave in found]), planted_speech.RATE)
    return path, found[-1][0].planted


def test_blocks_give_what_the_whole_gives(tape):
    path, _ = tape
    whole = np.concatenate(list(voice_activity.at_rate(path)))
    pieces = (whole[at : at + 7_777] for at in range(0, len(whole), 7_777))
    found = voice_activity.activity(pieces)
    assert found.seconds == pytest.approx(len(whole) / 16_000)
    assert np.abs(found.speech - speech_probabilities([whole])[0]).max() < 1e-3
    assert len(found.level) == -(-len(whole) // 160)


def test_a_stretch_from_the_middle_continues_what_came_before(tape):
    path, _ = tape
    whole = voice_activity.listen(path)
    parts = [voice_activity.listen(path, 0.0, 16.0), voice_activity.listen(path, 16.0)]
    joined = voice_activity.joined(parts)
    assert joined.seconds == pytest.approx(whole.seconds)
    assert np.abs(joined.speech.astype(float) - whole.speech.astype(float)).max() < 0.3
    assert np.array_equal(joined.level, whole.level)


def test_speech_is_cut_at_its_pauses_to_ten_milliseconds(tape):
    path, planted = tape
    found = speech_between_pauses(voice_activity.listen(path))
    phrases = np.array([span for sentence in planted for span in sentence.phrases])
    starts, ends = (np.array([getattr(piece, name) for piece in found]) for name in ("start", "end"))
    errors = [np.abs(starts - start).min() for start, _ in phrases] + [np.abs(ends - end).min() for _, end in phrases]
    assert np.median(errors) < 0.012 and np.percentile(errors, 90) < 0.05
    for edge in (*starts, *ends):
        assert not ((phrases[:, 0] + 0.06 < edge) & (edge < phrases[:, 1] - 0.06)).any()  # a clip keeps 0.04 s more
    assert all(one.end < other.start for one, other in itertools.pairwise(found))


@pytest.mark.parametrize("kind", [planted_speech.NOISE, planted_speech.TONES])
def test_noise_and_chords_are_hardly_ever_speech(kind):
    tape = planted_speech.Tape(seed=1)
    tape.pause(1, 1)
    tape.interlude(kind, 8)
    tape.pause(1, 1)
    sound = resampled(tape.taken(), planted_speech.RATE, voice_activity.RATE)
    assert sum(piece.seconds for piece in speech_between_pauses(voice_activity.activity([sound]))) < 0.8  # of 8


def test_silence_and_nothing_have_no_speech():
    for seconds in (0, 3):
        found = voice_activity.activity([np.zeros(seconds * 16_000, np.float32)])
        assert (found.seconds, speech_between_pauses(found)) == (seconds, [])
        assert (found.level == voice_activity.SILENT).all()
