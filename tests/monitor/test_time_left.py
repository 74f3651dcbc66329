"""The time left follows the pace of training, not pauses and restarts."""

import numpy as np
import pytest
from run_folder import START

from xtts_ka.monitor.time_left import estimate_time_left, training_seconds

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's would reach the user's screen


def table_of(times: list[float], session: list[int] | None = None, every: int = 10) -> dict:
    n = len(times)
    return {
        "step": np.arange(1, n + 1) * float(every),
        "time": np.array(times),
        "session": np.array(session or [0] * n),
    }


def test_time_left_at_an_even_pace():
    eta = estimate_time_left(table_of([START + 5.0 * i for i in range(100)]), 3000)
    assert eta.seconds_per_step == pytest.approx(0.5)  # 5 s for 10 steps
    # 2000 steps are left
    assert eta.seconds == pytest.approx(1000.0) and eta.plus_minus == pytest.approx(0.0)


def test_pauses_restarts_and_clock_jumps_do_not_move_the_time_left_but_validation_does():
    gaps = [5.0] * 400
    gaps[100], gaps[250] = 3 * 86400.0, -7200.0  # a weekend asleep; a clock set back
    session = [0] * 200 + [1] * 200
    gaps[200] = 40_000.0  # the way back after a kill
    eta = estimate_time_left(table_of((START + np.cumsum(gaps)).tolist(), session), 5000)
    assert eta.seconds == pytest.approx(500.0, rel=0.01)
    # a validation of 20 s after every tenth line: 7 s a line
    often = [5.0 if i % 4 else 600.0 for i in range(400)]  # a spot machine that dies after every fourth line
    session = [i // 4 for i in range(400)]
    eta = estimate_time_left(table_of((START + np.cumsum(often)).tolist(), session), 5000)
    assert eta.seconds == pytest.approx(500.0, rel=0.01)
    gaps = [5.0 + 20.0 * (i % 10 == 0) for i in range(400)]
    eta = estimate_time_left(table_of((START + np.cumsum(gaps)).tolist()), 5000)
    assert eta.seconds == pytest.approx(700.0, rel=0.03)


def test_a_pause_among_few_lines_does_not_move_the_time_left():
    gaps = [5.0, 5.0, 3600.0, 5.0, 5.0, 5.0, 5.0]
    eta = estimate_time_left(table_of((START + np.cumsum(gaps)).tolist()), 170)
    assert eta.seconds == pytest.approx(50.0)  # 100 steps, a line of 10 each 5 s


def test_the_newest_session_sets_the_pace_once_it_has_lines_enough():
    def left(new_lines: int) -> float:
        gaps = [5.0] * 200 + [2.0] * new_lines
        table = table_of((START + np.cumsum(gaps)).tolist(), [0] * 200 + [1] * new_lines)
        return estimate_time_left(table, int(table["step"][-1]) + 1000).seconds

    assert left(10) == pytest.approx(500.0) and left(60) == pytest.approx(200.0)


def test_training_seconds_leave_pauses_and_the_way_back_out():
    gaps = np.array([0.0, 5, 5, 5, 7200, 5, 900, 5, 20])
    table = table_of((START + np.cumsum(gaps)).tolist(), [0, 0, 0, 0, 0, 0, 1, 1, 1])
    assert training_seconds(table) == 15 + 5 + 5 + 20
    assert training_seconds({name: column[:1] for name, column in table.items()}) == 0.0


def test_the_uncertainty_grows_with_the_spread_of_the_pace():
    draw = np.random.default_rng(3)
    paces = [np.repeat(draw.normal(5.0, spread, 40), 50) for spread in (0.1, 1.0)]
    calm, wild = (estimate_time_left(table_of((START + np.cumsum(p)).tolist()), 40_000) for p in paces)
    assert 0 < calm.plus_minus < 0.05 * calm.seconds < wild.plus_minus < 0.5 * wild.seconds
    assert estimate_time_left(table_of([START, START + 1]), 100) is None
