"""The log is read as it grows; restarts are merged; damaged lines are counted."""

import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_logs import any_line, record_line, torn_line
from run_folder import started, write_log

from xtts_ka.monitor.history import Choice, RunHistory
from xtts_ka.monitor.time_left import estimate_time_left

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's would reach the user's screen


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
    assert (history.restarts, history.total_steps, history.run_id) == ([20], 4000, "run-a")
    assert history.train.table()["session"].tolist() == [0, 0, 1]


def test_checksums_of_older_versions_are_ignored(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 10, "split": "train", "loss": 5.0, "crc": "00000000"}\n')
    history = read(path)
    assert steps_and_losses(history.train) == [(10, 5.0)] and history.damaged == 0
    assert history.train.records == [{"step": 10, "split": "train", "loss": 5.0}]


def test_a_restart_whose_start_line_is_damaged_is_seen_in_the_step_that_comes_again(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl",
        [line(10, 5.0), line(20, 4.0), line(30, 3.0), line(40, 2.0), line(30, 3.1), line(40, 2.1), line(50, 1.1)],
    )
    history = read(log)
    assert steps_and_losses(history.train) == [(10, 5.0), (20, 4.0), (30, 3.1), (40, 2.1), (50, 1.1)]
    assert history.restarts == [30] and history.damaged == 0


def test_a_damaged_step_ahead_is_dropped(tmp_path):
    history = read(write_log(tmp_path / "m.jsonl", [line(10, 5.0), line(10**9, 4.0), line(20, 3.0), line(30, 2.0)]))
    assert steps_and_losses(history.train) == [(10, 5.0), (20, 3.0), (30, 2.0)]


def test_a_fresh_start_in_the_same_file_forgets_the_old_run(tmp_path):
    history = read(write_log(tmp_path / "m.jsonl", [started(), line(10), line(20), started(total=99), line(5, 7.0)]))
    assert steps_and_losses(history.train) == [(5, 7.0)]
    assert history.total_steps == 99 and history.restarts == []


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


def test_a_long_torn_line_is_one_damaged_line(tmp_path):
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


# ── fuzz ──


def shape(history: RunHistory) -> tuple:
    tables = [{k: v.tolist() for k, v in track.table().items()} for track in (history.train, history.val)]
    return (
        repr(tables),
        history.damaged,
        history.restarts,
        history.total_steps,
        history.last_event,
        history.skipped,
        history.splits,
    )


@given(st.lists(any_line, max_size=12))
def test_fuzz_any_bytes_are_read_without_a_crash_and_steps_always_increase(tmp_path, lines):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    history = read(path)
    for track in (history.train, history.val):
        steps = track.table()["step"]
        assert (np.diff(steps) > 0).all() and track.last == (steps[-1] if len(steps) else -1)
    estimate_time_left(history.train.table(), history.total_steps or 10)


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


# ── samples ──


def sample(step, cer=0.5):
    return {"step": step, "split": "samples", "cer": cer, "similarity": 0.6, "seconds": 2.0, "time": 1.0}


def test_samples_have_a_track_of_their_own_which_a_restart_cuts(tmp_path):
    lines = [started(), line(10), sample(10), line(20), sample(20, 0.4), started(10, resumed=True), line(20, 4.0)]
    history = read(write_log(tmp_path / "m.jsonl", lines))
    assert history.damaged == 0 and history.samples.table()["cer"].tolist() == [0.5]
    assert steps_and_losses(history.train) == [(10, 1.0), (20, 4.0)] and history.train.nonfinite == []


def test_the_choice_of_a_checkpoint_stands_until_training_goes_on(tmp_path):
    candidates = [{"step": 20, "cer": {"value": 0.1}}, {"step": 10, "cer": {"value": 0.2}}]
    choice = {"event": "choice", "step": 20, "by": "cer", "candidates": candidates}
    lines = [started(), line(10), line(20), choice]
    assert read(write_log(tmp_path / "m.jsonl", lines)).choice == Choice(20, 0.1, 2)
    assert read(write_log(tmp_path / "n.jsonl", [*lines, started(20, resumed=True)])).choice is None
    damaged = read(
        write_log(tmp_path / "o.jsonl", [started(), {**choice, "candidates": ["x", {"step": 20, "cer": 3}]}])
    )
    assert damaged.choice.step == 20 and math.isnan(damaged.choice.cer) and damaged.choice.candidates == 1
