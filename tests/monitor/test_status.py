"""The status of a run: stages, the process that runs them, checkpoints, disk. Damaged files are warnings."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from run_folder import START, add_checkpoint, curve, heard, make_run, progress_record, started, write_log

from xtts_ka.core.config import PretrainConfig, load_config
from xtts_ka.monitor import status as run_status
from xtts_ka.monitor.history import RunHistory
from xtts_ka.monitor.screen import one_line, screen
from xtts_ka.monitor.status import read_status

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's would reach the user's screen


def status_of(config_path, **more):
    config = load_config(config_path)
    history = RunHistory(os.path.join(config.log_dir, "metrics.jsonl"))
    history.refresh()
    return read_status(config, history, **more)


def running(folder, lines=300):
    """A run that is under way: `lines` logged at 3 s each, of 400."""
    config = make_run(folder)
    write_log(folder / "logs/metrics.jsonl", [started(), *curve("healthy", lines, 400)])
    record = progress_record(full_pretrain={"status": "running", "finished": None, "started": "2026-09-21T13:33:20Z"})
    (folder / "models/xtts_v2_ka").mkdir(parents=True)
    (folder / "models/xtts_v2_ka/pretrain_progress.json").write_text(json.dumps(record))
    return config


def test_a_running_training(tmp_path):
    config = running(tmp_path)
    add_checkpoint(tmp_path / "checkpoints", 1000, 3.4)
    add_checkpoint(tmp_path / "checkpoints", 2000, 3.2)
    add_checkpoint(tmp_path / "checkpoints", 3000, 3.3)
    now = START + 905
    status = status_of(config, now=now)
    training = status["training"]
    assert (training["state"], training["step"], training["total_steps"], training["fraction"]) == (
        "running",
        3000,
        4000,
        0.75,
    )
    assert training["eta_seconds"] == pytest.approx(300, rel=0.02)  # 100 lines of 3 s are left
    assert training["eta_plus_minus_seconds"] < 15 and training["ends"] == pytest.approx(now + 300, abs=6)
    assert training["data_wait_share"] == pytest.approx(0.05 / 3, rel=0.1)
    assert training["loss"]["val"]["best"] == training["loss"]["val"]["now"]
    assert training["loss"]["train"]["trend"]["direction"] == "falling"
    assert training["loss"]["unseen"]["best"] is None  # no speaker was held out
    assert [s["status"] for s in status["stages"]] == ["done"] * 4 + ["running"]
    assert status["stages"][0]["seconds"] == 600.0
    assert [(c["step"], c["best"], c["last"], c["valid"]) for c in status["checkpoints"]] == [
        (1000, False, False, True),
        (2000, True, False, True),
        (3000, False, True, True),
    ]
    assert status["checkpoints"][2]["age_seconds"] == pytest.approx(5.0) and status["warnings"] == []
    json.dumps(status, allow_nan=False)


def test_speakers_that_training_does_not_hear_have_losses_of_their_own(tmp_path):
    records = [started(), *curve("healthy", 100)]
    for record in records:
        if record.get("split") == "val":
            record |= {"unseen_loss": record["loss"] + 0.5, "unseen_loss_mel": 3.0}
    config = make_run(tmp_path)
    write_log(tmp_path / "logs/metrics.jsonl", records)
    status = status_of(config, now=START + 905)
    loss = status["training"]["loss"]
    assert loss["unseen"]["now"] == pytest.approx(loss["val"]["now"] + 0.5) and loss["unseen"]["now_mel"] == 3.0
    assert loss["unseen"]["trend"]["direction"] == loss["val"]["trend"]["direction"]
    console = Console(width=120, file=io.StringIO())
    console.print(screen(status))
    assert f"unseen speakers  {loss['unseen']['now']:.4g}" in console.file.getvalue()


def test_a_run_that_has_not_started(tmp_path):
    status = status_of(make_run(tmp_path))
    assert status["training"] is None and status["checkpoints"] == [] and status["warnings"] == []
    assert {s["status"] for s in status["stages"]} == {"pending"} and status["disk"]["free_bytes"] > 0


def test_a_killed_run_is_interrupted_and_a_hanging_one_stale(tmp_path):
    config = running(tmp_path)
    later = START + 900 + 3600
    status = status_of(config, now=later)
    assert status["training"]["state"] == "interrupted" and status["stages"][-1]["status"] == "interrupted"
    assert any("same command carries on" in w for w in status["warnings"])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "models/xtts_v2_ka/pretrain.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(run_status.__file__).parents[2],
    ) as holder:
        holder.stdout.readline()
        status = status_of(config, now=later)
        holder.stdin.close()
    assert status["driver"]["running"] and status["driver"]["pid"] == holder.pid
    assert status["training"]["state"] == "running" and any(
        "no new metrics for 60 min" in w for w in status["warnings"]
    )
    assert not status_of(config, now=later)["driver"]["running"]


HOLDER = """
import sys
from pathlib import Path
from xtts_ka.core.lock import RunLock
with RunLock(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_stopped_finished_and_failed(tmp_path):
    config = running(tmp_path)
    log, before = tmp_path / "logs/metrics.jsonl", (tmp_path / "logs/metrics.jsonl").read_text()
    for event, state in (("stop", "stopped"), ("finish", "finished")):
        log.write_text(before + json.dumps({"event": event, "step": 3000, "time": START + 901}) + "\n")
        assert status_of(config, now=START + 9999)["training"]["state"] == state
    log.write_text(before)
    record = progress_record(full_pretrain={"status": "failed", "error": "5 steps in a row\nwere not finite \x1b[31m"})
    (tmp_path / "models/xtts_v2_ka/pretrain_progress.json").write_text(json.dumps(record))
    status = status_of(config, now=START + 9999)
    assert status["training"]["state"] == "failed"
    assert status["warnings"] == ["stage full_pretrain failed: 5 steps in a row were not finite [31m"]


def test_a_resumed_run_without_lines_yet_stands_at_its_checkpoint(tmp_path):
    config = make_run(tmp_path)
    write_log(tmp_path / "logs/metrics.jsonl", [started(1500, resumed=True)])
    training = status_of(config, now=START + 1)["training"]
    assert (training["step"], training["state"], training["eta_seconds"]) == (1500, "running", None)


# ── checkpoints and disk ──


def test_damaged_checkpoints_are_named_and_never_best_or_last(tmp_path):
    config = running(tmp_path)
    folder = tmp_path / "checkpoints"
    for step, val in ((500, 3.5), (1000, 3.0), (1500, 3.2), (2000, 2.0)):
        add_checkpoint(folder, step, val)
    (folder / "step_00002000/model.safetensors").write_bytes(b"short")
    (folder / "step_00001500/manifest.json").unlink()
    weights = bytearray((folder / "step_00001000/model.safetensors").read_bytes())
    weights[99] ^= 1
    (folder / "step_00001000/model.safetensors").write_bytes(weights)
    (folder / ".step_00002500.77.partial").mkdir()
    status = status_of(config, now=START + 905)
    assert [(c["step"], c["valid"]) for c in status["checkpoints"]] == [
        (500, True),
        (1000, True),
        (1500, False),
        (2000, False),
    ]
    assert sum("is not valid" in w for w in status["warnings"]) == 2
    assert status["unfinished_checkpoints"] == [".step_00002500.77.partial"]
    assert [c["step"] for c in status["checkpoints"] if c["last"] and c["best"]] == [1000]
    verified = status_of(config, now=START + 905, verify=True)["checkpoints"]
    assert [c["step"] for c in verified if c["valid"]] == [500] and "checksum" in verified[1]["reason"]


def test_need_of_the_disk(tmp_path, monkeypatch):
    config = running(tmp_path)
    add_checkpoint(tmp_path / "checkpoints", 1000, 3.4, size=80_000)
    monkeypatch.setattr(run_status.shutil, "disk_usage", lambda place: SimpleNamespace(free=200_000, total=10**6))
    status = status_of(config, now=START + 903)
    each = status["checkpoints"][0]["bytes"]
    disk = status["disk"]
    # two newest, the best and one being written, of which one is there
    assert disk["needed_bytes"] == 3 * each
    assert any("the disk is low" in w for w in status["warnings"])


def test_skipped_steps_and_a_lack_of_memory_are_told_until_a_restart_undoes_them(tmp_path):
    config = running(tmp_path)
    log = tmp_path / "logs/metrics.jsonl"
    events = [
        {"event": "oom", "step": 2900, "parts": 2},
        {"event": "skip", "step": 2950, "grad_norm": "nan"},
        {"event": "oom", "step": 2990, "parts": 4},
        {"event": "skip", "step": 3001},
        {"event": "oom"},
    ]
    log.write_text(log.read_text() + "".join(json.dumps(event) + "\n" for event in events))
    status = status_of(config, now=START + 905)
    skipped, memory = status["warnings"]
    assert skipped.startswith("steps skipped") and "finite: 2, the last at step 3001" in skipped
    assert "memory ran out at step 2990" in memory and "cut into 4 pieces" in memory
    assert status["training"]["skipped_steps"] == [2950, 3001]
    assert status["training"]["memory_splits"] == [{"step": 2900, "parts": 2}, {"step": 2990, "parts": 4}]
    log.write_text(log.read_text() + json.dumps(started(2960, resumed=True, time=START + 905)) + "\n")
    skipped, memory = status_of(config, now=START + 906)["warnings"]
    assert "finite: 1, the last" in skipped and "cut into 2 pieces" in memory


def test_a_long_pause_between_two_sessions_counts_in_no_figure(tmp_path):
    """Stopped on a Friday, resumed on the Monday on a slower machine."""
    config, weekend = running(tmp_path, 200), 3 * 86400.0
    again = [
        dict(r, time=START + weekend + 1.5 * (r["time"] - START))
        for r in curve("healthy", 300, 400)
        if r["step"] > 1900
    ]
    write_log(
        tmp_path / "logs/metrics.jsonl",
        [started(), *curve("healthy", 200, 400), started(1900, resumed=True, time=again[0]["time"] - 9), *again],
    )
    training = status_of(config, now=again[-1]["time"] + 1)["training"]
    assert (training["restarts"], training["step"]) == (1, 3000)
    assert training["eta_seconds"] == pytest.approx(100 * 4.5, rel=0.02)  # 4.5 s a line now, 3 s before
    assert training["eta_plus_minus_seconds"] < 10
    assert training["seconds"] == pytest.approx(190 * 3 + 110 * 4.5, rel=0.02)


def test_the_time_left_counts_down_between_lines_and_stands_still_when_none_comes(tmp_path):
    config = running(tmp_path)
    left = [status_of(config, now=START + 900 + late)["training"]["eta_seconds"] for late in (0, 2, 30, 50)]
    assert left[0] - left[1] == pytest.approx(2, abs=0.2) and left[2] == left[3] == pytest.approx(left[0] - 3, abs=0.2)


def test_the_loss_now_is_that_of_the_newest_fifth(tmp_path):
    config = make_run(tmp_path)
    lines = [{"step": s, "split": "train", "loss": 9.0 - s, "time": START + s} for s in range(1, 11)]
    write_log(tmp_path / "logs/metrics.jsonl", [started(), *lines])
    train = status_of(config, now=START + 11)["training"]["loss"]["train"]
    assert train["now"] == train["best"] == 0.0 and train["best_step"] == 9  # the mean of the steps 8, 9 and 10


# ── fuzz ──

words = st.sampled_from(
    "status running done failed started 2026-11-23T05:40:00Z seconds error metrics schema pid".split()
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=4),
    max_leaves=6,
)
records = st.one_of(
    st.binary(max_size=20),
    values.map(lambda v: json.dumps(v).encode()),
    st.dictionaries(st.sampled_from(PretrainConfig().stages()), values).map(
        lambda s: json.dumps({"schema": 1, "stages": s}).encode()
    ),
)


