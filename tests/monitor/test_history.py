"""What was logged is what is read: growing files, restarts, damage, bounded memory, time left, export."""

import csv
import json
import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated
from run_folder import START, curve, started, write_log

from xtts_ka.core.errors import UserError
from xtts_ka.core.jsonl import append_jsonl, number
from xtts_ka.core.robust import smooth
from xtts_ka.monitor.csv_export import export_csv
from xtts_ka.monitor.history import RunHistory, Track
from xtts_ka.monitor.time_left import estimate_time_left, training_seconds

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's would reach the user's screen


def fuzz(cases: int) -> settings:
    return settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))


def line(step: int, loss: float = 1.0, split: str = "train", **more) -> dict:
    return {"step": step, "split": split, "loss": loss, **more}


def read(path) -> RunHistory:
    history = RunHistory(path)
    history.refresh()
    return history


def steps_and_losses(track) -> list[tuple[int, float]]:
    table = track.table()
    return [(int(s), float(x)) for s, x in zip(table["step"], table["loss"])]


# ── merging ──


def test_a_restart_replaces_what_it_undid(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl",
        [
            started(),
            line(10, 5.0),
            line(20, 4.0),
            line(20, 4.5, "val"),
            line(30, 3.0),
            line(40, 2.0),
            line(40, 2.5, "val"),
            started(20, resumed=True),
            line(30, 3.1),
        ],
    )
    history = read(log)
    assert steps_and_losses(history.train) == [(10, 5.0), (20, 4.0), (30, 3.1)]
    assert steps_and_losses(history.val) == [(20, 4.5)]
    assert (history.restart_count, history.restarts[0].step, history.total_steps, history.run_id) == (
        1,
        20,
        4000,
        "run-a",
    )
    assert history.train.table()["session"].tolist() == [0, 0, 1]


def test_a_digit_that_became_another_is_damage_and_not_a_loss(tmp_path):
    log = tmp_path / "m.jsonl"
    for step, loss in ((10, 5.0), (20, 3.25), (30, 3.0)):
        append_jsonl(log, line(step, loss))
    log.write_bytes(log.read_bytes().replace(b"3.25", b"1.25"))
    history = read(log)
    assert steps_and_losses(history.train) == [(10, 5.0), (30, 3.0)] and history.damaged == 1
    assert export_csv(log, tmp_path / "m.csv") == 2
    assert (tmp_path / "m.csv").read_text().splitlines()[0] == "step,loss"  # the checksum is no metric


def test_a_restart_whose_start_line_is_lost_is_seen_in_two_lines_that_step_back(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl",
        [line(10, 5.0), line(20, 4.0), line(30, 3.0), line(40, 2.0), line(30, 3.1), line(40, 2.1), line(50, 1.1)],
    )
    history = read(log)
    assert steps_and_losses(history.train) == [(10, 5.0), (20, 4.0), (30, 3.1), (40, 2.1), (50, 1.1)]
    assert history.restart_count == 1 and history.damaged == 0


def test_a_single_line_that_steps_back_is_damage(tmp_path):
    history = read(write_log(tmp_path / "m.jsonl", [line(10, 5.0), line(20, 4.0), line(1, 9.0), line(30, 3.0)]))
    assert steps_and_losses(history.train) == [(10, 5.0), (20, 4.0), (30, 3.0)]
    assert history.damaged == 1 and history.restart_count == 0


def test_an_outlier_ahead_is_dropped_once_the_next_two_lines_are_there(tmp_path):
    history = read(write_log(tmp_path / "m.jsonl", [line(10, 5.0), line(10**9, 4.0), line(20, 3.0), line(30, 2.0)]))
    assert steps_and_losses(history.train) == [(10, 5.0), (20, 3.0), (30, 2.0)]


def test_a_fresh_start_in_the_same_file_forgets_the_old_run(tmp_path):
    history = read(write_log(tmp_path / "m.jsonl", [started(), line(10), line(20), started(total=99), line(5, 7.0)]))
    assert steps_and_losses(history.train) == [(5, 7.0)]
    assert history.total_steps == 99 and history.restart_count == 0


def test_nonfinite_losses_are_remembered_until_a_restart_undoes_them(tmp_path):
    log = write_log(tmp_path / "m.jsonl", [started(), line(10), line(20, math.nan), line(30, math.inf), line(40, None)])
    history = read(log)
    assert history.train.nonfinite == [20, 30, 40]
    assert np.isnan(history.train.table()["loss"][1:]).all()
    with open(log, "a") as out:
        out.write(json.dumps(started(20, resumed=True)) + "\n" + json.dumps(line(30, 2.0)) + "\n")
    history.refresh()
    assert history.train.nonfinite == [20]


