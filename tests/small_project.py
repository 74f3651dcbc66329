"""A small project with recordings made by the tests, run to its end once per test session."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from pipeline_run import Forked

import checkpoint_monitor
import run_pretrain

SETTINGS = {
    "device": "cpu",
    "batch_size": 4,
    "max_steps": 6,
    "checkpoint_interval": 2,
    "learning_rate": 1e-3,
    "text": {"new_tokens": 60},
    "phonemes": {"max_epochs": 1, "dim": 32},
    "language_model": {"max_epochs": 1, "dim": 32, "layers": 1},
    "training": {"log_interval": 1, "validation_interval": 3, "conditioning_seconds": [0.5, 1.0]},
}


def write_config(folder: Path, **changes) -> Path:
    """Writes the project's settings with `changes`; a section's changes are merged into the section."""
    merged = SETTINGS | {
        key: SETTINGS[key] | value if isinstance(value, dict) and key in SETTINGS else value
        for key, value in changes.items()
    }
    path = folder / "config.json"
    path.write_text(json.dumps(merged), "utf-8")
    return path


@dataclass
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def here(main, *flags: object) -> Outcome:
    """Runs a script's `main` in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(flag) for flag in flags])
    return Outcome(code, out.getvalue(), err.getvalue())


@dataclass
class Project:
    """folder: holds wavs/ data/ models/ checkpoints/ logs/ and config.json. pid and out: of the process that ran it.

    second, listing, monitor: a second run, --dry-run and the monitor, started while the first run was at work.
    """

    folder: Path
    pid: int
    out: str
    second: Outcome
    listing: Outcome
    monitor: Outcome

    def copy(self, folder: Path) -> Path:
        """Copies the project to `folder`; models and checkpoints, which are never written in place, as hard links."""
        for name, how in (
            ("wavs", shutil.copy2),
            ("data", shutil.copy2),
            ("logs", shutil.copy2),
            ("models", os.link),
            ("checkpoints", os.link),
        ):
            shutil.copytree(self.folder / name, folder / name, copy_function=how)
        write_config(folder)
        return folder


def make(folder: Path) -> Project:
    """Makes the inputs and runs the pipeline on them."""
    import tiny

    from xtts_ka.starter import stand_ins

    recordings = tiny.write_recordings(folder / "wavs")
    tiny.write_data(folder / "data", recordings)
    base = tiny.write_base_model(folder / "models/base_xtts_v2")
    (base / stand_ins.MARK).unlink()  # else the starter's number of steps would replace the config's
    config = write_config(folder)
    running = Forked(config)
    try:
        seen = ""
        while "voices are computed from the recordings" not in seen:  # printed when the embeddings stage begins
            line = running.stdout.readline()
            assert line, seen
            seen += line
        running.send_signal(signal.SIGSTOP)  # it holds the lock while the others run
        second = here(run_pretrain.main, "--config", config)
        listing = here(run_pretrain.main, "--config", config, "--dry-run")
        monitor = here(checkpoint_monitor.main, "--config", config, "--json")
    finally:
        running.send_signal(signal.SIGCONT)
    out = seen + running.stdout.read()
    assert running.wait() == 0, out
    return Project(folder, running.pid, out, second, listing, monitor)
