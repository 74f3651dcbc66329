import numpy as np

from xtts_ka.evaluation.speaker_similarity import VoiceJudge


def voices_in_noise(per_voice: int):
    """Five voices; clips of one voice differ in three directions, by more than the voices differ from each other."""
    rng = np.random.default_rng(0)
    centres = 3 + 0.3 * rng.standard_normal((5, 64))
    speakers = [f"v{n}" for n in range(5) for _ in range(per_voice)]
    clips = centres.repeat(per_voice, axis=0) + 0.1 * rng.standard_normal((5 * per_voice, 64))
    clips += 6 * rng.standard_normal((5 * per_voice, 3)) @ rng.standard_normal((3, 64)) / 8
    return {f"v{n}": centre for n, centre in enumerate(centres)}, clips, speakers


def test_similarity_is_the_cosine():
    judge = VoiceJudge({"a": np.array([2.0, 0]), "b": np.array([0, 1.0])}, np.zeros((0, 2)), [])
    assert np.isclose(judge.similarity(np.array([3.0, 4.0]), "a"), 0.6) and judge.nearest(np.array([3.0, 4.0])) == "b"


def test_the_nearest_voice_is_found_where_clips_of_one_voice_differ_more_than_voices():
    voices, clips, speakers = voices_in_noise(40)
    unit = clips / np.linalg.norm(clips, axis=1, keepdims=True)
    known = [n for n in range(len(speakers)) if n % 40 < 30]
    unknown = [n for n in range(len(speakers)) if n % 40 >= 30]
    judge = VoiceJudge(voices, unit[known], [speakers[n] for n in known])
    right = np.mean([judge.nearest(clips[n]) == speakers[n] for n in unknown])
    plain = VoiceJudge(voices, np.zeros((0, 64)), [])
    by_cosine = np.mean([plain.nearest(clips[n]) == speakers[n] for n in unknown])
    assert right > 0.9 > by_cosine
