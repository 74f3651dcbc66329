from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core.jsonl import append_jsonl
from xtts_ka.evaluation.time_share import MOST_ROUNDS, TimeShare
from xtts_ka.training.metrics_log import rounds_of_samples, time_spent

seconds = st.floats(0.01, 500)


@given(st.floats(0.001, 0.5), seconds, st.lists(st.tuples(seconds, seconds), min_size=1, max_size=60))
def test_the_share_is_held_but_for_what_a_round_takes_longer_than_the_one_before(share, first, steps):
    """Each step takes some seconds, and a round some, when one is allowed."""
    now, expected, over = 0.0, first, 0.0
    spent = TimeShare(share, 10, first, clock=lambda: now)
    for step, (training, speaking) in enumerate(steps):
        now += training
        if spent.allows(step):
            now += speaking
            spent.took(speaking, step)
            over += max(0.0, speaking - expected)
            expected = speaking
        assert spent.spent <= share * now + over + 1e-6


def test_rounds_are_some_steps_apart():
    now = 1e9
    spent = TimeShare(0.5, 50 * MOST_ROUNDS, 1.0, clock=lambda: now)
    now *= 2
    spent.took(0.1, 100)
    assert [step for step in range(101, 200) if spent.allows(step)] == list(range(150, 200))


def test_a_restart_takes_over_the_time_of_all_sessions(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = [
        {"event": "start", "step": 0, "resumed": False, "time": 0.0},
        {"step": 1, "split": "samples", "seconds": 500.0, "time": 500.0},  # of a run before
        {"event": "start", "step": 0, "resumed": False, "time": 1000.0},
        {"step": 5, "split": "train", "loss": 1.0, "time": 1100.0},
        {"step": 5, "split": "samples", "cer": 0.5, "seconds": 2.0, "time": 1110.0},
        {"event": "start", "step": 4, "resumed": True, "time": 9000.0},
        {"step": 5, "split": "samples", "cer": 0.4, "seconds": 3.0, "time": 9090.0},
    ]
    for line in lines:
        append_jsonl(log, line)
    found = time_spent(log)
    assert (found.training, found.samples, found.last_round, found.last_step) == (200.0, 5.0, 3.0, 5)
    assert [line["cer"] for line in rounds_of_samples(log)] == [0.4]
    now = 0.0
    spent = TimeShare(0.02, 100, 99.0, log, clock=lambda: now)
    assert spent.expected == 3.0 and not spent.allows(50)
    now = 201.0  # 2 % of 401 s are the 5 spent and 3 more
    assert spent.allows(50)
