from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.training.batch_plan import Batch, Draw, Room, group_clips, padding, plan_epoch

RATE = 22050


def natural_lengths(count):
    """(positions, samples) of clips whose seconds are spread as Common Voice's are."""
    seconds = np.clip(np.random.default_rng(0).lognormal(1.4, 0.5, count), 1, 11.6)
    return (32 + 15 * seconds + 21.5 * seconds + 5).astype(np.uint32), (seconds * RATE).astype(np.int64)


@given(
    st.lists(st.integers(1, 600_000), min_size=1, max_size=400),
    st.integers(1, 40_000_000),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_every_clip_once_and_steps_of_equal_audio(lengths, step_samples, seed, epoch):
    samples = np.array(lengths, np.int64)
    positions = (37 + samples / 700).astype(np.uint32)
    steps = plan_epoch(positions, samples, step_samples, seed, epoch)
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    assert all(len(step) for step in steps) and len(steps) <= max(1, round(samples.sum() / step_samples))
    for step in steps:  # up to a clip more or less in each of its units, of which it may have one more or less
        units = max(1, round(step_samples / (40 * RATE)))
        size = samples.sum() / max(1, round(samples.sum() / step_samples))
        assert samples[step].sum() <= (size + size / units) + (units + 1) * samples.max()


def test_the_steps_of_an_epoch_have_nearly_the_asked_for_audio_and_are_equally_many_in_each():
    positions, samples = natural_lengths(20_000)
    for seconds, spread in ((36, 0.2), (300, 0.05), (1260, 0.02)):
        plans = [plan_epoch(positions, samples, seconds * RATE, 0, epoch) for epoch in range(3)]
        assert {len(plan) for plan in plans} == {round(samples.sum() / (seconds * RATE))}
        sizes = np.array([samples[step].sum() / RATE for step in plans[0]])
        assert np.mean(sizes) == pytest.approx(seconds, rel=0.01) and np.std(sizes) < spread * seconds
        assert np.min(sizes) > 0.6 * seconds  # no small last one


def test_order_depends_on_seed_and_epoch_only():
    positions, samples = natural_lengths(2000)

    def order(seed, epoch):
        return np.concatenate(plan_epoch(positions, samples, 60 * RATE, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) and order(1, 0) != order(2, 0) and order(1, 2) != order(2, 1)


def pieces_of(positions, plan, room, processes=1):
    return [piece.clips for step in plan for piece in Batch(step, 0, 90).cut(positions, room, processes)]


def test_padding_by_hand():
    positions = np.array([10, 20, 30], np.uint32)
    assert padding(positions, [np.array([0, 1]), np.array([2])]) == pytest.approx(1 - 60 / 70)


def test_steps_are_cut_where_their_audio_is_equal():
    """Three clips of a second and one of three seconds, in steps of three seconds."""
    plan = plan_epoch(np.array([90, 50, 50, 50], np.uint32), np.array([3, 1, 1, 1]) * RATE, 3 * RATE, 0, 0)
    assert sorted(sorted(step.tolist()) for step in plan) == [[0], [1, 2, 3]]


def test_a_micro_batch_may_fill_the_room_to_its_last_position():
    step = Batch(np.arange(2), 0, 90)
    assert len(step.cut(np.array([50, 50]), Room(100))) == len(step.cut(np.array([40, 40]), Room(100, 10))) == 1
    assert len(step.cut(np.array([50, 51]), Room(100))) == len(step.cut(np.array([40, 40]), Room(100, 11))) == 2


@pytest.mark.parametrize("count", [700, 5000, 20_000])
@pytest.mark.parametrize("seconds, room", [(36, 1440), (1260, 1440), (1260, 4096)])
def test_padding_stays_under_five_percent_on_natural_lengths(count, seconds, room):
    positions, samples = natural_lengths(count)
    plan = plan_epoch(positions, samples, seconds * RATE, 0, 0)
    limit = 0.05 if room == 1440 else 0.06  # larger micro-batches are few in a step
    assert padding(positions, pieces_of(positions, plan, Room(room))) < limit


def test_small_steps_hold_clips_of_similar_length_and_large_ones_all_lengths():
    positions, samples = natural_lengths(20_000)
    spread = {}
    for seconds in (36, 1260):
        plan = plan_epoch(positions, samples, seconds * RATE, 0, 0)
        spread[seconds] = np.mean([np.std(positions[step]) for step in plan]) / np.std(positions)
    assert spread[36] < 0.05 and spread[1260] > 0.9


def test_steps_mix_what_stands_together_in_the_table():
    positions, samples = np.full(8000, 100, np.uint32), np.full(8000, 3 * RATE, np.int64)
    speakers = np.arange(8000) // 400  # the table has the clips speaker by speaker
    plan = plan_epoch(positions, samples, 24 * RATE, 0, 0)
    assert np.mean([len(set(speakers[step])) for step in plan]) > 6  # of 8 clips


def test_short_and_long_steps_are_spread_over_the_epoch():
    positions, samples = natural_lengths(20_000)
    longest = np.array([positions[step].max() for step in plan_epoch(positions, samples, 36 * RATE, 0, 0)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.05


@given(
    st.lists(st.integers(38, 1000), min_size=1, max_size=60),
    st.integers(0, 9000),
    st.integers(0, 400),
    st.integers(1, 8),
)
def test_micro_batches_hold_the_step_within_the_room(lengths, room, per_row, processes):
    positions = np.array(lengths, np.uint32)
    pieces = Batch(np.arange(len(lengths)), 3, 90).cut(positions, Room(room, per_row), processes)
    drawn = [draw for piece in pieces for draw in piece.draws()]
    assert sorted(drawn) == [Draw(clip, 3, 90) for clip in range(len(lengths))]
    for piece in pieces:
        rows = len(piece.clips)
        assert rows == 1 or 0 < rows * (int(positions[piece.clips].max()) + per_row) <= room
    assert len(pieces) % processes == 0 or len(pieces) == len(lengths)


# ── clips that share a voice sample ──


def members(groups):
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_groups_are_of_one_speaker_and_leave_half_of_his_clips(numbers, at_most, seed, epoch):
    _, speakers = np.unique(numbers, return_inverse=True)
    groups = group_clips(speakers, np.arange(len(speakers)), at_most, seed, epoch)
    assert len(groups) == len(speakers) and sorted(set(groups.tolist())) == list(range(int(groups.max()) + 1))
    for clips in members(groups):
        (speaker,) = set(speakers[clips].tolist())
        count = int(np.sum(speakers == speaker))
        assert len(clips) <= at_most and (len(clips) == 1 or 2 * len(clips) <= count)
        assert count < 2 * at_most or len(clips) == at_most or len(clips) == count % at_most  # no more than needed
    if at_most == 1:
        assert groups.tolist() == list(range(len(speakers)))


def test_groups_are_drawn_anew_in_each_epoch_and_are_of_similar_length():
    positions, _ = natural_lengths(3000)
    speakers = np.arange(3000) % 6
    drawn = [group_clips(speakers, positions, 4, 1, epoch) for epoch in (0, 0, 1)]
    assert drawn[0].tolist() == drawn[1].tolist()
    mates = [{tuple(clips.tolist()) for clips in members(groups)} for groups in (drawn[0], drawn[2])]
    assert len(mates[0] & mates[1]) < 50  # of 750
    assert np.mean([np.std(positions[clips]) for clips in members(drawn[0])]) < 0.15 * np.std(positions)


def test_groups_stay_together_and_cost_little_padding():
    positions, samples = natural_lengths(5000)
    groups = group_clips(np.arange(5000) % 40, positions, 4, 0, 0)
    for seconds in (36, 1260):
        plan = plan_epoch(positions, samples, seconds * RATE, 0, 0, groups)
        assert sorted(np.concatenate(plan).tolist()) == list(range(5000))
        assert sum(len(np.unique(groups[step])) for step in plan) == len(np.unique(groups)) < 0.26 * 5000
        sizes = np.array([samples[step].sum() / RATE for step in plan])
        assert len(plan) == pytest.approx(samples.sum() / RATE / seconds, rel=0.01) and np.min(sizes) > 0.2 * seconds
        assert np.std(sizes) < (0.3 if seconds == 36 else 0.06) * seconds  # a group is half of a small step
        assert padding(positions, pieces_of(positions, plan, Room(1440))) < 0.06


def test_all_clips_of_a_group_are_told_of_one_another_though_the_step_is_cut_between_them():
    positions, clips = np.array([90, 50, 60, 70, 80]), np.array([4, 0, 1, 3, 2])
    step = Batch(clips, 2, 90, (clips, np.array([7, 7, 3, 5, 3])))
    draws = {draw.clip: draw for piece in step.cut(positions, Room(100)) for draw in piece.draws()}
    assert {clip: draw.sharing for clip, draw in draws.items()} == {4: (4, 0), 0: (4, 0), 1: (1, 2), 2: (1, 2), 3: ()}


def test_few_groups_are_cut_apart():
    positions, samples = natural_lengths(5000)
    groups = group_clips(np.arange(5000) % 40, positions, 4, 0, 0)
    steps = [Batch(step, 0, 90, (step, groups[step])) for step in plan_epoch(positions, samples, 10**7, 0, 0, groups)]
    pieces = [piece for step in steps for piece in step.cut(positions, Room(2048))]
    assert sum(len(np.unique(groups[piece.clips])) for piece in pieces) < 1.3 * len(np.unique(groups))


def test_micro_batches_are_few_and_alike():
    positions, samples = natural_lengths(300)
    step = Batch(plan_epoch(positions, samples, 10**9, 0, 0)[0], 0, 90)
    for processes in (1, 2, 8):
        pieces = step.cut(positions, Room(8000), processes)
        grids = [len(piece.clips) * int(positions[piece.clips].max()) for piece in pieces]
        assert len(pieces) <= -(-int(positions.sum()) // 8000) + processes and min(grids) > 0.6 * max(grids)
        lengths = [positions[piece.clips] for piece in pieces]
        assert all(a.max() <= b.min() for a, b in pairwise(lengths))
