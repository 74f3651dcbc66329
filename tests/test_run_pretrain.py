"""Every script answers --help at once, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import run_pretrain
from mutations import mutated
from pretrain_config import PretrainConfig, StarterConfig
from small_project import here

ROOT = Path(__file__).parents[1]
SCRIPTS = {"run_pretrain": ["--config", "--force", "--only", "--dry-run"], "run_xtts_pretrain": ["--config", "--step"],
           "embedding_adapter": ["--config", "--force"], "phoneme_processor": ["--config", "--words"], "data_loader": ["--config"],
           "create_metadata_files": ["--embeddings_dir", "--output_dir", "--source", "--format"],
           "checkpoint_monitor": ["--config", "--plot", "--watch", "--interval", "--cleanup", "--analyze", "--export"],
           "georgian_text": [], "synthesize": ["--text"]}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_flags_and_an_example_and_imports_nothing_heavy(script):
    heavy = ("torch", "TTS", "pandas", "transformers", "matplotlib")
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {script}\n"
            f"try: {script}.main(['--help'])\nexcept SystemExit as stop: assert not stop.code\n"
            f"print('HEAVY', [m for m in {heavy} if m in sys.modules])")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "HEAVY []" in result.stdout
    assert all(flag in result.stdout for flag in SCRIPTS[script])
    assert "example" in result.stdout.lower()


def test_an_unknown_stage_is_refused():
    result = subprocess.run([sys.executable, ROOT / "run_pretrain.py", "--only", "nothing"], capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr


SHIPPED = (ROOT / "xtts_pretrain_config.json").read_bytes()
FULL = json.dumps(PretrainConfig(data_dir="data", base_model_path="base", output_model_path="out", checkpoint_dir="c", log_dir="l",
                                 starter=StarterConfig(sentences="s")).as_dict(), indent=1).encode()


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutated(SHIPPED) | mutated(FULL, most=2) | mutated(FULL, most=8))
def test_any_edit_of_a_config_gives_a_plan_or_one_sentence_and_writes_nothing(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    result = here(run_pretrain.main, "--config", tmp_path / "config.json", "--dry-run")
    assert list(tmp_path.iterdir()) == [tmp_path / "config.json"]
    if result.code:
        assert result.code in (1, 2) and result.out == "" and len(result.err.splitlines()) == 1
        assert result.err.startswith("error: ") and len(result.err) < 20_000
    else:
        assert "5 of 5 stages would run" in result.out and result.err == ""
