"""Trains a part for a number of minutes: the project's own loop, whose number of steps follows from the pace."""

from __future__ import annotations

import time
from pathlib import Path

from starter_base.speech import SEED, Speech
from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import hash_value
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.gpt_trainer import build_accelerator
from xtts_ka.training.parts_loop import Batch, Part, PartsLoop

FIRST = 10  # steps that are slower: memory is taken, kernels are chosen
EVERY = 20  # steps between plans


class TimedLoop(PartsLoop):
    """Ends after `minutes` of training, those before a kill included; the learning rate falls to its end by then."""

    def __init__(self, part: Part, config: PretrainConfig, run_id: str, minutes: float):
        super().__init__(part, config, run_id, build_accelerator(config))
        self.seconds, self._before = 60 * minutes, 0.0
        self._begun: tuple[float, int] | None = None  # when the steady steps began, and at which step

    def _resume(self, checkpoint: Checkpoint) -> None:
        super()._resume(checkpoint)
        state = checkpoint.state()
        self._before = self.seconds * state["step"] / state["total_steps"]

    def fit(self) -> Checkpoint:
        self._at, self._first = time.monotonic(), self.step
        return super().fit()

    def _train_step(self, batch: Batch) -> None:
        super()._train_step(batch)
        taken = self.step - self._first
        if taken == FIRST:
            self._begun = (time.monotonic(), self.step)
        elif taken % EVERY == 0 and self._begun and self.step < self.total:
            self._plan()

    def _plan(self) -> None:
        """Set the number of steps to what the time that is left allows."""
        assert self._begun
        now = time.monotonic()
        pace = (now - self._begun[0]) / (self.step - self._begun[1])
        left = self.seconds - self._before - (now - self._at)
        self.total = self.step + max(1, round(left / pace))
        self.part.settings.max_steps = self.total


def train_timed(part: Part, work: Path, minutes: float, device: str, speech: Speech) -> Checkpoint:
    """Train `part` in `work` on this speech, or carry on; returns the checkpoint to export."""
    training = TrainingConfig(
        precision="float32",
        warmup_steps=200,
        final_learning_rate=0.01,
        log_interval=20,
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
