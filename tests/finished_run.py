"""A finished run of the real pipeline on the smallest starter, killed on the way: made once a session (conftest's `finished`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL_FILES = ("g2p_model.pt g2p_config.json phoneme_dict_ka.json phoneme_vocab.pkl language_model_results.pkl "
               "phoneme_model_results.pkl xtts_init_results.pkl xtts_v2_ka_combined.pkl xtts_v2_ka_config.json "
               "pretrain_progress.json model.pth config.json vocab.json dvae.pth mel_stats.pth speakers_xtts.pth").split()


def write_config(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "device": "cpu", "batch_size": 4,
        "starter": {"enabled": True, "clips": 60, "layers": 1, "model_dim": 64, "heads": 1, "max_steps": 12,
                    "sentences": str(ROOT / "data/starter_sentences_ka.txt")},
        "text": {"new_tokens": 100}, "phonemes": {"max_epochs": 2}, "language_model": {"max_epochs": 2, "dim": 32},
        "training": {"log_interval": 2, "validation_interval": 6}, **changes}
    path = folder / "config.json"
    path.write_text(json.dumps(config), "utf-8")
    return path


def command(config: Path, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "run_pretrain.py"), "--config", str(config), *flags]


def run(config: Path, *flags: str, timeout: float = 600) -> subprocess.CompletedProcess:
    return subprocess.run(command(config, *flags), capture_output=True, text=True, timeout=timeout)


def statuses(config: Path) -> dict[str, str]:
    progress = json.loads((config.parent / "models/xtts_v2_ka/pretrain_progress.json").read_text("utf-8"))
    return {name: stage["status"] for name, stage in progress["stages"].items()}


def finish(folder: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """Run the pipeline to the end, killing it in two stages; returns its config and the last run's output."""
    config = write_config(folder)
    for sign in ("── phonemes:", "step      4/12"):
        with subprocess.Popen(command(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert any(sign in line for line in process.stdout)
            process.kill()
    assert statuses(config)["full_pretrain"] == "running"
    result = run(config)
    assert result.returncode == 0, result.stdout + result.stderr
    return config, result
