"""The pipeline's command line: what it says at the end, whatever the end is, and the command that comes next."""

import json
import re
import shlex
import subprocess

import pytest
from hypothesis import given
from mutations import mutated, mutated_json
from pipeline_run import ROOT, run_here, statuses, write_config
from small_project import here

import run_pretrain
from xtts_ka.core.config import PretrainConfig, StarterConfig
from xtts_ka.core.errors import RunError


def last_command(text: str) -> str:
    """The newest command that `text` tells the user to type."""
    return next(line.split(": ", 1)[1] for line in reversed(text.splitlines()) if ".py --config" in line)


# ── stopped by a signal ──


def test_a_signal_at_any_moment_ends_in_a_sentence_and_leaves_no_lock(stopped):
    config, stops = stopped
    told = [stop for stop in stops if stop.code > 0]  # the others were killed
    assert [stop.code for stop in told] == [130, 143, 130]
    for stop, how in zip(told, ("interrupted", "stopped", "interrupted")):
        *_, line = stop.said.splitlines()
        assert line.startswith(f"{how}; what is finished is kept; carry on with: "), stop.said
        assert shlex.split(line.split("with: ")[1])[-3:] == [str(ROOT / "run_pretrain.py"), "--config", str(config)]
        assert "Traceback" not in stop.said and "Exception ignored" not in stop.said and not stop.locked


def test_what_was_done_when_it_was_stopped_is_recorded_and_told(stopped):
    starter, embeddings, training, killed = stopped[1]
    assert "summary" not in starter.said and not starter.statuses  # no stage had begun
    assert embeddings.statuses["embeddings"] == "pending" and "embeddings     interrupted" in embeddings.said
    assert killed.code == -9 and killed.statuses["full_pretrain"] == "running"
    assert training.statuses["full_pretrain"] == "pending" and training.statuses["xtts_init"] == "done"
    assert "its checkpoint is written" in training.said
    summary = training.said.partition("── summary")[2]
    assert "100 new tokens" in summary and "vocab.json" in summary and "full_pretrain  interrupted" in summary


# ── the end, good and bad ──


def test_the_summary_has_a_row_for_each_stage_and_a_next_command_that_works(finished):
    config, result = finished
    summary = result.stdout.partition("── summary")[2]
    rows = {row.split()[0]: row for row in re.split(r"\n(?=[a-z])", summary)}  # with the lines of files below each
    for stage, status, figure, file in (
        ("embeddings", "up to date", "6 speakers", "speakers_base.pth"),
        ("phonemes", "up to date", "phoneme errors", "g2p_model.pt"),
        ("language", "up to date", "100 new tokens", "vocab.json"),
        ("xtts_init", "up to date", "100 new text rows", "xtts_init_results.pkl"),
        ("full_pretrain", "done", "validation loss ", "xtts_v2_ka_combined.pkl"),
    ):
        assert all(part in rows[stage] for part in (status, figure, file, " s  "))
    pasted = last_command(result.stdout)
    spoken = subprocess.run(pasted, shell=True, cwd=config.parent, capture_output=True, text=True)
    assert spoken.returncode == 0, pasted + spoken.stderr
    assert (config.parent / "hello.wav").stat().st_size > 1000


def test_a_failed_stage_is_named_with_what_is_done_and_the_command_to_carry_on(finished, monkeypatch, capsys):
    from pretrain_xtts_model import LanguageModelProcessor

    def fail(self):
        raise RunError("the words ran out")

    config, _ = finished
    monkeypatch.setattr(LanguageModelProcessor, "run", fail)
    try:
        assert run_pretrain.main(["--config", str(config), "--only", "language"]) == 1
        out, err = capsys.readouterr()
        assert err.endswith("error: the words ran out\n") and "Traceback" not in err
        assert "language       failed" in out and "phonemes       left alone" in out
        assert "xtts_init      done before" in out  # by the run before
        assert shlex.split(last_command(out))[-2:] == ["--only", "language"]
    finally:
        again = subprocess.run(last_command(out), shell=True, capture_output=True, text=True)
    assert again.returncode == 0 and set(statuses(config).values()) == {"done"}


def test_force_is_repeated_until_training_has_begun_anew():
    from argparse import Namespace

    forced = Namespace(config="my config.json", only=None, force=True)
    assert run_pretrain._again(forced, "phonemes").endswith("run_pretrain.py --config 'my config.json' --force")
    assert run_pretrain._again(forced, "full_pretrain").endswith("run_pretrain.py --config 'my config.json'")


# ── what would run ──


def test_a_dry_run_on_a_bare_machine_says_all_and_writes_nothing(tmp_path):
    config = write_config(tmp_path)
    result = run_here(config, "--dry-run")
    assert result.returncode == 0 and result.stdout.count("  runs  its inputs are made anew") == 5
    assert result.stdout.count("starter would first make a stand-in") == 2
    assert "5 of 5 stages would run; nothing was changed" in result.stdout
    assert last_command(result.stdout).endswith(f"--config {config}") and [f.name for f in tmp_path.iterdir()] == [
        "config.json"
    ]


def test_a_dry_run_without_inputs_and_starter_is_refused_and_writes_nothing(tmp_path):
    result = run_here(write_config(tmp_path, starter={"enabled": False}), "--dry-run")
    assert (
        result.returncode == 2
        and "hf download" in result.stderr
        and [f.name for f in tmp_path.iterdir()] == ["config.json"]
    )


def test_a_dry_run_of_a_finished_pipeline_says_that_nothing_is_due(finished):
    result = run_here(finished[0], "--dry-run")
    assert result.stdout.count("  skip  up to date") == 5 and "no stage would run" in result.stdout


def test_an_unknown_stage_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        run_pretrain.main(["--only", "nothing"])
    assert stop.value.code == 2 and "invalid choice" in capsys.readouterr().err


CONFIG = PretrainConfig(
    data_dir="data",
    base_model_path="base",
    output_model_path="out",
    checkpoint_dir="c",
    log_dir="l",
    starter=StarterConfig(enabled=True, sentences="s"),
).model_dump()


@given(content=mutated_json(CONFIG) | mutated_json(CONFIG) | mutated(json.dumps(CONFIG, indent=1), most=2))
def test_any_edit_of_a_config_gives_a_plan_or_one_sentence_and_writes_nothing(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    result = here(run_pretrain.main, "--config", tmp_path / "config.json", "--dry-run")
    assert list(tmp_path.iterdir()) == [tmp_path / "config.json"]
    if result.code:
        assert result.code in (1, 2) and result.out == "" and len(result.err.splitlines()) == 1
        assert result.err.startswith("error: ") and len(result.err) < 20_000
    else:
        assert re.search(r"\b(\d) of \1 stages would run", result.out) and result.err == ""
