"""Hints of subtitles against speech between pauses, without any sound."""

import tracemalloc

import numpy as np
import pytest

from xtts_ka.corpus.cue_fitting import FITS, fit_cues, fit_of, moved
from xtts_ka.corpus.segmentation import Speech
from xtts_ka.corpus.subtitles import Cue


def talk(count: int, seed: int = 0) -> tuple[list[Cue], list[Speech], list[range]]:
    """Cues with exact times, the speech, and the pieces of each: one to three, 12 letters a second."""
    rng, at = np.random.default_rng(seed), 1.0
    cues, speech, pieces = [], [], []
    for _ in range(count):
        first, start = len(speech), at
        for _ in range(rng.integers(1, 4)):
            length = rng.uniform(0.8, 2.5)
            speech.append(Speech(at, at + length))
            at += length + 0.25
        cues.append(Cue(start, speech[-1].end, "ა" * round(12 * sum(p.seconds for p in speech[first:]))))
        pieces.append(range(first, len(speech)))
        at += rng.uniform(0.3, 0.8)
    return cues, speech, pieces


def shaken(cues: list[Cue], by: float, seed: int = 1) -> list[Cue]:
    rng = np.random.default_rng(seed)
    times = [(cue.start + rng.normal(0, by), cue.end + rng.normal(0, by)) for cue in cues]
    return [Cue(start, max(end, start + 0.2), cue.text) for cue, (start, end) in zip(cues, times)]


def test_inexact_times_find_their_speech():
    cues, speech, pieces = talk(100)
    units = fit_cues(shaken(cues, 0.2), speech)
    assert [unit.last - unit.first for unit in units] == [1] * 100
    assert np.mean([unit.pieces == range_ for unit, range_ in zip(units, pieces)]) >= 0.97
    assert np.median([unit.confidence for unit in units]) > 0.7


def test_cues_without_a_pause_between_them_stay_together():
    cues, speech, pieces = talk(20)
    halves = []
    for cue, mine in zip(cues, pieces):
        middle = (speech[mine[0]].start + speech[mine[0]].end) / 2
        share = round(12 * (middle - cue.start))
        halves += [Cue(cue.start, middle, "ა" * share), Cue(middle, cue.end, "ა" * (len(cue.text) - share))]
    single = [n for n, mine in enumerate(pieces) if len(mine) == 1]
    units = fit_cues(halves, speech)
    for n in single:
        assert any((unit.first, unit.last, unit.pieces) == (2 * n, 2 * n + 2, pieces[n]) for unit in units)


def test_a_cue_over_silence_gets_nothing_and_moves_no_other():
    cues, speech, pieces = talk(30)
    gap = speech[pieces[14][-1]].end
    later = [Speech(p.start + 5, p.end + 5) if p.start > gap else p for p in speech]
    moved_on = [Cue(c.start + 5, c.end + 5, c.text) if c.start > gap else c for c in cues]
    moved_on.insert(15, Cue(gap + 1, gap + 4, "ა" * 36))
    units = fit_cues(moved_on, later)
    assert [list(unit.pieces) for unit in units] == [*map(list, pieces[:15]), [], *map(list, pieces[15:])]


def test_speech_without_a_cue_is_left_over():
    cues, speech, pieces = talk(30)
    units = fit_cues(cues[:10] + cues[11:], speech)
    claimed = {piece for unit in units for piece in unit.pieces}
    assert set(range(len(speech))) - claimed == set(pieces[10])


@pytest.mark.parametrize("shift, ratio", [(0.0, 1.0), (17.3, 1.0), (-8.0, 1.0), (0.0, 25 / 23.976), (3.0, 23.976 / 24)])
def test_a_file_that_is_late_or_drifts_is_corrected(shift, ratio):
    cues, speech, _ = talk(200)
    late = [Cue((cue.start + shift) / ratio, (cue.end + shift) / ratio, cue.text) for cue in shaken(cues, 0.15)]
    fit = fit_of([cue for cue in late if cue.start >= 0], speech)
    assert fit.score > FITS
    back = moved(late, fit)
    assert np.median([abs(one.start - other.start) for one, other in zip(back, cues)]) < 0.25


@pytest.mark.parametrize("count, by", [(20, 0.2), (60, 0.3), (200, 0.5)])
def test_inexact_times_are_still_those_of_the_recording(count, by):
    cues, speech, _ = talk(count)
    fit = fit_of([cue for cue in shaken(cues, by) if cue.start >= 0], speech)
    assert fit.score > FITS and abs(fit.shift) < 0.5 and fit.ratio == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_another_films_subtitles_fit_nowhere(seed):
    assert fit_of(talk(300, seed=100 + seed)[0], talk(300, seed)[1]).score < FITS


def test_nothing_to_fit():
    cues, speech, _ = talk(3)
    assert fit_cues([], speech) == []
    assert [list(unit.pieces) for unit in fit_cues(cues, [])] == [[], [], []]


def test_the_memory_of_many_cues_does_not_grow_with_their_square():
    count = 1500
    speech = [Speech(3.0 * i, 3.0 * i + 2.4) for i in range(count)]
    cues = [Cue(3.0 * i + 0.1, 3.0 * i + 2.5, "დღეს კარგი ამინდია აქ") for i in range(count)]
    tracemalloc.start()
    units = fit_cues(cues, speech)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [list(unit.pieces) for unit in units] == [[i] for i in range(count)]
    assert most < 10e6  # 170 MB where every state is kept
