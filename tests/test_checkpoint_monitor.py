"""checkpoint_monitor.py as a user runs it: the screen, --json, --watch, --plot, --analyze, --export, --cleanup."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import run_folder
from hypothesis import given
from hypothesis import strategies as st
from run_folder import add_checkpoint, curve, make_run, progress_record, started, write_log

import checkpoint_monitor
from checkpoint_monitor import main
from xtts_ka.core.files import write_json

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's would reach the user's screen

ROOT = Path(checkpoint_monitor.__file__).parent


@pytest.fixture
def live(tmp_path, monkeypatch):
    """A run that logged its last line a moment ago, with six checkpoints; returns its config."""
    monkeypatch.setattr(run_folder, "START", time.time() - 902)
    config = make_run(tmp_path / "run")
    records = curve("healthy", 300, 400)
    log = [
        started(),
        *[r for r in records if r["step"] <= 1200],
        started(1000, resumed=True),
        *[r for r in records if r["step"] > 1000],
    ]
    write_log(tmp_path / "run/logs/metrics.jsonl", log)
    for step, val in ((500, 3.9), (1000, 3.4), (1500, 3.1), (2000, 3.25), (2500, 3.2), (3000, None)):
        add_checkpoint(tmp_path / "run/checkpoints", step, val, time=run_folder.START + 0.3 * step)
    write_json(
        tmp_path / "run/models/xtts_v2_ka/pretrain_progress.json",
        progress_record(full_pretrain={"status": "running", "finished": None}),
    )
    return config


def monitor(capsys, config, *flags) -> str:
    assert main(["--config", str(config), *flags]) == 0
    return capsys.readouterr().out


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


# ── the screen ──


def test_the_screen_shows_everything_and_writes_nothing(live, capsys):
    before = tree(live.parent)
    out = monitor(capsys, live)
    for part in (
        "embeddings     done",
        "full_pretrain  running",
        "step 3000 / 4000",
        "75.0 %",
        "restarted 1×",
        "time left 4 min 5",
        "±",
        "ends ",
        "↘ falling",
        "lr 4.7",
        "gradient norm",
        "28",
        "data wait 2 %",
        "best",
        "last",
        "free of",
    ):
        assert part in out, part
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 100
    assert tree(live.parent) == before


def test_a_copied_folder_shows_the_same(live, tmp_path, capsys):
    import shutil

    shutil.copytree(live.parent, tmp_path / "copy")
    shutil.rmtree(live.parent)
    out = monitor(capsys, tmp_path / "copy" / live.name)
    assert "step 3000 / 4000" in out and out.count(" yes ") == 6


def test_nothing_started_yet_is_a_friendly_screen(tmp_path, capsys):
    config = make_run(tmp_path)
    out = monitor(capsys, config)
    assert "nothing has been started yet" in out and "run_pretrain.py --config " in out
    assert "none yet" in out and "!" not in out
    assert monitor(capsys, config, "--analyze").startswith("verdict: too-early")
    assert "nothing to delete" in monitor(capsys, config, "--cleanup", "--yes")
    assert json.loads(monitor(capsys, config, "--json"))["training"] is None
    assert main(["--config", str(config), "--plot"]) == 0 and not (tmp_path / "logs").exists()
    assert main(["--config", str(config), "--export", str(tmp_path / "x.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 2 and not (tmp_path / "x.csv").exists()


def test_a_missing_config_is_one_clear_sentence(tmp_path, capsys):
    assert main(["--config", str(tmp_path / "none.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: config ") and "none.json does not exist" in error
    assert error.count("\n") == 1


def test_json_is_strict_and_has_what_the_screen_has(live, capsys):
    (live.parent / "logs/metrics.jsonl").open("a").write(
        '{"step": 3010, "split": "train", "loss": NaN, "lr": Infinity}\n'
    )
    out = monitor(capsys, live, "--json")
    status = json.loads(out, parse_constant=pytest.fail)
    assert out.count("\n") == 1
    assert status["training"]["step"] == 3010 and status["training"]["nonfinite_steps"] == [3010]
    assert len(status["stages"]) == 5 and len(status["checkpoints"]) == 6 and len(status["warnings"]) == 1
    both = json.loads(monitor(capsys, live, "--json", "--analyze"))
    assert both["analyze"]["verdict"] == "divergence" and both["analyze"]["checkpoint"] == "step_00001500"


def test_quiet_prints_warnings_only(live, capsys):
    assert main(["--config", str(live), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    (live.parent / "checkpoints/step_00002000/optimizer.pt").unlink()
    assert main(["--config", str(live), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("warning: checkpoint step_00002000 is not valid (optimizer.pt is missing)")


def test_plot_analyze_and_export_together(live, tmp_path, capsys):
    target = tmp_path / "all.csv"
    out = monitor(capsys, live, "--plot", "--analyze", "--export", str(target))
    assert (live.parent / "logs/training_plot.png").read_bytes().startswith(b"\x89PNG")
    assert "verdict: healthy" in out and "use step_00001500: it has the lowest validation loss (3.1)" in out
    frame = pd.read_csv(target)
    assert frame["step"].is_unique and len(frame) == 300 and frame["val_loss"].notna().sum() == 30
    assert frame.dtypes.drop("step").eq("float64").all() and frame["step"].dtype == "int64"
    assert main(["--config", str(live), "--export", str(live.parent / "logs/metrics.jsonl")]) == 2


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, checkpoint_monitor\ntry:\n    checkpoint_monitor.main(['--help'])\nexcept "
        "SystemExit:\n    pass\n"
        "print('HEAVY', [m for m in ('torch', 'numpy', 'pandas', 'matplotlib', 'rich') if m in "
        "sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "example: python checkpoint_monitor.py" in out and out.endswith("HEAVY []\n")


def test_the_screen_needs_no_torch(live):
    code = (
        "import sys, checkpoint_monitor\n"
        f"checkpoint_monitor.main(['--config', {str(live)!r}, '--analyze'])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_flags_that_do_not_go_together(live, capsys):
    for flags in (
        ["--watch", "--cleanup"],
        ["--yes"],
        ["--keep", "2"],
        ["--cleanup", "--keep", "0"],
        ["--interval", "0"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--config", str(live), *flags])
        assert stop.value.code == 2
    assert capsys.readouterr().err.count("error:") == 5


# ── watching ──


def test_quiet_watching_tells_each_warning_once(live):
    (live.parent / "checkpoints/step_00002000/optimizer.pt").unlink()
    watching = subprocess.Popen(
        command(live, "--watch", "--interval", "0.2", "--quiet"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "step_00002000 is not valid" in watching.stderr.readline()
    (live.parent / "checkpoints/step_00002500/optimizer.pt").unlink()
    assert "step_00002500 is not valid" in watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=20) == ("", "") and watching.returncode == 0


def command(config, *flags) -> list[str]:
    return [sys.executable, str(ROOT / "checkpoint_monitor.py"), "--config", str(config), *flags]


def test_watch_in_a_pipe_prints_lines_survives_rotation_and_ends_cleanly(live):
    log = live.parent / "logs/metrics.jsonl"
    watching = subprocess.Popen(
        command(live, "--watch", "--interval", "0.3"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first = watching.stdout.readline()
    assert all(part in first for part in ("running  step 3000/4000  loss 2.9", "best 3.0", "±"))
    assert "\x1b" not in first
    log.rename(log.with_name("metrics_1.jsonl"))
    write_log(log, [started(total=77), *curve("healthy", 5, 400)])
    deadline = time.time() + 20
    while "step 50/77" not in (seen := watching.stdout.readline()):
        assert time.time() < deadline and seen
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=20)
    assert watching.returncode == 0 and err == "" and "Traceback" not in out


def test_watch_on_a_terminal_refreshes_in_place_and_redraws_the_plot(live):
    master, slave = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "90", "LINES": "45", "TERM": "xterm"}
    watching = subprocess.Popen(
        command(live, "--watch", "--interval", "0.3", "--plot"), stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    seen, plot = "", live.parent / "logs/training_plot.png"

    def until(condition):
        nonlocal seen
        deadline = time.time() + 30
        while not condition():
            assert time.time() < deadline, seen
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 65536).decode(errors="replace")

    until(lambda: seen.count("step 3000 / 4000") >= 2 and plot.exists())
    assert "\x1b[1A" in seen  # the cursor goes back up
    assert not re.search(r"\x1b\[[0-9;]*m", seen)  # and NO_COLOR is respected
    drawn = plot.stat().st_mtime_ns
    with open(live.parent / "logs/metrics.jsonl", "a") as log:
        log.write(json.dumps({"step": 3010, "split": "train", "loss": 2.9, "time": time.time()}) + "\n")
    until(lambda: "step 3010 / 4000" in seen and plot.stat().st_mtime_ns > drawn)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=20) == 0
    os.close(master)
    assert "Traceback" not in seen and not list(plot.parent.glob(".*.partial"))


# ── cleanup ──


def names(config) -> list[str]:
    return sorted(p.name for p in (config.parent / "checkpoints").iterdir())


def test_cleanup_says_asks_and_deletes_only_then(live, capsys, monkeypatch):
    before = tree(live.parent)
    for answer in ("n", "", "what", EOFError):

        def reply(prompt, answer=answer):
            if answer is EOFError:
                raise EOFError
            return answer

        monkeypatch.setattr("builtins.input", reply)
        out = monitor(capsys, live, "--cleanup")
        assert "nothing was deleted" in out and tree(live.parent) == before
    for part in (
        "keep    step_00001500  (best)",
        "keep    step_00003000  (last)",
        "keep    step_00002500  (one of the 2 newest)",
        "delete  step_00000500",
    ):
        assert part in out
    assert re.search(r"3 to delete, which frees 1\d\.\d kB", out)
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    assert "deleted 3, freed" in monitor(capsys, live, "--cleanup")
    assert names(live) == ["step_00001500", "step_00002500", "step_00003000"]


def test_cleanup_with_yes_and_keep(live, capsys):
    monitor(capsys, live, "--cleanup", "--yes", "--keep", "1")
    assert names(live) == ["step_00001500", "step_00003000"]
    assert "there is nothing to delete" in monitor(capsys, live, "--cleanup", "--yes", "--keep", "1")


def test_cleanup_with_json_never_asks(live, capsys):
    report = json.loads(monitor(capsys, live, "--cleanup", "--json"))["cleanup"]
    assert [d["name"] for d in report["would_delete"]] == [
        "step_00000500",
        "step_00001000",
        "step_00002000",
    ] and report["deleted"] == []
    assert len(names(live)) == 6
    report = json.loads(monitor(capsys, live, "--cleanup", "--json", "--yes"))["cleanup"]
    assert len(report["deleted"]) == 3 and report["freed_bytes"] > 15_000 and len(names(live)) == 3


# ── any log ──


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.fixed_dictionaries(
                {
                    "step": st.integers(0, 99),
                    "split": st.sampled_from(["train", "val"]),
                    "loss": st.floats() | st.none(),
                    "lr": st.floats(),
                    "time": st.floats(),
                }
            ).map(lambda r: json.dumps(r).encode()),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_fuzz_every_log_can_be_shown_and_analysed(tmp_path_factory, capsys, lines):
    root = tmp_path_factory.getbasetemp() / "screen"
    config = make_run(root)
    (root / "logs").mkdir(exist_ok=True)
    (root / "logs/metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert "Training" in monitor(capsys, config)
    assert monitor(capsys, config, "--analyze").startswith("verdict: ")
