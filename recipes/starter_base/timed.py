"""Trains a part for a number of minutes: the project's own loop, whose number of steps follows from the pace."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from starter_base.speech import SEED, Speech
from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import hash_value
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.gpt_trainer import build_accelerator
from xtts_ka.training.parts_loop import Batch, Part, PartsLoop

EVERY = 20  # steps between plans
RECENT = 10  # plans whose pace counts: the first steps are slower, since kernels are chosen then


def own_accelerator(config: PretrainConfig) -> Accelerator:
    """A step's accelerator. Those of a process share a state, which would refuse another precision than the last's."""
    AcceleratorState._reset_state()
    return build_accelerator(config)


class TimedLoop(PartsLoop):
    """Ends after `minutes` of training, those before a kill included; the learning rate falls to its end by then."""

    def __init__(self, part: Part, config: PretrainConfig, run_id: str, minutes: float):
        super().__init__(part, config, run_id, own_accelerator(config))
        self.seconds, self._before = 60 * minutes, 0.0
        self._marks: deque[tuple[float, int]] = deque(maxlen=RECENT)  # (when, step), every EVERY steps

    def _resume(self, checkpoint: Checkpoint) -> None:
        super()._resume(checkpoint)
        state = checkpoint.state()
        self._before = self.seconds * state["step"] / state["total_steps"]

    def fit(self) -> Checkpoint:
        self._at, self._first = time.monotonic(), self.step
        return super().fit()

    def _train_step(self, batch: Batch) -> None:
        super()._train_step(batch)
        if (self.step - self._first) % EVERY == 0 and self.step < self.total:
            self._plan()

    def _plan(self) -> None:
        """Set the number of steps to what the time that is left allows."""
        now = time.monotonic()
        then, step = self._marks[0] if self._marks else (self._at, self._first)
        self._marks.append((now, self.step))
        left = self.seconds - self._before - (now - self._at)
        self.total = self.step + max(1, round(left * (self.step - step) / (now - then)))
        self.part.settings.max_steps = self.total


def train_timed(part: Part, work: Path, minutes: float, device: str, speech: Speech) -> Checkpoint:
    """Train `part` in `work` on this speech, or carry on; returns the checkpoint to export."""
    training = TrainingConfig(
        precision="float32",
        warmup_steps=200,
        final_learning_rate=0.01,
        log_interval=250,
        validation_interval=2000,
        checkpoint_minutes=2,
    )
    config = PretrainConfig(
        device=device,
        seed=SEED,
        training=training,
        checkpoint_interval=2000,
        checkpoint_dir=str(work / "checkpoints"),
        log_dir=str(work / "logs"),
    )
    run_id = hash_value([part.name, speech.digest, minutes])[:16]
    loop = TimedLoop(part, config, run_id, minutes)
    loop.start()
    chosen = loop.fit()
    say(f"{part.name:<11} {loop.step} steps")
    return chosen
