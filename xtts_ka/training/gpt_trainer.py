"""The training loop, on one screen: it is handed its data, its checkpoint manager and its log.

A step is the same whatever the number of processes: `accumulation` × processes batches, their losses divided by the
tokens of all of them. Data order, voice samples and dropout derive from (seed, epoch or step), so a resumed run does what
an uninterrupted one would have done, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from data_loader import DataManager
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import progress, say, warn
from xtts_ka.core.errors import Interrupted, RunError, UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.checkpoint_manager import REMEDY, Checkpoint, CheckpointManager
from xtts_ka.training.memory_estimate import estimate_memory
from xtts_ka.training.metrics_log import MetricsLog
from xtts_ka.training.optimizer import RunningAverage, build_optimizer, learning_rate


@dataclass
class Progress:
    """Where training stands: what a checkpoint's state.json holds."""

    step: int = 0  # optimizer steps done (skipped ones count)
    epoch: int = 0
    offset: int = 0  # batches of the epoch already used
    skipped: int = 0  # steps skipped because a loss or gradient was not finite
    bad_in_a_row: int = 0
    parts: int = 1  # pieces each batch is cut into, doubled when memory runs out
    budget: int = 0  # positions a batch, by which the epoch's batches were planned


def build_accelerator(config: PretrainConfig):
    """accelerate's view of the device, precision and processes, as the config and the launcher say."""
    from accelerate import Accelerator

    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if config.device.startswith("cuda") and on_cpu:
        raise RunError(
            f"device is {config.device!r} but PyTorch sees no CUDA GPU: set device to cpu or auto, or check the driver"
        )
    if config.device.startswith("cuda:"):
        torch.cuda.set_device(int(config.device.split(":")[1]))
    precision = {"auto": "no" if on_cpu else "bf16", "float32": "no", "bf16": "bf16"}[config.training.precision]
    return Accelerator(cpu=on_cpu, mixed_precision=precision)


