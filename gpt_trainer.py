"""The training loop, on one screen: it is handed its data, its checkpoint manager and its log.

A step is the same whatever the number of processes: `accumulation` × processes batches, their losses divided by the
tokens of all of them. Data order, voice samples and dropout derive from (seed, epoch or step), so a resumed run does what
an uninterrupted one would have done, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from checkpoint_manager import Checkpoint, CheckpointManager
from console import Interrupted, RunError, progress, say, warn
from data_loader import DataManager
from gpt_step import CompactGPT
from metrics_log import MetricsLog
from pretrain_config import PretrainConfig


@dataclass
class Progress:
    """Where training stands: what a checkpoint's state.json holds."""

    step: int = 0  # optimizer steps done (skipped ones count)
    epoch: int = 0
    offset: int = 0  # batches of the epoch already used
    skipped: int = 0  # steps skipped because a loss or gradient was not finite
    bad_in_a_row: int = 0
    parts: int = 1  # pieces each batch is cut into, doubled when memory runs out


def build_accelerator(config: PretrainConfig):
    """accelerate's view of the device, precision and processes, as the config and the launcher say."""
    from accelerate import Accelerator

    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if config.device.startswith("cuda") and on_cpu:
        raise RunError(f"device is {config.device!r} but PyTorch sees no CUDA GPU: set device to cpu or auto, or check the driver")
    if config.device.startswith("cuda:"):
        torch.cuda.set_device(int(config.device.split(":")[1]))
    precision = {"auto": "no" if on_cpu else "bf16", "float32": "no", "bf16": "bf16"}[config.training.precision]
    return Accelerator(cpu=on_cpu, mixed_precision=precision)


