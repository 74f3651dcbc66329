"""The training loop of the GPT.

A step's clips are planned whatever the memory and the number of processes. It adds up the gradients of as many
micro-batches as the memory asks for, their losses divided by the number of tokens in all of them. The order of the
data, the voice samples and dropout derive from (seed, epoch or step), so a resumed run does what an uninterrupted one
would have done, bit for bit on a CPU.

1 set-up · 2 the loop · 3 a step's batches · 4 one step · 5 when a step fails · 6 measuring · 7 checkpoints · 8 stopping
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import duration, progress, say, warn
from xtts_ka.core.errors import Interrupted, RunError, UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.batch_plan import PLAN_VERSION, Batch
from xtts_ka.training.checkpoint_manager import REMEDY, Checkpoint, CheckpointManager
from xtts_ka.training.measuring import summed_losses
from xtts_ka.training.metrics_log import MetricsLog
from xtts_ka.training.optimizer import NewRows, RunningAverage, Schedule, build_optimizer
from xtts_ka.training.sampling import Sampler, present_weights
from xtts_ka.training.step_room import choose_room, describe
from xtts_ka.training.stop_signals import StopSignals

if TYPE_CHECKING:
    from accelerate import Accelerator

# The released GPT has 439 M parameters. On two CPU cores a step of two clips of 3 s takes 17 s (docs/experiments.md,
# «The real geometry on a small machine»).
FULL_SIZE = 100_000_000
CPU_PACE = 17 / 6  # seconds of work for a second of audio
PACE_STEPS = (3, 13)  # the pace is measured between these steps of a process; the first ones are slower

# ── 1. set-up ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Progress:
    """Where training stands: what a checkpoint's state.json holds."""

    step: int = 0  # optimizer steps done, skipped ones included
    epoch: int = 0
    offset: int = 0  # steps of the epoch already done
    skipped: int = 0  # steps skipped because a loss or gradient was not finite
    bad_in_a_row: int = 0
    parts: int = 1  # the room for a micro-batch is divided by it; doubled when memory runs out
    budget: int = 0  # that room in positions, undivided
    step_samples: int = 0  # audio samples in a step, by which the epoch's steps were planned
    shared_voices: int = 1  # clips that may share a voice sample, by which they were planned too
    interval: int = 0  # steps in `validation_minutes`, by the pace that was measured once; 0: not measured, or too many
    plan: int = PLAN_VERSION


class _Window:
    """Sums since the last metric line. A checkpoint keeps the losses of a begun window; its pace is measured anew."""

    def __init__(self, sums: Sequence[float] = (0, 0, 0, 0), norms: float = 0.0, steps: int = 0):
        self.sums, self.norms, self.steps = torch.tensor(sums, dtype=torch.float32), norms, steps
        self.audio_seconds, self.wait, self.start = 0.0, 0.0, time.monotonic()

    def add(self, sums: Tensor, audio_seconds: float, norm: float) -> None:
        self.sums = self.sums.to(sums.device) + sums.float()  # on the GPU: reading it would wait for the step to end
        self.audio_seconds += audio_seconds
        self.norms += norm
        self.steps += 1


def build_accelerator(config: PretrainConfig) -> Accelerator:
    """accelerate's view of the device, precision and processes, as the config and the launcher say."""
    from accelerate import Accelerator

    device = torch.device(choose_device(config.device))
    if device.index is not None:
        torch.cuda.set_device(device)
    on_cpu = device.type == "cpu"
    precision = {"auto": "no" if on_cpu else "bf16", "float32": "no", "bf16": "bf16"}[config.training.precision]
    return Accelerator(cpu=on_cpu, mixed_precision=precision)