class PretrainLoop:
    """Trains `model` on `data` up to `total_steps`, checkpointing through `checkpoints`."""

    def __init__(
        self,
        model: CompactGPT,
        data: DataManager,
        checkpoints: CheckpointManager,
        log: MetricsLog | None,
        config: PretrainConfig,
        accelerator,
        total_steps: int,
    ):
        self.data, self.checkpoints, self.log, self.config = data, checkpoints, log, config
        self.accelerator, self.total = accelerator, total_steps
        self.sharded = config.training.sharding and accelerator.num_processes > 1
        if config.training.compile:
            model.compile_blocks()
        self.bare = model
        self.model = _sharded(model, accelerator.device) if self.sharded else accelerator.prepare(model)
        self.optimizer = build_optimizer(model, config)
        self.average = RunningAverage(model, config.training.ema_decay) if config.training.ema_decay else None
        self.progress = Progress(budget=data.budget)
        self.checkpoint_every = min(config.checkpoint_interval, max(1, math.ceil(total_steps / 5)))
        self._window = _Window()
        self._signal = 0

    # ── the loop ──

    def fit(self) -> None:
        """Train to the end; SIGINT and SIGTERM finish the step, checkpoint, and raise Interrupted."""
        training, last_saved = self.config.training, time.monotonic()
        steps = self._steps()
        with (
            self._signals(),
            progress(
                total=self.total,
                initial=self.progress.step,
                what="training",
                unit="step",
                shown=self.accelerator.is_main_process,
            ) as bar,
        ):
            while self.progress.step < self.total:
                with self._window.waiting():
                    batches, planned = next(steps)
                try:
                    self._train_step(batches)
                except torch.OutOfMemoryError as error:
                    self._cut_smaller(batches, error)
                    steps = self._steps()
                    continue
                self.progress.step += 1
                self.progress.offset += planned
                bar.update()
                step = self.progress.step
                due = step % self.checkpoint_every == 0 or step == self.total
                stop, overdue = self._agree(
                    self._signal > 0, time.monotonic() - last_saved > 60 * training.checkpoint_minutes
                )
                if step % training.log_interval == 0:
                    self._report()
                val_loss = self.validate() if due or step % training.validation_interval == 0 else None
                if due or stop or overdue:
                    self.save(val_loss)
                    last_saved = time.monotonic()
                if stop:
                    self._stop()
        self.checkpoints.close()

    def _steps(self) -> Iterator[tuple[list[dict], int]]:
        """Endless steps from where `progress` stands: (this process's batches, batches the whole step uses up)."""
        on_gpu = self.accelerator.device.type == "cuda"
        steps, ahead = itertools.tee(self._planned_steps())
        draws = (batch for _, mine, _, _ in ahead for batch in mine)
        loader = self.data.loader(self.data.train, draws, 2 if on_gpu else 0, on_gpu)
        for epoch, mine, weights, planned in steps:
            batches = list(itertools.islice(loader, len(mine)))
            for batch, weight in zip(batches, weights, strict=True):
                batch["weight"] = weight
            if epoch > self.progress.epoch:
                self.progress.epoch, self.progress.offset = epoch, 0
            yield batches, planned

    def _planned_steps(self) -> Iterator[tuple[int, list, list[float], int]]:
        """Every step's epoch and what `_shares` says of it, epoch after epoch."""
        offset = self.progress.offset
        for epoch in itertools.count(self.progress.epoch):
            for step in self._shares(self.data.train_batches(epoch)[offset:]):
                yield epoch, *step
            offset = 0

    def _shares(self, plan) -> Iterator[tuple[list, list[float], int]]:
        """For each step of an epoch's plan: this process's batches, their weights, and the batches of all processes.

        Where memory ran out, batches are cut into pieces: the step's clips and loss stay the same. Every process gets
        as many pieces as the others, or their collectives would not meet: where one is missing, the step's first stands
        in with no weight.
        """
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        size = self.config.training.accumulation * world
        for at in range(0, len(plan), size):
            group = plan[at : at + size]
            pieces = [piece for batch in group for piece in _cut(batch, self.progress.parts)]
            mine = [
                (pieces[i], 1.0) if i < len(pieces) else (pieces[0], 0.0)
                for i in range(rank, world * -(-len(pieces) // world), world)
            ]
            yield [piece for piece, _ in mine], [weight for _, weight in mine], len(group)

    def _train_step(self, batches: list[dict]) -> None:
        """One optimizer step over this process's batches; a step whose gradient is not finite is skipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.total, self.config)
        self.model.train()
        sums = self._backward(batches)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.clip_norm)
        norm = float(norm.full_tensor() if self.sharded else norm)  # of all processes: they skip together
        if math.isfinite(norm):
            self.optimizer.step()
            if self.average:
                self.average.update(self.progress.step)
            self.progress.bad_in_a_row = 0
            self._window.add(sums, sum(b["seconds"] * b["weight"] for b in batches), norm)
        else:
            self._skip(norm)
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, batches: list[dict]) -> Tensor:
        """Accumulate gradients of the step's mean losses; returns [text nats, text tokens, audio nats, audio tokens]."""
        weights = self.config.training
        mine = torch.tensor(
            [sum(len(b[f"{kind}_target"]) * b["weight"] for b in batches) for kind in ("text", "audio")],
            device=self.accelerator.device,
        )
        counts = self.accelerator.reduce(mine.clone(), "sum").clamp(min=1)
        world, sums = self.accelerator.num_processes, torch.zeros_like(mine)
        for number, batch in enumerate(batches):
            batch = self._to_device(batch)
            rank_of_batch = number * world + self.accelerator.process_index
            torch.manual_seed((self.config.seed * 1_000_003 + self.progress.step) * 1009 + rank_of_batch)  # dropout
            more = number + 1 < len(batches)
            with (
                self.accelerator.no_sync(self.model) if more else contextlib.nullcontext(),
                self.accelerator.autocast(),
            ):
                text, audio = self.model(batch)
                loss = weights.text_loss_weight * text / counts[0] + weights.audio_loss_weight * audio / counts[1]
                self.accelerator.backward(loss * world * batch["weight"])
            sums += torch.stack([text, audio]).detach() * batch["weight"]
        return torch.stack([sums[0], mine[0], sums[1], mine[1]])

    def _to_device(self, batch: dict) -> dict:
        return {
            k: v.to(self.accelerator.device, non_blocking=True) if isinstance(v, Tensor) else v
            for k, v in batch.items()
        }

    def _agree(self, *flags: bool) -> list[bool]:
        """Each flag as any process has it: all must save and leave at the same step."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.float32, device=self.accelerator.device)
        return (self.accelerator.reduce(raised, "sum") > 0).tolist()

    # ── when a step fails ──

    def _cut_smaller(self, batches: list[dict], error: torch.OutOfMemoryError) -> None:
        """Cut batches into twice as many pieces from now on: half the budget, twice the accumulation, the same training.

        Several processes cannot go on together after one of them failed inside a collective; they find the number of
        pieces on record when they start again.
        """
        advice = (
            f"lower batch_size (now {self.config.batch_size}) or set training.gradient_checkpointing to true, then run "
            f"the same command"
        )
        if max(batch["shape"][0] for batch in batches) == 1:
            raise RunError(
                f"step {self.progress.step + 1}: the GPU's memory is too small for a single clip of this length: "
                f"set training.gradient_checkpointing to true, then run the same command"
            ) from error
        self.progress.parts *= 2
        write_json(self._record, {"parts": self.progress.parts, "budget": self.data.budget})
        cut = f"step {self.progress.step + 1}: out of GPU memory; batches are now cut into {self.progress.parts} pieces"
        if self.accelerator.num_processes > 1:
            raise RunError(f"{cut}: run the same command to carry on so, or {advice}") from error
        warn(f"{cut}, their gradients added up: the same training, a little slower; to be faster, {advice}")
        if self.log:
            self.log.event("oom", step=self.progress.step + 1, parts=self.progress.parts)
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()

    @property
    def _record(self):
        """Where the number of pieces stands for this budget, until the next checkpoint holds it."""
        return self.checkpoints.folder / "memory.json"

    def _skip(self, norm: float) -> None:
        self.progress.skipped += 1
        self.progress.bad_in_a_row += 1
        if self.log:
            self.log.event("skip", step=self.progress.step + 1, grad_norm=str(norm))
            warn(
                f"step {self.progress.step + 1}: the loss or gradient is not finite (gradient norm {norm}); the step is skipped"
            )
        if self.progress.bad_in_a_row >= self.config.training.max_bad_steps:
            raise RunError(
                f"{self.progress.bad_in_a_row} steps in a row were not finite: lower learning_rate (now "
                f"{self.config.learning_rate}) or set training.precision to float32, then run the same command"
            )

    # ── measuring ──

    @torch.no_grad()
    def validate(self) -> float:
        """Mean weighted loss over the validation batches, each process doing its share; of the averaged weights, if any."""
        self.model.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        for batch, weight in self._val_share():
            batch = self._to_device(batch)
            with self.accelerator.autocast():
                text, audio = torch.func.functional_call(
                    self.bare, self.average.weights if self.average else {}, (batch,)
                )
            sums += weight * torch.tensor(
                [float(text), len(batch["text_target"]), float(audio), len(batch["audio_target"])]
            )
        sums = self.accelerator.reduce(sums.to(self.accelerator.device, torch.float32), "sum").cpu()
        values = self._losses(sums)
        if self.log:
            self.log.log(self.progress.step, "val", values, self.total)
        return values["loss"]

    def _val_share(self) -> Iterator[tuple[dict, float]]:
        """This process's validation batches, evened out like `_shares`."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        batches = self.data.val_batches()
        places = range(rank, world * -(-len(batches) // world), world)
        loader = self.data.loader(self.data.val, [batches[i if i < len(batches) else 0] for i in places])
        return zip(loader, (float(i < len(batches)) for i in places))

    def _losses(self, sums: Tensor) -> dict[str, float]:
        text, audio = float(sums[0] / sums[1].clamp(min=1)), float(sums[2] / sums[3].clamp(min=1))
        weights = self.config.training
        return {
            "loss": weights.text_loss_weight * text + weights.audio_loss_weight * audio,
            "loss_text": text,
            "loss_mel": audio,
        }

    def _report(self) -> None:
        """Log the window's means over all processes."""
        window, self._window = self._window, _Window()
        sums = self._over_all(window)
        if self.log and sums[1] > 0:
            self.log.log(
                self.progress.step,
                "train",
                {
                    **self._losses(sums),
                    "lr": learning_rate(self.progress.step - 1, self.total, self.config),
                    "grad_norm": window.norms / max(1, window.steps),
                    "audio_s_per_s": float(sums[4]) / window.elapsed(),
                    "data_wait_s": window.wait,
                },
                self.total,
            )

    def _over_all(self, window: _Window) -> Tensor:
        """A window's sums and seconds of audio over all processes, on the CPU."""
        mine = torch.cat([window.sums.cpu(), torch.tensor([window.audio_seconds])])
        return self.accelerator.reduce(mine.to(self.accelerator.device, torch.float32), "sum").cpu()

    # ── saving and carrying on ──

    def save(self, val_loss: float | None = None) -> None:
        """Checkpoint this step: all processes gather what is split among them, the main one writes."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=self.sharded)
        weights, optimizer = get_state_dict(self.bare, self.optimizer, options=options)
        window = {
            "sums": self._over_all(self._window)[:4].tolist(),
            "norms": self._window.norms,
            "steps": self._window.steps,
        }
        if not self.accelerator.is_main_process:
            return
        files = {"model": _without_prefix(weights)} | (
            {"ema": _without_prefix(self.average.weights)} if self.average else {}
        )
        state = {
            **vars(self.progress),
            "window": window,
            "seed": self.config.seed,
            "total_steps": self.total,
            "learning_rate": learning_rate(self.progress.step, self.total, self.config),
        }
        self.checkpoints.save(self.progress.step, files, optimizer, state, self.config.as_dict(), val_loss)

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Begin at step 0, or carry on from a checkpoint."""
        if checkpoint:
            self._resume(checkpoint)
        if self._record.is_file():
            record = read_json(self._record, "record of the GPU's memory", "delete it and run again")
            if record.get("budget") == self.data.budget:
                self.progress.parts = max(self.progress.parts, int(record["parts"]))
        if self.log:
            shape, bf16 = self.data.typical_batch(), self.accelerator.mixed_precision == "bf16"
            shards = self.accelerator.num_processes if self.sharded else 1
            memory = estimate_memory(self.bare, shape, bf16=bf16, average=bool(self.average), shards=shards)
            say(f"memory      {memory}")
            self.log.event(
                "start",
                step=self.progress.step,
                total_steps=self.total,
                resumed=checkpoint is not None,
                run_id=self.checkpoints.run_id,
            )

    def _resume(self, checkpoint: Checkpoint) -> None:
        set_state_dict(
            self.bare,
            self.optimizer,
            model_state_dict=_with_prefix(checkpoint.weights()),
            optim_state_dict=checkpoint.optimizer(),
            options=StateDictOptions(full_state_dict=True),
        )
        for group in self.optimizer.param_groups:
            group["betas"] = tuple(
                group["betas"]
            )  # torch has made a list of it, and the next checkpoint's bytes would tell
        if self.average:
            self.average.load(_with_prefix(checkpoint.weights("ema" if checkpoint.has("ema") else "model")))
        state = checkpoint.state()
        try:
            self.progress = Progress(**{name: operator.index(state[name]) for name in vars(Progress())})
            if self.accelerator.is_main_process:  # it holds what all had
                self._window = _Window(**state["window"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {checkpoint.folder} does not say where training stood ({error}): {REMEDY}"
            ) from None
        say(f"carrying on from step {self.progress.step} ({checkpoint.folder})")
        if self.progress.budget != self.data.budget:  # batch_size changed: `offset` counts batches of another plan
            self.progress = replace(
                self.progress, budget=self.data.budget, epoch=self.progress.epoch + 1, offset=0, parts=1
            )
            say("batch_size has changed: training goes on with the next epoch, planned anew")

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

    def _stop(self) -> None:
        self.checkpoints.wait()
        if self.log:
            self.log.event("stop", step=self.progress.step, signal=self._signal)
        say(f"\nstopped at step {self.progress.step}; its checkpoint is written")
        raise Interrupted(self._signal or signal.SIGTERM)


def _sharded(model: CompactGPT, device: torch.device) -> torch.nn.Module:
    """Weights, gradients and moments split among all processes (FSDP2; Zhao et al. 2023), gathered for each step as one.

    One unit, because the step reaches into the blocks without calling them as modules.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model.to(device), mesh=init_device_mesh(device.type, (torch.distributed.get_world_size(),)))


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in coqui's GPT."""
    return {name.removeprefix("gpt."): tensor for name, tensor in weights.items()}


def _with_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in `CompactGPT`."""
    return {f"gpt.{name}": tensor for name, tensor in weights.items()}


def _cut(batch: list, parts: int) -> list[list]:
    """A batch's clips in at most `parts` pieces of nearly equal size."""
    return [batch[part::parts] for part in range(min(parts, len(batch)))]


class _Window:
    """Sums since the last metric line. A checkpoint between two lines holds the losses; the pace is measured anew."""

    def __init__(self, sums: Sequence[float] = (0, 0, 0, 0), norms: float = 0.0, steps: int = 0):
        self.sums, self.norms, self.steps = torch.tensor(sums, dtype=torch.float32), norms, steps
        self.audio_seconds, self.wait, self._start = 0.0, 0.0, time.monotonic()

    def add(self, sums: Tensor, audio_seconds: float, norm: float) -> None:
        self.sums = self.sums.to(sums.device) + sums.float()  # stays on the GPU, which so need not be waited for
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