# ── a file that grows, is torn, is replaced ──


def test_only_whole_lines_are_read_and_only_once(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 10, "split": "train", "loss": 1.0}\n{"step": 20, "spl')
    history = read(path)
    assert history.train.last == 10 and history.damaged == 0
    with open(path, "a") as out:
        out.write('it": "train", "loss": 2.0}\n')
    assert history.refresh() and steps_and_losses(history.train) == [(10, 1.0), (20, 2.0)]
    assert not history.refresh()


def test_a_last_line_without_newline_counts_when_it_is_whole(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(line(10)))
    history = read(path)
    assert history.train.last == 10
    with open(path, "a") as out:
        out.write("\n" + json.dumps(line(20)) + "\n")
    history.refresh()
    assert history.train.last == 20 and history.damaged == 0


@pytest.mark.parametrize("how", ["renamed", "truncated", "same inode, same size"])
def test_a_replaced_log_is_read_anew(tmp_path, how):
    path = write_log(tmp_path / "m.jsonl", [line(10, 1.0), line(20, 2.0)])
    history = read(path)
    if how == "renamed":
        os.rename(path, tmp_path / "metrics_1.jsonl")
        write_log(path, [line(5, 7.0), line(6, 7.0), line(7, 7.0)])
    elif how == "truncated":
        with open(path, "r+") as out:
            out.truncate(0)
            out.write(json.dumps(line(5, 7.0)) + "\n")
    else:
        with open(path, "r+") as out:
            out.write("".join(json.dumps(line(s, 3.0)) + "\n" for s in (15, 25)))
    assert history.refresh()
    expected = {"renamed": [(5, 7.0), (6, 7.0), (7, 7.0)], "truncated": [(5, 7.0)]}
    assert steps_and_losses(history.train) == expected.get(how, [(15, 3.0), (25, 3.0)])


def test_a_log_rewritten_in_place_after_an_equal_beginning_is_read_anew(tmp_path):
    first = [line(step, 1.0) for step in range(10, 60, 10)]
    path = write_log(tmp_path / "m.jsonl", [*first, line(60, 1.0)])
    history = read(path)
    with open(path, "r+") as out:
        out.write("".join(json.dumps(record) + "\n" for record in [*first, line(60, 2.0)]))
    assert history.refresh() and steps_and_losses(history.train)[-1] == (60, 2.0)


def test_a_log_that_vanishes_and_comes_back(tmp_path):
    path = tmp_path / "m.jsonl"
    history = read(path)
    assert history.train.last == -1
    write_log(path, [line(10)])
    assert history.refresh() and history.train.last == 10
    path.unlink()
    assert history.refresh() and history.train.last == -1
    assert not history.refresh()


def test_garbage_is_counted_and_passed_over(tmp_path):
    path = tmp_path / "m.jsonl"
    good = [json.dumps(line(s)).encode() for s in (10, 20, 30)]
    garbage = [
        b"{",
        b"\xff\xfe",
        b"[1, 2]",
        b"null",
        b"[" * 5000,
        b'{"step": "x", "split": "train"}',
        b'{"split": ["train"]}',
        b'{"step": true, "split": "train"}',
        b'{"step": -1, "split": "val"}',
        b"9" * 5000,
    ]
    lines = [good[0], *garbage, b"", b"  ", good[1], bytes(3_000_000), good[2]]
    path.write_bytes(b"".join(part + b"\n" for part in lines))
    history = read(path)
    assert history.train.table()["step"].tolist() == [10, 20, 30]
    assert history.damaged == len(garbage) + 1


def test_a_line_longer_than_any_of_ours_is_skipped_piece_by_piece(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(json.dumps(line(10)).encode() + b"\n" + b"x" * 2_500_000)
    history = read(path)
    assert history.train.last == 10
    with open(path, "ab") as out:
        out.write(b"y" * 2_500_000 + b"\n" + json.dumps(line(20)).encode() + b"\n")
    history.refresh()
    assert history.train.last == 20 and history.damaged == 1


def test_unusual_values_become_nan(tmp_path):
    history = read(
        write_log(tmp_path / "m.jsonl", [line(10, lr="x"), line(20, lr=[1]), line(30, lr=10**400), line(40, lr=2e-5)])
    )
    assert np.isnan(history.train.table()["lr"][:3]).all() and history.train.table()["lr"][3] == 2e-5
    assert history.train.nonfinite == []
    assert math.isnan(number(True)) and math.isnan(number("1")) and number(3) == 3.0


# ── bounded memory ──


def test_long_runs_are_kept_in_few_rows_that_still_add_up(tmp_path):
    history = RunHistory(tmp_path / "none")
    losses = np.random.default_rng(1).normal(3.0, 0.1, 200_000)
    losses[[777, 123_456]] = 9.0, 0.5
    for i, loss in enumerate(losses.tolist(), start=1):
        history.train.append(i, 0, {"loss": loss, "lr": 1.0}, 0)
    table = history.train.table()
    assert len(table["step"]) <= 2 * Track.EXACT + Track.COARSE
    assert (np.diff(table["step"]) > 0).all()
    assert table["lines"].sum() == table["step"][-1] == 200_000
    assert (table["loss"] * table["lines"]).sum() / 200_000 == pytest.approx(losses.mean())
    assert table["low"].min() == 0.5 and table["low_step"][np.argmin(table["low"])] == 123_457
    assert table["high"].max() == 9.0 and table["high_step"][np.argmax(table["high"])] == 778
    np.testing.assert_array_equal(table["loss"][-Track.EXACT :], losses[-Track.EXACT :])
    old = table["lines"][table["lines"] > 1]
    assert len(old) > 1000 and old.max() <= 8 * np.median(old)  # the resolution is even

    history.train.rewind(100_000, inclusive=False)
    table = history.train.table()
    assert table["step"][-1] <= 100_000 and history.train.last > 99_000


# ── smoothing and time left ──


def test_smoothing_is_a_centred_weighted_mean_without_gaps():
    values, ones = np.array([1.0, 2.0, 6.0, np.nan, 4.0]), np.ones(5)
    np.testing.assert_allclose(smooth(values, ones, 3), [1.5, 3.0, 4.0, 5.0, 4.0])
    np.testing.assert_allclose(smooth(values[:3], np.array([1.0, 1.0, 2.0]), 3), [1.5, 15 / 4, 14 / 3])
    assert np.isnan(smooth(np.array([np.nan]), np.ones(1), 3)).all() and len(smooth(values[:0], ones[:0], 3)) == 0


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
    table = table_of((START + np.cumsum(gaps)).tolist(), [0, 0, 0, 0, 0, 0, 1, 1, 1]) | {"lines": np.ones(9)}
    assert training_seconds(table) == 15 + 5 + 5 + 20
    assert training_seconds({name: column[:1] for name, column in table.items()}) == 0.0


def test_the_uncertainty_grows_with_the_spread_of_the_pace():
    draw = np.random.default_rng(3)
    paces = [np.repeat(draw.normal(5.0, spread, 40), 50) for spread in (0.1, 1.0)]
    calm, wild = (estimate_time_left(table_of((START + np.cumsum(p)).tolist()), 40_000) for p in paces)
    assert 0 < calm.plus_minus < 0.05 * calm.seconds < wild.plus_minus < 0.5 * wild.seconds
    assert estimate_time_left(table_of([START, START + 1]), 100) is None


# ── export ──


def test_export_has_each_step_once_and_right_types(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl",
        [
            started(),
            line(10, 5.0, lr=1e-5, epoch=0),
            line(20, 4.0, lr=2e-5, epoch=0),
            line(20, 4.5, "val"),
            line(30, 3.0, lr=3e-5, epoch=1),
            started(20, resumed=True),
            line(30, 3.5, lr=4e-5, epoch=1),
            line(40, math.nan, lr=5e-5, epoch=1),
            line(45, 9.5, "val"),
        ],
    )
    target = tmp_path / "out.csv"
    assert export_csv(log, target) == 5
    frame = pd.read_csv(target)
    assert frame.columns.tolist() == ["step", "loss", "lr", "epoch", "val_loss"]
    assert frame["step"].tolist() == [10, 20, 30, 40, 45] and frame["step"].dtype == np.int64
    assert frame["loss"].dtype == frame["lr"].dtype == frame["val_loss"].dtype == np.float64
    assert frame["loss"][:3].tolist() == [5.0, 4.0, 3.5] and frame["loss"][3:].isna().all()
    assert frame["val_loss"].dropna().tolist() == [4.5, 9.5]
    assert frame["epoch"][:4].tolist() == [0, 0, 1, 1]


def test_export_gives_back_every_digit(tmp_path):
    records = curve("healthy", 120)
    export_csv(write_log(tmp_path / "m.jsonl", [started(), *records]), tmp_path / "out.csv")
    frame = pd.read_csv(tmp_path / "out.csv", float_precision="round_trip").set_index("step")
    for record in records:
        prefix = "val_" if record["split"] == "val" else ""
        for name, value in record.items():
            if name not in ("step", "split"):
                assert frame.loc[record["step"], prefix + name] == value


def test_export_keeps_formulas_and_texts_out_of_the_table(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl", [line(10, 1.0, note="=cmd()", **{"=HYPERLINK(1)": 3, "ok": True, "big": 10**30})]
    )
    export_csv(log, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert "cmd" not in text and "HYPERLINK" not in text
    assert pd.read_csv(tmp_path / "out.csv")["ok"].tolist() == [1]


def test_export_of_nothing_is_a_clear_error_and_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="holds no metrics"):
        export_csv(tmp_path / "none.jsonl", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


# ── fuzz ──

numbers = st.one_of(
    st.integers(-5, 60),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)
metric = st.fixed_dictionaries(
    {"step": st.one_of(st.integers(0, 60), numbers), "split": st.sampled_from(["train", "val", "test", 3])},
    optional={"loss": numbers, "lr": numbers, "time": numbers, "grad_norm": numbers},
)
event = st.fixed_dictionaries(
    {"event": st.sampled_from(["start", "stop", "finish", "skip", "oom", "x", None])},
    optional={
        "step": numbers,
        "total_steps": numbers,
        "resumed": numbers,
        "run_id": numbers,
        "time": numbers,
        "parts": numbers,
    },
)
record_line = st.one_of(metric, event).map(lambda record: json.dumps(record).encode())
torn_line = st.tuples(record_line, st.integers(1, 40)).map(lambda pair: pair[0][: -pair[1]])
any_line = st.one_of(record_line, record_line, torn_line, st.binary(max_size=30))


def shape(history: RunHistory) -> tuple:
    tables = [{k: v.tolist() for k, v in track.table().items()} for track in (history.train, history.val)]
    return (
        repr(tables),
        history.damaged,
        history.restart_count,
        history.total_steps,
        history.last_event,
        history.skipped,
        history.splits,
    )


@fuzz(500)
@given(st.lists(any_line, max_size=12))
def test_fuzz_any_bytes_are_read_without_a_crash_and_steps_always_increase(tmp_path, lines):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    history = read(path)
    for track in (history.train, history.val):
        steps = track.table()["step"]
        assert (np.diff(steps) > 0).all() and track.last == (steps[-1] if len(steps) else -1)
    estimate_time_left(history.train.table(), history.total_steps or 10)


@fuzz(400)
@given(st.lists(st.one_of(record_line, torn_line), max_size=12), st.lists(st.integers(0, 2000), max_size=4))
def test_fuzz_reading_in_pieces_gives_what_reading_at_once_gives(tmp_path, lines, cuts):
    data = b"".join(part + b"\n" for part in lines)
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"")
    pieces = RunHistory(path)
    for end in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        path.write_bytes(data[:end])
        pieces.refresh()
    assert shape(pieces) == shape(read(path))


GOOD_LOG = "".join(
    json.dumps(record) + "\n" for record in [started(), *curve("healthy", 12), started(step=60, resumed=True)]
)


@fuzz(2000)
@given(st.lists(any_line, max_size=12).map(b"\n".join) | mutated(GOOD_LOG) | mutated(GOOD_LOG, most=12))
def test_fuzz_export_agrees_with_the_history_or_says_there_is_nothing(tmp_path, content):
    path = tmp_path / "m.jsonl"
    path.write_bytes(content + b"\n")
    history = read(path)
    expected = sorted({*history.train.table()["step"].tolist(), *history.val.table()["step"].tolist()})
    target = tmp_path / "out.csv"
    target.unlink(missing_ok=True)
    if not expected:
        with pytest.raises(UserError):
            export_csv(path, target)
    else:
        export_csv(path, target)
        with open(target, encoding="utf-8", newline="") as table:
            assert [int(row["step"]) for row in csv.DictReader(table)] == expected
    assert sorted(tmp_path.iterdir()) == sorted([path, target] if expected else [path])
