"""The training loop of XTTS's parts beside the GPT: DVAE, decoder, speaker encoder.

What is special to a part stands in its `Part`: networks, optimizers, a batch, a step, a validation. The loop gives all
of them the same: progress, metrics, checkpoints, signals, precision, several processes. A batch and the random numbers
of a step are functions of (seed, step), so a resumed run gives the same weights as an uninterrupted one, bit for bit on
a CPU. With several processes each takes its share of the step's clips, and their gradients are averaged.

    checkpoints/<part>/step_XXXXXXXX/   model.safetensors (what is exported), other networks, optimizer.pt, state.json
    logs/<part>/metrics.jsonl           read by: checkpoint_monitor.py --part <part>
"""

from __future__ import annotations

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xtts_ka.core.config import PartConfig, PretrainConfig
from xtts_ka.core.console import progress, say, warn
from xtts_ka.core.errors import Interrupted, RunError, UserError
from xtts_ka.training.checkpoint_folders import part_folder
from xtts_ka.training.checkpoint_manager import REMEDY, Checkpoint, CheckpointManager
from xtts_ka.training.metrics_log import MetricsLog, unfinished_run
from xtts_ka.training.optimizer import Schedule
from xtts_ka.training.process_group import ALONE, Peers
from xtts_ka.training.stop_signals import StopSignals

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = dict[str, Tensor]


class Part(ABC):
    """One part's training.

    networks: file stem in a checkpoint → network; `model` is the one that is exported. optimizers: by the same stems.
    best_by_loss: whether the checkpoint with the lowest validation loss is the one to export; else the last is.
    clip_norm: gradient norm limit; None: that of the config.
    """

    name: ClassVar[str]
    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    settings: PartConfig
    best_by_loss = True
    clip_norm: float | None = None

    def begin(self, tools: Tools) -> None:  # noqa: B027 - most parts have nothing to do
        """Called once before step 0; not when training carries on from a checkpoint."""

    @abstractmethod
    def batch(self, step: int, rank: int, world: int) -> Batch:
        """This process's share of a step's batch, on the CPU; a function of its arguments and the seed."""

    @abstractmethod
    def train_step(self, batch: Batch, step: int, tools: Tools) -> dict[str, Tensor]:
        """Compute the step's gradients and let `tools` apply them; returns metrics, `loss` among them."""

    @abstractmethod
    def validate(self, tools: Tools) -> dict[str, float]:
        """Metrics over the validation clips, `loss` among them; the same clips and pieces every time."""


class Tools:
    """What a step needs of the machine: device, precision, and optimizer steps over all processes."""

    def __init__(self, accelerator: Accelerator, clip_norm: float):
        self.accelerator, self.clip_norm = accelerator, clip_norm
        self.device, self.autocast = accelerator.device, accelerator.autocast

    def step(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        """Backpropagate into `network`'s weights alone and update them; returns the gradient's norm.

        Where the norm is not finite, the weights stay as they are.
        """
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True)):
            weight.grad = gradient
        self._average(weights)
        norm = float(nn.utils.clip_grad_norm_(weights, self.clip_norm))
        if math.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _average(self, weights: list[nn.Parameter]) -> None:
        """Average the gradients over all processes, in one exchange."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(together)
        together /= self.accelerator.num_processes
        for gradient, mean in zip(gradients, together.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(mean.view_as(gradient))

    def on_device(self, batch: Mapping[str, Tensor]) -> Batch:
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}


def part_optimizer(network: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW as HiFi-GAN's (betas 0.8 and 0.99, decay 0.01)."""
    return torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.8, 0.99), weight_decay=0.01)


# ── what a step draws ────────────────────────────────────────────────────────────────────────────────────────────────


