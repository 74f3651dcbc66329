"""What the tests of the parts' trainers share: a config in a folder, and a run that is stopped on its way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.errors import Interrupted
from xtts_ka.training.gpt_trainer import build_accelerator
from xtts_ka.training.parts_loop import Part, PartsLoop


def part_config(folder: Path, **changes) -> PretrainConfig:
    training = TrainingConfig(log_interval=1, validation_interval=4, warmup_steps=1)
    folders = {"checkpoint_dir": str(folder / "checkpoints"), "log_dir": str(folder / "logs")}
    return PretrainConfig(device="cpu", training=training, checkpoint_interval=4, **folders, **changes)


def run(part: Part, config: PretrainConfig, stop_at: int | None = None) -> PartsLoop:
    """Train the part, or stop it by SIGTERM during step `stop_at`."""
    torch.set_num_threads(1)
    loop = PartsLoop(part, config, "run", build_accelerator(config))
    loop.start()
    if stop_at is None:
        loop.fit()
        return loop
    step = part.train_step

    def stopping(batch, number, tools):
        if number + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(batch, number, tools)

    part.train_step = stopping
    with pytest.raises(Interrupted):
        loop.fit()
    return loop


def saved(loop: PartsLoop, step: int) -> dict[str, bytes]:
    """What a checkpoint holds, file by file; its config names its folder, and its manifest the time."""
    folder = loop.checkpoints.folder / f"step_{step:08d}"
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name not in ("manifest.json", "config.json")}
