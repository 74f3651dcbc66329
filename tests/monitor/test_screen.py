"""The screen and the line for a pipe show what the status says."""

import io

import pytest
from rich.console import Console
from run_folder import add_checkpoint, curve, make_run, progress_record, started, write_log

from xtts_ka.core.config import load_config
from xtts_ka.core.files import write_json
from xtts_ka.monitor.history import RunHistory
from xtts_ka.monitor.screen import one_line, screen
from xtts_ka.monitor.status import read_status


@pytest.fixture
def run(tmp_path):
    """(config, history) of a run that has logged 300 lines of 400."""
    config = load_config(make_run(tmp_path))
    write_json(tmp_path / "models/xtts_v2_ka/pretrain_progress.json", progress_record())
    log = write_log(tmp_path / "logs/metrics.jsonl", [started(), *curve("healthy", 300, 400)])
    return config, RunHistory(log)


def shown(status, **options) -> str:
    canvas = Console(file=io.StringIO(), width=100)
    canvas.print(screen(status, **options))
    return canvas.file.getvalue()


def test_the_line_names_the_stage_that_runs_before_training_does(run, tmp_path):
    config, history = run
    assert "nothing is running  no metrics yet" in one_line(read_status(config, history))
    history.refresh()
    assert "finished  step 3000/4000  loss 2.9" in one_line(read_status(config, history))
    record = tmp_path / "models/xtts_v2_ka/pretrain_progress.json"
    write_json(record, progress_record(language={"status": "running"}))
    now = history.last_time + 1  # so young a line shows that a process is at work
    assert one_line(read_status(config, history, now=now)).endswith("stage language is running")


def test_old_checkpoints_and_metrics_of_stages_are_details(run, tmp_path):
    config, history = run
    write_json(
        tmp_path / "models/xtts_v2_ka/pretrain_progress.json", progress_record(language={"metrics": {"bits": 2.5}})
    )
    for step in range(100, 1100, 100):
        add_checkpoint(tmp_path / "checkpoints", step, 3.0 + step)
    status = read_status(config, history)
    short, details = shown(status), shown(status, details=True)
    assert "and 3 older" in short and "language: bits 2.5" not in short and short.count(" yes ") == 7
    assert "older" not in details and "language: bits 2.5" in details and details.count(" yes ") == 10


def test_large_figures_have_no_exponent(run):
    config, history = run
    history.refresh()
    status = read_status(config, history)
    status["training"] |= {"audio_s_per_s": 12_120.0, "grad_norm": 3456.0}
    assert "  12100 audio s/s  " in one_line(status)
    assert "gradient norm 3460   12100 s of audio per s" in shown(status)
