import re
import shutil
import subprocess
import sys
from pathlib import Path

from small_project import here

import run_pretrain
import run_xtts_pretrain

ROOT = Path(__file__).parents[1]


def test_only_the_training_is_shared_by_several_processes(tmp_path, monkeypatch):
    (tmp_path / "c.json").write_text("{}")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    result = here(run_xtts_pretrain.main, "--config", tmp_path / "c.json", "--step", "language_model")
    assert result.code == 2 and "--step full_pretrain" in result.err and len(result.err.splitlines()) == 1


def test_a_step_before_its_needs_names_them(tmp_path):
    (tmp_path / "c.json").write_text('{"starter": {"enabled": false}}')
    result = here(run_xtts_pretrain.main, "--config", tmp_path / "c.json", "--step", "xtts_init")
    assert result.code == 2 and "hf download" in result.err and result.err.count("error: ") == 1
    assert sorted(f.name for f in tmp_path.rglob("*") if f.is_file()) == ["c.json"]


def test_without_a_step_every_stage_that_is_due_runs_and_the_model_is_complete(project):
    (project / "models/xtts_v2_ka/pretrain_progress.json").unlink()
    (project / "models/xtts_v2_ka/speakers_base.pth").unlink()
    result = here(run_xtts_pretrain.main, "--config", project / "config.json")
    assert result.code == 0, result.err
    for stage in ("embeddings", "phonemes", "language", "xtts_init", "full_pretrain"):
        assert f"── {stage}: never run" in result.out
    listing = here(run_pretrain.main, "--config", project / "config.json", "--dry-run")
    assert listing.out.count("skip  up to date") == 5


def test_training_before_the_stages_it_needs_is_refused_with_the_next_command(project):
    (project / "models/xtts_v2_ka/pretrain_progress.json").unlink()
    result = here(run_xtts_pretrain.main, "--config", project / "config.json", "--step", "full_pretrain")
    assert result.code == 2 and len(result.err.splitlines()) == 1
    assert "needs embeddings" in result.err and "--only embeddings" in result.err


def test_torchrun_trains_with_two_processes_to_a_model_that_is_up_to_date(project):
    codes = next(project.glob("data/features/*/codes.bin"))
    alone = codes.read_bytes()
    shutil.rmtree(codes.parent)  # both compute the codes and mels too
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(ROOT / "run_xtts_pretrain.py"),
            "--config",
            str(project / "config.json"),
            "--step",
            "full_pretrain",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("── full_pretrain: --only") == 1  # one process speaks for both
    assert codes.read_bytes() == alone
    assert re.search(r"step +(\d+)/\1  train", result.stdout) and "Exported: step" in result.stdout
    listing = here(run_pretrain.main, "--config", project / "config.json", "--dry-run")
    assert listing.out.count("skip  up to date") == 5, listing.out