def build_optimizer(model: torch.nn.Module, config: PretrainConfig) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices only (not on embeddings, biases and norms)."""
    tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in tables]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in tables]
    groups = [{"params": matrices, "weight_decay": config.training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.96), eps=1e-8, fused=True)


def learning_rate(step: int, total: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine from the peak to `final_learning_rate` of it (Loshchilov & Hutter 2017, eq. 5)."""
    training = config.training
    warmup = min(training.warmup_steps, total // 10)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, total - warmup)
    floor = training.final_learning_rate
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


class PretrainLoop:
    """Trains `model` on `data` up to `total_steps`, checkpointing through `checkpoints`."""

    def __init__(self, model: CompactGPT, data: DataManager, checkpoints: CheckpointManager, log: MetricsLog | None,
                 config: PretrainConfig, accelerator, total_steps: int):
        self.data, self.checkpoints, self.log, self.config = data, checkpoints, log, config
        self.accelerator, self.total = accelerator, total_steps
        optimizer = build_optimizer(model, config)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.progress = Progress()
        self.checkpoint_every = min(config.checkpoint_interval, max(1, math.ceil(total_steps / 5)))
        self._window = _Window()
        self._signal = 0

    # ── the loop ──

    def fit(self) -> None:
        """Train to the end; SIGINT and SIGTERM finish the step, checkpoint, and raise Interrupted."""
        last_saved = time.monotonic()
        steps = self._steps()
        with self._signals(), progress(total=self.total, initial=self.progress.step, what="training", unit="step",
                                       shown=self.accelerator.is_main_process) as bar:
            while self.progress.step < self.total:
                with self._window.waiting():
                    batches, planned = next(steps)
                try:
                    self._train_step(batches)
                except torch.OutOfMemoryError as error:
                    self._halve(error)
                    steps = self._steps()
                    continue
                self.progress.step += 1
                self.progress.offset += planned
                bar.update()
                due = self.progress.step % self.checkpoint_every == 0 or self.progress.step == self.total
                if self.progress.step % self.config.training.log_interval == 0:
                    self._report()
                val_loss = self.validate() if due or self.progress.step % self.config.training.validation_interval == 0 else None
                if due or self._stopping() or time.monotonic() - last_saved > 60 * self.config.training.checkpoint_minutes:
                    self.save(val_loss)
                    last_saved = time.monotonic()
                if self._stopping():
                    self._stop()
        self.checkpoints.wait()

    def _steps(self) -> Iterator[tuple[list[dict], int]]:
        """Endless steps from where `progress` stands: (this process's batches, batches the whole step uses up)."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        size = self.config.training.accumulation * world
        on_gpu = self.accelerator.device.type == "cuda"
        while True:
            plan = self.data.train_batches(self.progress.epoch)[self.progress.offset :]
            groups = [plan[at : at + size] for at in range(0, len(plan), size)]
            # Where memory ran out, batches are cut into pieces: the step's clips and loss stay the same.
            pieces = [[piece for batch in group for piece in _cut(batch, self.progress.parts)] for group in groups]
            # A last group too small for all ranks lends its first batch to the others, who weigh it with nothing.
            shares = [group[rank::world] or group[:1] for group in pieces]
            loader = self.data.loader(self.data.train, list(itertools.chain(*shares)), 2 if on_gpu else 0, on_gpu)
            for group, cut, share in zip(groups, pieces, shares):
                batches = list(itertools.islice(loader, len(share)))
                for batch in batches:
                    batch["weight"] = float(rank < len(cut))
                yield batches, len(group)
            self.progress.epoch += 1
            self.progress.offset = 0

    def _train_step(self, batches: list[dict]) -> None:
        """One optimizer step over this process's batches; a step whose loss or gradient is not finite is skipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.total, self.config)
        self.model.train()
        sums = self._backward(batches)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.training.clip_norm)
        norm = float(norm)
        if math.isfinite(norm) and bool(torch.isfinite(sums).all()):
            self.optimizer.step()
            self.progress.bad_in_a_row = 0
            self._window.add(sums, sum(b["seconds"] * b["weight"] for b in batches), norm)
        else:
            self._skip(norm)
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, batches: list[dict]) -> Tensor:
        """Accumulate gradients of the step's mean losses; returns [text nats, text tokens, audio nats, audio tokens]."""
        weights = self.config.training
        mine = torch.tensor([sum(len(b[f"{kind}_target"]) * b["weight"] for b in batches) for kind in ("text", "audio")],
                            device=self.accelerator.device)
        counts = self.accelerator.reduce(mine.clone(), "sum").clamp(min=1)
        world, sums = self.accelerator.num_processes, torch.zeros_like(mine)
        for number, batch in enumerate(batches):
            batch = {k: v.to(self.accelerator.device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
            rank_of_batch = number * world + self.accelerator.process_index
            torch.manual_seed((self.config.seed * 1_000_003 + self.progress.step) * 1009 + rank_of_batch)  # dropout
            more = number + 1 < len(batches)
            with self.accelerator.no_sync(self.model) if more else contextlib.nullcontext(), self.accelerator.autocast():
                text, audio = self.model(batch)
                loss = weights.text_loss_weight * text / counts[0] + weights.audio_loss_weight * audio / counts[1]
                self.accelerator.backward(loss * world * batch["weight"])
            sums += torch.stack([text, audio]).detach() * batch["weight"]
        return torch.stack([sums[0], mine[0], sums[1], mine[1]])

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Cut batches into twice as many pieces; the step is done again and its result stays what it would have been."""
        longest = max(len(batch) for batch in self.data.train_batches(self.progress.epoch))
        if self.accelerator.num_processes > 1 or self.progress.parts >= longest:
            raise RunError(f"the GPU's memory is too small for this step: lower batch_size (now {self.config.batch_size}), "
                           f"set training.gradient_checkpointing to true, then run the same command") from error
        self.progress.parts *= 2
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        warn(f"step {self.progress.step + 1}: out of GPU memory; batches are now cut into {self.progress.parts} pieces, their "
             f"gradients added up: the same training, a little slower")

    def _skip(self, norm: float) -> None:
        self.progress.skipped += 1
        if self.log:
            self.log.event("skip", step=self.progress.step + 1, grad_norm=str(norm))
        self.progress.bad_in_a_row += 1
        warn(f"step {self.progress.step + 1}: the loss or gradient is not finite (gradient norm {norm}); the step is skipped")
        if self.progress.bad_in_a_row >= self.config.training.max_bad_steps:
            raise RunError(f"{self.progress.bad_in_a_row} steps in a row were not finite: lower learning_rate (now "
                           f"{self.config.learning_rate}) or set training.precision to float32, then run the same command")

    # ── measuring, saving, resuming ──

    @torch.no_grad()
    def validate(self) -> float:
        """Mean weighted loss over the validation batches, each process doing its share."""
        self.model.eval()
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        sums = torch.zeros(4, dtype=torch.float64)
        for batch in self.data.loader(self.data.val, self.data.val_batches()[rank::world]):
            batch = {k: v.to(self.accelerator.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            with self.accelerator.autocast():
                text, audio = self.accelerator.unwrap_model(self.model)(batch)
            sums += torch.tensor([float(text), len(batch["text_target"]), float(audio), len(batch["audio_target"])])
        sums = self.accelerator.reduce(sums.to(self.accelerator.device, torch.float32), "sum").cpu()
        values = self._losses(sums)
        if self.log:
            self.log.log(self.progress.step, "val", values, self.total)
        return values["loss"]

    def _losses(self, sums: Tensor) -> dict[str, float]:
        text, audio = float(sums[0] / sums[1].clamp(min=1)), float(sums[2] / sums[3].clamp(min=1))
        weights = self.config.training
        return {"loss": weights.text_loss_weight * text + weights.audio_loss_weight * audio, "loss_text": text, "loss_mel": audio}

    def _report(self) -> None:
        """Log the window's means over all processes."""
        window, self._window = self._window, _Window()
        sums = self.accelerator.reduce(torch.cat([window.sums, torch.tensor([window.audio_seconds])]).to(
            self.accelerator.device, torch.float32), "sum").cpu()
        if self.log and sums[1] > 0:
            self.log.log(self.progress.step, "train", {
                **self._losses(sums), "lr": learning_rate(self.progress.step - 1, self.total, self.config),
                "grad_norm": window.norms / max(1, window.steps), "audio_s_per_s": float(sums[4]) / window.elapsed(),
                "data_wait_s": window.wait}, self.total)

    def save(self, val_loss: float | None = None) -> None:
        """Checkpoint this step (the main process writes)."""
        weights = {"model": self.accelerator.unwrap_model(self.model).gpt.state_dict()}
        if self.accelerator.is_main_process:
            state = {**vars(self.progress), "seed": self.config.seed, "total_steps": self.total,
                     "learning_rate": learning_rate(self.progress.step, self.total, self.config)}
            self.checkpoints.save(self.progress.step, weights, self.optimizer.state_dict(), state, self.config.as_dict(), val_loss)

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Begin at step 0, or carry on from a checkpoint."""
        if checkpoint:
            self._resume(checkpoint)
        if self.log:
            self.log.event("start", step=self.progress.step, total_steps=self.total, resumed=checkpoint is not None,
                           run_id=self.checkpoints.run_id)

    def _resume(self, checkpoint: Checkpoint) -> None:
        self.accelerator.unwrap_model(self.model).gpt.load_state_dict(checkpoint.weights())
        self.optimizer.load_state_dict(checkpoint.optimizer())
        state = checkpoint.state()
        self.progress = Progress(**{name: state[name] for name in vars(Progress())})
        say(f"carrying on from step {self.progress.step} ({checkpoint.folder})")

    # ── signals ──

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM are noted and obeyed at the end of the step; a second one has its usual effect."""
        def note(number, frame):
            self._signal = number
            signal.signal(number, before[number])

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stopping(self) -> bool:
        """Whether any process was told to stop (all must leave the loop at the same step)."""
        if self.accelerator.num_processes == 1:
            return bool(self._signal)
        return bool(self.accelerator.reduce(torch.tensor(float(self._signal > 0), device=self.accelerator.device), "sum") > 0)

    def _stop(self) -> None:
        self.checkpoints.wait()
        if self.log:
            self.log.event("stop", step=self.progress.step, signal=self._signal)
        say(f"\nstopped at step {self.progress.step}; its checkpoint is written")
        raise Interrupted(self._signal or signal.SIGTERM)


def _cut(batch: list, parts: int) -> list[list]:
    """A batch's clips in at most `parts` pieces of nearly equal size."""
    return [batch[part::parts] for part in range(min(parts, len(batch)))]


class _Window:
    """Sums since the last metric line."""

    def __init__(self):
        self.sums, self.audio_seconds, self.norms, self.steps, self.wait = torch.zeros(4), 0.0, 0.0, 0, 0.0
        self._start = time.monotonic()

    def add(self, sums: Tensor, audio_seconds: float, norm: float) -> None:
        self.sums += sums.float().cpu()
        self.audio_seconds += audio_seconds
        self.norms += norm
        self.steps += 1

    def elapsed(self) -> float:
        return max(1e-9, time.monotonic() - self._start)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.wait += time.monotonic() - start
