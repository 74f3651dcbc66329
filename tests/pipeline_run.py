"""Runs of the pipeline on the smallest starter, in processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODEL_FILES = (
    "g2p_model.pt g2p_config.json phoneme_dict_ka.json phoneme_vocab.pkl language_model_results.pkl "
    "phoneme_model_results.pkl xtts_init_results.pkl xtts_v2_ka_combined.pkl xtts_v2_ka_config.json "
    "pretrain_progress.json model.pth config.json vocab.json dvae.pth mel_stats.pth speakers_xtts.pth README.md"
).split()


def write_config(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "device": "cpu",
        "batch_size": 4,
        "starter": {
            "enabled": True,
            "base": "untrained",
            "clips": 30,
            "layers": 1,
            "model_dim": 64,
            "heads": 1,
            "max_steps": 20,
            "learning_rate": 1e-3,
            "sentences": str(ROOT / "data/starter_sentences_ka.txt"),
        },
        "text": {"new_tokens": 100},
        "phonemes": {"max_epochs": 2},
        "language_model": {"max_epochs": 2, "dim": 32},
        "training": {"log_interval": 2, "validation_interval": 3},
        **changes,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config), "utf-8")
    return path


def command(config: Path, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "run_pretrain.py"), "--config", str(config), *flags]


def run(config: Path, *flags: str, timeout: float = 600) -> subprocess.CompletedProcess:
    return subprocess.run(command(config, *flags), capture_output=True, text=True, timeout=timeout, cwd=config.parent)


def run_here(config: Path, *flags: str) -> subprocess.CompletedProcess:
    """The same in this process, which saves 7 s of imports; for what no signal ends."""
    import run_pretrain

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run_pretrain.main(["--config", str(config), *flags])
    return subprocess.CompletedProcess(flags, code, out.getvalue(), err.getvalue())


def statuses(config: Path) -> dict[str, str]:
    record = config.parent / "models/xtts_v2_ka/pretrain_progress.json"
    stages = json.loads(record.read_text("utf-8"))["stages"] if record.exists() else {}
    return {name: stage["status"] for name, stage in stages.items()}


class Stop(NamedTuple):
    """A run that a signal ended: its exit code, its output, the stages' statuses and whether a lock was left."""

    at: str
    code: int
    said: str
    statuses: dict[str, str]
    locked: bool


class Forked:
    """The pipeline in a fork of this process, which saves 7 s of imports; what it prints is read from `stdout`."""

    def __init__(self, config: Path):
        import run_pretrain

        reading, writing = os.pipe()

        def child() -> None:
            sys.stdout = sys.stderr = os.fdopen(writing, "w", buffering=1)
            os.chdir(config.parent)
            os._exit(run_pretrain.main(["--config", str(config)]))

        self._process = multiprocessing.get_context("fork").Process(target=child)
        self._process.start()
        self.pid = self._process.pid
        os.close(writing)
        self.stdout = os.fdopen(reading)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode


def typed(config: Path) -> subprocess.Popen:
    """The command as a user types it."""
    return subprocess.Popen(
        command(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=config.parent
    )


def stop(config: Path, at: str, number: signal.Signals, delay: float = 0.3, start=Forked) -> Stop:
    """Runs the pipeline until it prints `at`, and sends the signal `delay` seconds later."""
    process = start(config)
    said = ""
    for line in process.stdout:
        said += line
        if at in line:
            time.sleep(delay)
            process.send_signal(number)
            break
    said += process.stdout.read()
    process.stdout.close()
    return Stop(
        at, process.wait(), said, statuses(config), (config.parent / "models/xtts_v2_ka/pretrain.lock.json").exists()
    )
