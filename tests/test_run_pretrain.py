"""Every script answers --help at once, without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

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