def drawn(clips: int, size: int, seed: int, step: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
    """(epoch, clip) of each of `size` clips of a process: every clip once an epoch, in an order of its own."""
    first = step * size * world
    places = range(first + rank, first + size * world, world)
    return [(place // clips, int(_order(clips, seed, place // clips)[place % clips])) for place in places]


@lru_cache(maxsize=4)
def _order(clips: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 3]).permutation(clips)


def crop_start(length: int, crop: int, seed: int, epoch: int, clip: int) -> int:
    """Where a random crop of a clip begins: the same for the same arguments."""
    return int(np.random.default_rng([seed, epoch, clip, 4]).integers(0, max(1, length - crop + 1)))


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class PartsLoop:
    """Trains `part` to `part.settings.max_steps`. run_id: digest of what a checkpoint must agree with."""

    def __init__(
        self, part: Part, config: PretrainConfig, run_id: str, accelerator: Accelerator, *, log: bool | None = None
    ):
        self.part, self.config, self.accelerator = part, config, accelerator
        self.total = part.settings.max_steps
        self.tools = Tools(accelerator, part.clip_norm or config.training.clip_norm)
        folder = part_folder(config.checkpoint_dir, part.name)
        self.checkpoints = CheckpointManager(folder, run_id, config.training.keep_checkpoints)
        self.log: MetricsLog | None = None
        self._logs = accelerator.is_main_process if log is None else log
        self.step, self.bad_in_a_row = 0, 0
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._signals = StopSignals()
        for network in part.networks.values():
            network.to(accelerator.device)

    def start(self) -> None:
        """Begin at step 0, or carry on from this run's last checkpoint; those of other runs are set aside."""
        if self.accelerator.is_main_process:
            self.checkpoints.set_aside_others()
        if last := self.checkpoints.last():
            self._resume(last)
        else:
            torch.manual_seed(self.config.seed)
            self.part.begin(self.tools)
        if self._logs:
            logs = part_folder(self.config.log_dir, self.part.name)
            self.log = MetricsLog(logs, fresh=last is None and unfinished_run(logs) != self.checkpoints.run_id)
            facts = {"total_steps": self.total, "resumed": last is not None, "run_id": self.checkpoints.run_id}
            self.log.event("start", step=self.step, **facts)

    def _resume(self, checkpoint: Checkpoint) -> None:
        for stem, network in self.part.networks.items():
            network.load_state_dict(checkpoint.weights(stem), strict=True)
        moments = checkpoint.optimizer()
        for stem, optimizer in self.part.optimizers.items():
            optimizer.load_state_dict(moments[stem])
            for group in optimizer.param_groups:
                group["betas"] = tuple(group["betas"])  # torch has made a list of it
        try:
            state = checkpoint.state()
            self.step, self.bad_in_a_row = int(state["step"]), int(state["bad_in_a_row"])
        except (KeyError, TypeError, ValueError) as error:
            said = f"checkpoint {checkpoint.folder} does not say where training stood ({error})"
            raise UserError(f"{said}: {REMEDY}") from None
        say(f"carrying on from step {self.step} ({checkpoint.folder})")

    def fit(self) -> Checkpoint:
        """Train to the end and return the checkpoint to export; a signal ends the step, saves, raises Interrupted."""
        training, saved = self.config.training, time.monotonic()
        every = min(self.config.checkpoint_interval or 500, max(1, math.ceil(self.total / 5)))
        begun, at = self.step, time.monotonic()
        facts = {"initial": self.step, "shown": self.accelerator.is_main_process}
        with self._signals.noted(), progress(total=self.total, what=self.part.name, unit="step", **facts) as bar:
            for batch in self._batches():
                self._train_step(batch)
                bar.update()
                due = self.step % every == 0 or self.step == self.total
                overdue = time.monotonic() - saved > 60 * training.checkpoint_minutes
                stop, overdue = self._any(self._signals.received > 0, overdue)
                if self.step % training.log_interval == 0:
                    self._report((time.monotonic() - at) / (self.step - begun))
                validated = due or self.step % (training.validation_interval or every) == 0
                val_loss = self.validate() if validated else None
                if due or stop or overdue:
                    self.save(val_loss)
                    saved = time.monotonic()
                if stop:
                    self._stop()
        self.checkpoints.close()
        if self.log:
            self.log.event("finish", step=self.step)
        return self.chosen()

    def chosen(self) -> Checkpoint:
        """The checkpoint to export."""
        best = self.checkpoints.best() if self.part.best_by_loss else None
        chosen = best or self.checkpoints.last()
        assert chosen, "training ends with a checkpoint"
        return chosen

    def _batches(self) -> Iterator[Batch]:
        """The batches of the steps that are left; a thread loads the next one during a step."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        with ThreadPoolExecutor(1, "batches") as thread:
            waiting = thread.submit(self.part.batch, self.step, rank, world)
            while self.step < self.total:
                batch = waiting.result()
                waiting = thread.submit(self.part.batch, self.step + 1, rank, world)
                yield batch

    def _train_step(self, batch: Batch) -> None:
        training = self.config.training
        schedule = Schedule.of(self.config, self.total)
        shape = schedule.rate(self.step) / schedule.peak  # of warm-up and cosine
        for optimizer in self.part.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.part.settings.learning_rate * shape
        for network in self.part.networks.values():
            network.train()
        rank = self.accelerator.process_index
        torch.manual_seed((self.config.seed * 1_000_003 + self.step) * 1009 + rank)
        metrics = self.part.train_step(self.tools.on_device(batch), self.step, self.tools)
        self.step += 1
        if math.isfinite(float(metrics["grad_norm"])):
            self.bad_in_a_row = 0
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, torch.zeros(())) + torch.as_tensor(value).detach().float().cpu()
            self._summed += 1
            return
        self.bad_in_a_row += 1
        if self.log:
            self.log.event("skip", step=self.step, grad_norm=str(float(metrics["grad_norm"])))
            warn(f"step {self.step}: the loss or gradient is not finite; the step is skipped")
        if self.bad_in_a_row >= training.max_bad_steps:
            remedy = f"lower {self.part.name}.learning_rate or set training.precision to float32"
            raise RunError(f"{self.bad_in_a_row} steps in a row were not finite: {remedy}, then run the same command")

    def _any(self, *facts: bool) -> list[bool]:
        """Which facts hold in any process: all must save and stop at the same step."""
        sums = torch.tensor(facts, dtype=torch.float32, device=self.accelerator.device)
        return [bool(value) for value in self.accelerator.reduce(sums, "sum").tolist()]

    def _report(self, pace: float) -> None:
        """Log the means since the last line, of this process. pace: seconds a step, all included."""
        if self.log and self._summed:
            means = {name: float(value) / self._summed for name, value in self._sums.items()}
            rate = next(iter(self.part.optimizers.values())).param_groups[0]["lr"]
            left = pace * (self.total - self.step)
            self.log.log(self.step, "train", {**means, "lr": rate}, self.total, seconds_left=left)
        self._sums, self._summed = {}, 0

    @torch.no_grad()
    def validate(self) -> float:
        """The validation loss, logged; every process computes the same."""
        for network in self.part.networks.values():
            network.eval()
        values = self.part.validate(self.tools)
        if self.log:
            self.log.log(self.step, "val", values, self.total)
        return values["loss"]

    def save(self, val_loss: float | None = None) -> None:
        if not self.accelerator.is_main_process:
            return
        weights = {stem: dict(network.state_dict()) for stem, network in self.part.networks.items()}
        moments = {stem: optimizer.state_dict() for stem, optimizer in self.part.optimizers.items()}
        state = {"step": self.step, "bad_in_a_row": self.bad_in_a_row, "total_steps": self.total}
        self.checkpoints.save(self.step, weights, moments, state, self.config.model_dump(), val_loss)

    def _stop(self) -> None:
        self.checkpoints.wait()
        if self.log:
            self.log.event("stop", step=self.step, signal=self._signals.received)
        say(f"\n{self.part.name} stopped at step {self.step}; its checkpoint is written")
        raise Interrupted(self._signals.received or signal.SIGTERM)


def train_part(
    part: Part, config: PretrainConfig, run_id: str, accelerator: Accelerator, peers: Peers = ALONE
) -> Checkpoint:
    """Train a part to its end, from its last checkpoint where there is one; returns the checkpoint to export."""
    loop = PartsLoop(part, config, run_id, accelerator)
    with peers.main_first(f"{part.name} checkpoints"):
        loop.start()
    if loop.step >= loop.total:
        say(f"nothing left to train: step {loop.step} of {loop.total} is reached; for more raise {part.name}.max_steps")
        return loop.chosen()
    return loop.fit()
