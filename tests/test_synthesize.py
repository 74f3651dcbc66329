import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_without_a_trained_model_it_says_what_to_do(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    result = subprocess.run(
        [
            sys.executable,
            str(ROOT / "synthesize.py"),
            "--config",
            str(tmp_path / "c.json"),
            "--text",
            "გამარჯობა",
            "--output",
            str(tmp_path / "a.wav"),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2 and "full_pretrain" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "a.wav").exists()