@given(record=records, lock=records, manifest=records, lines=st.lists(records, max_size=5), state=records)
def test_fuzz_whatever_the_files_hold_the_status_is_strict_json(tmp_path, record, lock, manifest, lines, state):
    config = make_run(tmp_path)
    for name, data in (
        ("models/xtts_v2_ka/pretrain_progress.json", record),
        ("models/xtts_v2_ka/pretrain.lock.json", lock),
        ("checkpoints/step_00000500/manifest.json", manifest),
        ("checkpoints/step_00000500/state.json", state),
        ("logs/metrics.jsonl", b"\n".join(lines)),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    json.dumps(status_of(config), allow_nan=False)


def test_samples_and_the_choice_are_shown(tmp_path):
    config = running(tmp_path)
    candidates = [{"step": 2000, "cer": {"value": 0.25}}, {"step": 3000, "cer": {"value": 0.3}}]
    choice = {"event": "choice", "step": 2000, "by": "cer", "candidates": candidates}
    lines = [started(), *curve("healthy", 300, 400), *heard(rounds=10, last=3000), choice]
    write_log(tmp_path / "logs/metrics.jsonl", lines)
    status = status_of(config, now=START + 905)
    samples = status["training"]["samples"]
    assert samples["rounds"] == 10 and samples["step"] == 3000 and samples["recogniser_cer"] == 0.04
    assert samples["cer"] == pytest.approx(0.3, abs=0.04) and samples["trend"]["direction"] == "falling"
    assert samples["share_of_time"] == pytest.approx(20 / 900, rel=0.02)
    terminal = Console(file=io.StringIO(), width=120)
    terminal.print(screen(status))
    shown = terminal.file.getvalue()
    assert "samples of step 3000: CER " in shown and "the recogniser's own 4.0 %" in shown
    assert "exported by CER: step 2000 (25.0 %), of 2 checkpoints" in shown
    assert "CER " in one_line(status)
    write_log(tmp_path / "logs/metrics.jsonl", lines[:200])
    assert status_of(config)["training"]["samples"] is None
