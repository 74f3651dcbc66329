import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*flags, **environment):
    return subprocess.run([sys.executable, str(ROOT / "run_xtts_pretrain.py"), *flags], capture_output=True, text=True,
                          env={**os.environ, **environment})


def test_only_the_training_is_shared_by_several_processes(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    result = run("--config", str(tmp_path / "c.json"), "--step", "language_model", WORLD_SIZE="2", RANK="0")
    assert result.returncode == 2 and "--step full_pretrain" in result.stderr and "Traceback" not in result.stderr


def test_a_step_before_its_needs_names_them(tmp_path):
    (tmp_path / "c.json").write_text('{"starter": {"enabled": false}}')
    result = run("--config", str(tmp_path / "c.json"), "--step", "xtts_init")
    assert result.returncode == 2 and "hf download" in result.stderr and "Traceback" not in result.stderr
    assert sorted(f.name for f in tmp_path.rglob("*") if f.is_file()) == ["c.json"]