class PretrainLoop:
    """Trains `model` on `data` up to `total_steps`. checkpoints, log: where it saves and reports; log may be None.

    old_rows: text rows of the base model; those behind them learn at `new_rows_rate` (None: there are no new ones).
    Set `sampler` on the main process before `fit`, where samples are wanted.
    """

    def __init__(
        self,
        model: CompactGPT,
        data: Any,  # the DataManager of data_loader.py, a script, which no room may import
        checkpoints: CheckpointManager,
        log: MetricsLog | None,
        config: PretrainConfig,
        accelerator: Accelerator,
        total_steps: int,
        old_rows: int | None = None,
    ):
        self.data, self.checkpoints, self.log, self.config = data, checkpoints, log, config
        self.sampler: Sampler | None = None
        self.accelerator, self.total = accelerator, total_steps
        self.sharded = config.training.sharding and accelerator.num_processes > 1
        if config.training.compile:
            model.compile_blocks()
        self.bare = model
        if self.sharded:
            # FSDP2 (Zhao et al. 2023): weights, gradients and moments are split among all processes. All in one unit,
            # because the forward pass reaches into the blocks without calling them as modules.
            mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
            fully_shard(model.to(accelerator.device), mesh=mesh)
        self.model = model if self.sharded else accelerator.prepare(model)
        self.optimizer = build_optimizer(model, config)
        self.average = RunningAverage(model.gpt, config.training.ema_decay) if config.training.ema_decay else None
        self.schedule = Schedule.of(config, total_steps)
        self.new_rows = NewRows(model, old_rows or 0, config.new_rows_rate if old_rows else 1.0)
        shards = accelerator.num_processes if self.sharded else 1
        self.memory_facts = {
            "bf16": accelerator.mixed_precision == "bf16",
            "average": bool(config.training.ema_decay),
            "shards": shards,
        }
        self.room = choose_room(model, data, accelerator, config, self.memory_facts)
        self.progress = Progress(
            budget=self.room.positions, step_samples=data.step_samples, shared_voices=data.shared_voices
        )
        self._record = checkpoints.folder / "memory.json"  # the number of pieces, until the next checkpoint holds it
        self._window = _Window()
        self._begun = (0, time.monotonic())  # the step at which `fit` began, and when
        self._signals = StopSignals()

    def start(self, checkpoint: Checkpoint | None) -> None:
        """Begin at step 0, or carry on from a checkpoint."""
        if checkpoint:
            self._resume(checkpoint)
        if self._record.is_file():
            record = read_json(self._record, "record of the GPU's memory", "delete it and run again")
            if record.get("budget") == self.room.positions:
                self.progress.parts = max(self.progress.parts, int(record["parts"]))
        if self.log:
            steps = [self._pieces(batch) for batch in self.data.train_batches(self.progress.epoch)[:20]]
            describe(self.bare, self.data, steps, self.room, self.accelerator.num_processes, self.memory_facts)
            self._warn_of_slow_cpu()
            facts = {"total_steps": self.total, "resumed": checkpoint is not None, "run_id": self.checkpoints.run_id}
            self.log.event("start", step=self.progress.step, **facts)

    def _warn_of_slow_cpu(self) -> None:
        """Warn where a full-size model is to be trained on a CPU."""
        steps, parameters = self.total - self.progress.step, sum(p.numel() for p in self.bare.parameters())
        if self.accelerator.device.type == "cpu" and parameters >= FULL_SIZE and steps > 0:
            expected = duration(steps * self.data.step_seconds * CPU_PACE)
            warn(
                f"A FULL-SIZE MODEL ON A CPU: expect about {expected} of training (at the pace measured on two cores); "
                "use a machine with an NVIDIA GPU, and device cuda or auto"
            )

    # ── 2. the loop ──────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self) -> None:
        """Train to the end; SIGINT and SIGTERM finish the step, checkpoint, and raise Interrupted."""
        training, last_saved, steps = self.config.training, time.monotonic(), self._steps()
        self._begun = (self.progress.step, last_saved)
        bar_facts = {"initial": self.progress.step, "shown": self.accelerator.is_main_process}
        with self._signals.noted(), progress(total=self.total, what="training", unit="step", **bar_facts) as bar:
            while self.progress.step < self.total:
                asked = time.monotonic()
                batches = next(steps)
                self._window.wait += time.monotonic() - asked
                try:
                    self._train_step(batches)
                except torch.OutOfMemoryError as error:
                    self._cut_smaller(batches, error)
                    steps = self._steps()
                    continue
                self.progress.step += 1
                self.progress.offset += 1
                bar.update()
                step = self.progress.step
                self._measure_pace()
                due = step % self._every(self.config.checkpoint_interval) == 0 or step == self.total
                late = time.monotonic() - last_saved > 60 * training.checkpoint_minutes
                wanted = self.sampler is not None and self.sampler.due(step)
                # All processes must save and stop at the same step, and gather weights that are split among them.
                flags = torch.tensor([self._signals.received > 0, late, wanted])
                stop, overdue, sampled = self._over_all(flags).tolist()
                if step % training.log_interval == 0:
                    self._report()
                validated = due or step % (training.validation_interval or self._every()) == 0
                val_loss = self.validate() if validated else None
                if due or stop or overdue:
                    self.save(val_loss)
                    last_saved = time.monotonic()
                if stop:
                    self._stop()
                if sampled:
                    weights = present_weights(self.bare, self.average, self.sharded)
                    if self.sampler:  # the other processes wait in their next collective operation
                        self.sampler.speak(step, weights)
        self.checkpoints.close()

    def _every(self, interval: int | None = None) -> int:
        """Steps between validated checkpoints: as given, or `validation_minutes` of work; five in a run at least."""
        fifth = max(1, math.ceil(self.total / 5))
        return min(interval or self.progress.interval or fifth, fifth)

    def _measure_pace(self) -> None:
        """Turn `validation_minutes` into steps, once in a run.

        Kept in checkpoints, so that a resumed run validates at the same steps. On a faster machine validation is
        faster too: its share of the time stays.
        """
        first, last = (self._begun[0] + steps for steps in PACE_STEPS)
        config, now = self.config, time.monotonic()
        if self.progress.step == first:
            self._paced = now
        if self.progress.step != last or self.progress.interval or self._every() <= PACE_STEPS[1]:
            return
        if config.checkpoint_interval and config.training.validation_interval:
            return
        on_main = (now - self._paced) / (last - first) if self.accelerator.is_main_process else 0.0
        pace = float(self._over_all(torch.tensor([on_main])))  # all processes take the main one's
        steps = float(f"{60 * config.training.validation_minutes / pace:.2g}")
        if steps < self._every():
            self.progress.interval = max(1, int(steps))
            say(f"validation  every {self.progress.interval:,} steps, at {pace:.2g} s a step")

    # ── 3. a step's batches ───────────────────────────────────────────────────────────────────────────────────────────

    def _steps(self) -> Iterator[list[dict]]:
        """Endless steps from where `progress` stands: this process's micro-batches."""
        on_gpu = self.accelerator.device.type == "cuda"
        # One loader for all epochs, so that its processes start once and load the next epoch's first batches early.
        steps, ahead = itertools.tee(self._planned_steps())
        batches = (batch for _, share in ahead for batch, _ in share)
        loader = self.data.loader(self.data.train, batches, workers=2 if on_gpu else 0, pin=on_gpu)
        for epoch, share in steps:
            loaded = [{**batch, "weight": weight} for (_, weight), batch in zip(share, loader)]
            if epoch > self.progress.epoch:
                self.progress.epoch, self.progress.offset = epoch, 0
            yield loaded

    def _planned_steps(self) -> Iterator[tuple[int, list[tuple[Batch, float]]]]:
        """For every step, its epoch and `_share`."""
        offset = self.progress.offset
        for epoch in itertools.count(self.progress.epoch):
            for batch in self.data.train_batches(epoch)[offset:]:
                yield epoch, self._share(self._pieces(batch))
            offset = 0

    def _pieces(self, batch: Batch) -> list[Batch]:
        """A step's micro-batches. Where memory ran out they are smaller; the step's clips and loss stay the same."""
        room = self.room._replace(positions=self.room.positions // self.progress.parts)
        return batch.cut(self.data.train.index.positions, room, self.accelerator.num_processes)

    def _share(self, batches: list[Batch]) -> list[tuple[Batch, float]]:
        """This process's batches with their weights.

        All processes get equally many, or the collective operations of one would wait for ever: where one is missing,
        the first batch takes its place with weight 0.
        """
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        filled = [(batch, 1.0) for batch in batches] + [(batches[0], 0.0)] * (-len(batches) % world)
        return filled[rank::world]

    # ── 4. one step ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _train_step(self, batches: list[dict]) -> None:
        """One optimizer step over this process's batches; it is skipped where the gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.progress.step)
        self.model.train()
        sums = self._backward(batches)
        total_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.clip_norm)
        # The norm over all processes' shards: they all skip, or none does.
        norm = float(total_norm.full_tensor() if isinstance(total_norm, DTensor) else total_norm)
        if math.isfinite(norm):
            with self.new_rows.faster():
                self.optimizer.step()
            if self.average:
                self.average.update(self.progress.step)
            self.progress.bad_in_a_row = 0
            self._window.add(sums, sum(b["seconds"] * b["weight"] for b in batches), norm)
        else:
            self._skip(norm)
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, batches: list[dict]) -> Tensor:
        """Add up gradients of the step's mean losses; returns [text nats, text tokens, audio nats, audio tokens]."""
        weights, process = self.config.training, self.accelerator
        tokens = [sum(len(b[f"{kind}_target"]) * b["weight"] for b in batches) for kind in ("text", "audio")]
        mine = torch.tensor(tokens, device=process.device)
        counts = process.reduce(mine.clone(), "sum").clamp(min=1)
        sums = torch.zeros_like(mine)
        for number, batch in enumerate(batches):
            batch = self._to_device(batch)
            # Dropout's seed: of the batch's place in the step, whichever process computes it.
            place = number * process.num_processes + process.process_index
            torch.manual_seed((self.config.seed * 1_000_003 + self.progress.step) * 1009 + place)
            more = number + 1 < len(batches)  # then gradients need not be exchanged yet
            with process.no_sync(self.model) if more else contextlib.nullcontext(), process.autocast():
                text, audio = self.model(batch)
                loss = weights.text_loss_weight * text / counts[0] + weights.audio_loss_weight * audio / counts[1]
                process.backward(loss * process.num_processes * batch["weight"])  # gradients are averaged, not summed
            sums += torch.stack([text, audio]).detach() * batch["weight"]
        return torch.stack([sums[0], mine[0], sums[1], mine[1]])

    def _to_device(self, batch: dict) -> dict:
        device = self.accelerator.device
        return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}

    # ── 5. when a step fails ─────────────────────────────────────────────────────────────────────────────────────────

    def _cut_smaller(self, batches: list[dict], error: torch.OutOfMemoryError) -> None:
        """Halve the micro-batches from now on: twice the accumulation, the same training.

        Several processes cannot go on together after one of them failed inside a collective operation; they find the
        number of parts on record when they start again.
        """
        step, advice = self.progress.step + 1, "set training.gradient_checkpointing to true"
        if max(batch["shape"][0] for batch in batches) == 1:
            problem = f"step {step}: the GPU's memory is too small for a single clip of this length"
            raise RunError(f"{problem}: {advice}, then run the same command") from error
        advice = f"{advice}, then run the same command"
        self.progress.parts *= 2
        write_json(self._record, {"parts": self.progress.parts, "budget": self.room.positions})
        cut = f"step {step}: out of GPU memory; micro-batches are now cut into {self.progress.parts} pieces"
        if self.accelerator.num_processes > 1:
            raise RunError(f"{cut}: run the same command to carry on so, or {advice}") from error
        warn(f"{cut}, their gradients added up: the same training, a little slower; to be faster, {advice}")
        if self.log:
            self.log.event("oom", step=step, parts=self.progress.parts)
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()

    def _skip(self, norm: float) -> None:
        self.progress.skipped += 1
        self.progress.bad_in_a_row += 1
        if self.log:
            step = self.progress.step + 1
            self.log.event("skip", step=step, grad_norm=str(norm))
            warn(f"step {step}: the loss or gradient is not finite (gradient norm {norm}); the step is skipped")
        if self.progress.bad_in_a_row >= self.config.training.max_bad_steps:
            remedy = f"lower learning_rate (now {self.config.learning_rate}) or set training.precision to float32"
            what = f"{self.progress.bad_in_a_row} steps in a row were not finite"
            raise RunError(f"{what}: {remedy}, then run the same command")

    # ── 6. measuring ─────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def validate(self) -> float:
        """Mean weighted loss over all validation clips, which decides which checkpoint is the best.

        The parts of the set are logged too: speakers that training hears, others (`unseen_loss`), and clips that are
        their own voice sample (`own_loss`). Where a running average of the weights is kept, its loss is measured.
        """
        self.model.eval()
        sums = {name: self._measured(batches) for name, batches in self.data.val.batches().items()}
        values = self._losses(torch.stack(list(sums.values())).sum(dim=0))
        for name, part in sums.items():
            values |= {f"{name}_{key}": value for key, value in self._losses(part).items()}
        if self.log:
            self.log.log(self.progress.step, "val", values, self.total)
        return values["loss"]

    def _measured(self, batches: list[Batch]) -> Tensor:
        """[text nats, text tokens, audio nats, audio tokens] of validation batches, divided among the processes."""
        parameters = _named_as_in_compact_gpt(self.average.weights) if self.average else {}
        sums = torch.zeros(4, dtype=torch.float64)

        def forward(batch: dict) -> tuple[Tensor, Tensor]:
            with self.accelerator.autocast():
                return torch.func.functional_call(self.bare, parameters, (self._to_device(batch),))

        def load(batch: Batch) -> dict:
            return next(self.data.loader(self.data.val, [batch]))

        for batch, weight in self._share(batches):
            sums += weight * summed_losses(forward, load, batch, may_cut=not self.sharded)
        return self._over_all(sums)

    def _losses(self, sums: Tensor) -> dict[str, float]:
        """Nats per token from [text nats, text tokens, audio nats, audio tokens]."""
        text, audio = float(sums[0] / sums[1].clamp(min=1)), float(sums[2] / sums[3].clamp(min=1))
        weights = self.config.training
        loss = weights.text_loss_weight * text + weights.audio_loss_weight * audio
        return {"loss": loss, "loss_text": text, "loss_mel": audio}

    def _report(self) -> None:
        """Log the window's means over all processes, and begin a new window."""
        window, self._window = self._window, _Window()
        sums = self._over_all(torch.cat([window.sums.cpu(), torch.tensor([window.audio_seconds])]))
        if self.log and sums[1] > 0:
            values = {
                **self._losses(sums),
                "lr": self.schedule.rate(self.progress.step - 1),
                "grad_norm": window.norms / max(1, window.steps),
                "audio_s_per_s": float(sums[4]) / max(1e-9, time.monotonic() - window.start),
                "data_wait_s": window.wait,
            }
            (first, began), step = self._begun, self.progress.step
            pace = (time.monotonic() - began) / (step - first)  # with validation and checkpoints
            self.log.log(step, "train", values, self.total, seconds_left=pace * (self.total - step))

    def _over_all(self, sums: Tensor) -> Tensor:
        """Sums over all processes, on the CPU."""
        return self.accelerator.reduce(sums.to(self.accelerator.device, torch.float32), "sum").cpu()

    # ── 7. checkpoints ───────────────────────────────────────────────────────────────────────────────────────────────

    def save(self, val_loss: float | None = None) -> None:
        """Checkpoint this step: all processes gather what is split among them, the main one writes."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=self.sharded)
        weights, optimizer = get_state_dict(self.bare, self.optimizer, options=options)
        sums = self._over_all(self._window.sums).tolist()
        if not self.accelerator.is_main_process:
            return
        files = {"model": {name.removeprefix("gpt."): cast(Tensor, value) for name, value in weights.items()}}
        if self.average:
            files["ema"] = self.average.weights
        window = {"sums": sums, "norms": self._window.norms, "steps": self._window.steps}
        schedule = asdict(self.schedule)
        state = {**vars(self.progress), "window": window, "total_steps": self.total, "schedule": schedule}
        self.checkpoints.save(self.progress.step, files, optimizer, state, self.config.model_dump(), val_loss)

    def _resume(self, checkpoint: Checkpoint) -> None:
        weights, moments = _named_as_in_compact_gpt(checkpoint.weights()), checkpoint.optimizer()
        full = StateDictOptions(full_state_dict=True)
        set_state_dict(self.bare, self.optimizer, model_state_dict=weights, optim_state_dict=moments, options=full)
        for group in self.optimizer.param_groups:
            group["betas"] = tuple(group["betas"])  # torch has made a list of it; checkpoints must stay equal in bytes
        if self.average:
            self.average.load(checkpoint.weights("ema" if checkpoint.has("ema") else "model"))
        # Older checkpoints lack these.
        lacking = {"plan": 1, "step_samples": 0, "shared_voices": 1, "interval": 0, "schedule": None}
        state = {**lacking, **checkpoint.state()}
        try:
            self.progress = Progress(**{name: operator.index(state[name]) for name in vars(Progress())})
            earlier = Schedule(**state["schedule"]) if state["schedule"] else None
            if self.accelerator.is_main_process:  # the saved window holds the sums of all processes
                self._window = _Window(**state["window"])
        except (KeyError, TypeError) as error:
            said = f"checkpoint {checkpoint.folder} does not say where training stood ({error})"
            raise UserError(f"{said}: {REMEDY}") from None
        say(f"carrying on from step {self.progress.step} ({checkpoint.folder})")
        self._take_over(earlier)

    def _take_over(self, earlier: Schedule | None) -> None:
        """Go on from a checkpoint with the present settings, data plan and memory, where they differ from its."""
        step, rate = self.progress.step, float(self.optimizer.param_groups[0]["lr"])
        self.schedule = self.schedule.after(earlier, step, rate)
        if self.schedule.since == step and self.schedule.share < 0.9 and step < self.total:
            planned = rate / self.schedule.share
            say(f"the learning rate climbs from {rate:.2g}, its last, to {planned:.2g}, the schedule's")
        if self.progress.budget != self.room.positions:  # another GPU
            self.progress = replace(self.progress, budget=self.room.positions, parts=1)
        planned_by = {
            "step_samples": self.data.step_samples,
            "shared_voices": self.data.shared_voices,
            "plan": PLAN_VERSION,
        }
        if not planned_by.items() <= vars(self.progress).items():  # then `offset` counts steps of another plan
            self.progress = replace(self.progress, **planned_by, epoch=self.progress.epoch + 1, offset=0)
            say(
                "batch_seconds, training.shared_voices or the planning of steps has changed: "
                "training goes on with the next epoch, planned anew"
            )

    # ── 8. stopping ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _stop(self) -> None:
        self.checkpoints.wait()
        if self.log:
            self.log.event("stop", step=self.progress.step, signal=self._signals.received)
        say(f"\nstopped at step {self.progress.step}; its checkpoint is written")
        raise Interrupted(self._signals.received or signal.SIGTERM)  # another process may have got the signal


def _named_as_in_compact_gpt(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {f"gpt.{name}": tensor for name, tensor in weights.items()}
