import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.training.batch_plan import Batch, Draw, padding, plan_epoch


def natural_lengths(count):
    """Positions of clips whose seconds are spread as Common Voice's are."""
    seconds = np.clip(np.random.default_rng(0).lognormal(1.4, 0.5, count), 1, 11.6)
    return (32 + 15 * seconds + 21.5 * seconds + 5).astype(np.uint32)


@given(
    st.lists(st.integers(38, 1000), min_size=1, max_size=400),
    st.integers(100, 5000),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_every_clip_once_and_within_the_budget(lengths, budget, seed, epoch):
    positions = np.array(lengths, np.uint32)
    batches = plan_epoch(positions, budget, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    grid = 0
    for batch in batches:
        assert len(batch) == 1 or positions[batch].max() * len(batch) <= budget
        grid += int(positions[batch].max()) * len(batch)
    assert padding(positions, batches) == pytest.approx(1 - positions.sum() / grid)


def test_order_depends_on_seed_and_epoch_only():
    positions = natural_lengths(2000)

    def order(seed, epoch):
        return np.concatenate(plan_epoch(positions, 2000, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) and order(1, 0) != order(2, 0) and order(1, 2) != order(2, 1)


@pytest.mark.parametrize("count", [700, 5000, 20_000])
def test_padding_stays_under_five_percent_on_natural_lengths(count):
    positions = natural_lengths(count)
    assert padding(positions, plan_epoch(positions, 8 * 180, 0, 0)) < 0.05


def test_the_last_clips_of_an_epoch_are_not_left_to_a_badly_filled_window():
    for count in range(385, 401):  # a little more than one window of fifty batches
        positions = natural_lengths(401)[:count]
        plan = plan_epoch(positions, 8 * 180, 0, 0)
        assert padding(positions, plan) < 0.06 and len(plan) <= 1.2 * positions.sum() / (8 * 180) + 1


def test_a_clip_longer_than_the_budget_is_a_batch_of_its_own():
    positions = np.array([50, 60, 5000, 70], np.uint32)
    batches = plan_epoch(positions, 300, 0, 0)
    assert [2] in [batch.tolist() for batch in batches] and sorted(np.concatenate(batches)) == [0, 1, 2, 3]


def test_batches_mix_what_stands_together_in_the_table():
    positions = np.full(8000, 100, np.uint32)
    speakers = np.arange(8000) // 400  # the table has the clips speaker by speaker
    assert np.mean([len(set(speakers[batch])) for batch in plan_epoch(positions, 800, 0, 0)]) > 6  # of 8 clips


def test_short_and_long_batches_are_spread_over_the_epoch():
    positions = natural_lengths(20_000)
    longest = np.array([positions[batch].max() for batch in plan_epoch(positions, 8 * 180, 0, 0)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.05


def test_a_cut_batch_holds_the_same_clips_in_pieces_of_nearly_equal_size():
    batch = Batch(np.arange(7), epoch=3, cond_frames=90)
    for parts, sizes in ((1, [7]), (2, [4, 3]), (4, [2, 2, 2, 1]), (16, [1] * 7)):
        pieces = batch.cut(parts)
        assert [len(piece.clips) for piece in pieces] == sizes
        assert sorted(draw for piece in pieces for draw in piece.draws()) == [Draw(clip, 3, 90) for clip in range(7)]
