"""Step 8: the GPT, trained by the pipeline's own loop on clips in memory.

work/gpt/                 checkpoints of the loop; a step that was stopped carries on from the last
work/gpt/logs/            its metrics
work/gpt/snapshots/       the weights at some moments, in float16: the decoder learns on their latents
work/gpt.safetensors      the trained GPT
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from starter_base import sizes
from starter_base.alignments import UNKNOWN
from starter_base.codes import CODES
from starter_base.feed import SHORT_EPOCHS, Feed
from starter_base.figures import note
from starter_base.pack import half, write_network
from starter_base.speech import Speech
from starter_base.timed import own_accelerator
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.networks import build_gpt, tiny_config
from xtts_ka.starter.base_model import starter_vocabulary
from xtts_ka.starter.trained_base import weights
from xtts_ka.training.checkpoint_manager import Checkpoint, CheckpointManager
from xtts_ka.training.gpt_trainer import PretrainLoop
from xtts_ka.training.metrics_log import MetricsLog
from xtts_ka.training.optimizer import Schedule

GPT, FOLDER, SNAPSHOTS = "gpt.safetensors", "gpt", "snapshots"
# Of the GPT's sequences in a step: 67 clips and 1,000. On a GPU a step's time is that of launching its operations.
STEP_POSITIONS = {"cpu": 8192, "cuda": 131072}
RATE = {"cpu": 2e-3, "cuda": 4e-3}
WARMUP, WARMUP_AGAIN = 200, 40  # steps; the latter where it begins with trained weights
SAVES = 12  # checkpoints of a training, evenly in time
VECTOR_WEIGHT, POINTER_WEIGHT = 1.0, 0.5  # of the auxiliary losses; the latter of each head
# One attention head of each of these layers is shown which token is said next. By itself the GPT finds its place in the
# text by the number of the code alone, in layer 0, and keeps to that: no later layer looks at the text's letters.
POINTERS, POINTING_HEAD = (1, 2, 3), 0
UNKNOWN_END = 10**9  # steps, until the pace is known
PACED = 20  # steps after which it is
OWN_HEAD = "code_head"  # of the training alone


class BaseGPT(CompactGPT):
    """The GPT with two more losses in training.

    A linear head on its latents, which only the training has, reads the DVAE's vector of the code that goes in: the
    decoder sees latents alone, and the next code's probabilities do not need what sound the last one stands for. And
    some attention heads learn to look at the token that is said next (guided attention, Tachibana et al. 2018, here by
    the cross-entropy to the alignment of each clip).

    codebook: (1024, width).
    """

    vectors: Tensor

    def __init__(self, gpt: Any, codebook: Tensor):
        super().__init__(gpt)  # without dropout: it sees each clip a few times only
        gpt.code_head = nn.Linear(gpt.final_norm.weight.shape[0], codebook.shape[1])
        vectors = (codebook - codebook.mean(0)) / codebook.std(0).clamp(min=1e-5)
        others = torch.zeros(g.STOP_AUDIO_TOKEN + 1 - len(codebook), codebook.shape[1])
        self.register_buffer("vectors", torch.cat([vectors, others]), persistent=False)
        self._inputs: list[Tensor] = []  # of the blocks, in the last `hidden`

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """As CompactGPT's; in training the audio's sum has the auxiliary losses in it."""
        hidden = self.hidden(batch)
        text, audio = self.losses(batch, hidden)
        if self.training:
            latents = self.gpt.final_norm(hidden[batch["audio_at"]])
            audio = audio + VECTOR_WEIGHT * self.vector_loss(batch, latents)
            audio = audio + POINTER_WEIGHT * self.pointer_loss(batch)
        return text, audio

    def transform(self, x: Tensor) -> Tensor:
        self._inputs.clear()
        return super().transform(x)

    def through(self, block: Any, x: Tensor) -> Tensor:
        self._inputs.append(x)
        return super().through(block, x)

    def vector_loss(self, batch: dict[str, Any], latents: Tensor) -> Tensor:
        """Sum over all codes of the mean squared distance to their vectors: 1 a code where nothing is known."""
        distances = (self.gpt.code_head(latents).float() - self.vectors[batch["audio"]]).square().mean(1)
        return (distances * batch["is_code"]).sum()

    def pointer_loss(self, batch: dict[str, Any]) -> Tensor:
        """Summed cross-entropy of the pointing heads' attention of the last `hidden` to the tokens said next."""
        said = batch["said"]
        target = torch.where(said == UNKNOWN, UNKNOWN, g.COND_POSITIONS + 1 + said)
        losses = [
            F.nll_loss(self.log_attention(layer, batch), target, ignore_index=UNKNOWN, reduction="sum")
            for layer in POINTERS
            if layer < len(self._inputs)
        ]
        return torch.stack(losses).sum() if losses else target.new_zeros((), dtype=torch.float32)

    def log_attention(self, layer: int, batch: dict[str, Any], head: int = POINTING_HEAD) -> Tensor:
        """Log-weights of a head of `layer` in the last `hidden`: (audio positions, positions of a row)."""
        attention, x = self.gpt.gpt.h[layer].attn, self.gpt.gpt.h[layer].ln_1(self._inputs[layer])
        length, dim = x.shape[1:]
        width = dim // self.gpt.heads

        def projected(part: int) -> Tensor:
            own = slice(part * dim + head * width, part * dim + (head + 1) * width)
            return x @ attention.c_attn.weight[:, own] + attention.c_attn.bias[own]

        scores = width**-0.5 * projected(0) @ projected(1).transpose(1, 2)
        rows = scores.flatten(0, 1)[batch["audio_at"]].float()
        later = torch.arange(length, device=x.device) > (batch["audio_at"] % length)[:, None]
        return rows.masked_fill(later, -torch.inf).log_softmax(-1)


class TimedLoop(PretrainLoop):
    """Trains for so many minutes instead of so many steps; the number of steps follows from the pace."""

    def __init__(
        self,
        model: BaseGPT,
        feed: Feed,
        checkpoints: CheckpointManager,
        log: MetricsLog | None,
        config: PretrainConfig,
        minutes: float,
        out: Path | None,
    ):
        super().__init__(model, feed, checkpoints, log, config, own_accelerator(config), UNKNOWN_END)
        self.seconds, self.out = 60 * minutes, out
        self._origin = self._next_save = time.monotonic()

    def start(self, checkpoint: Checkpoint | None) -> None:
        super().start(checkpoint)
        self._origin = time.monotonic()
        if checkpoint:  # the share of the steps that are done is the share of the time
            self.total = int(checkpoint.state()["total_steps"])
            self._origin -= self.seconds * self.progress.step / self.total
            self.schedule = Schedule.of(self.config, self.total)
        self._set_next_save()

    def _train_step(self, batches: list[dict]) -> None:
        super()._train_step(batches)
        step, share = self.progress.step + 1, (time.monotonic() - self._origin) / self.seconds
        if share >= 1:
            self.total = step
        elif step >= PACED:
            self.total = max(step + 1, math.ceil(step / share))
        self.schedule = replace(Schedule.of(self.config, self.total), total=self.total)

    def _every(self, interval: int | None = None) -> int:
        """Checkpoints go by the clock: at this step, or not at this one."""
        return 1 if time.monotonic() >= self._next_save else self.progress.step + 1

    def _measure_pace(self) -> None:
        """Not needed: see `_every`."""

    def _set_next_save(self) -> None:
        done = (time.monotonic() - self._origin) / self.seconds
        self._next_save = self._origin + self.seconds * (math.floor(done * SAVES + 1e-3) + 1) / SAVES

    def save(self, val_loss: float | None = None) -> None:
        super().save(val_loss)
        self._set_next_save()
        weights = half(narrow_state(self.bare))
        save_tensors(self.checkpoints.folder / SNAPSHOTS / f"{self.progress.step:07d}.safetensors", weights)
        if self.out:
            write_network(self.out, "gpt", weights)


def narrow_state(model: CompactGPT) -> dict[str, Tensor]:
    """The GPT's weights without the auxiliary head, on the CPU."""
    return {k: v.detach().cpu() for k, v in model.gpt.state_dict().items() if not k.startswith(OWN_HEAD)}


def new_gpt(layers: int | None = None) -> Any:
    """A GPT of the base's geometry with random weights."""
    size, rows = {**sizes.GPT, "layers": layers or sizes.GPT["layers"]}, text_rows()
    gpt = build_gpt(tiny_config(size["layers"], size["model_dim"], size["heads"], rows), rows)
    for table in (gpt.text_embedding, gpt.mel_embedding):
        nn.init.normal_(table.weight, std=0.02)  # GPT-2's scale; nn.Embedding's own is 50 times larger
    return gpt


def text_rows() -> int:
    return max(starter_vocabulary()["model"]["vocab"].values()) + 1


def load_gpt(state: dict[str, Tensor]) -> Any:
    """The GPT with these weights, whatever its number of layers."""
    gpt = new_gpt(1 + max(int(name.split(".")[2]) for name in state if name.startswith("gpt.h.")))
    gpt.load_state_dict({name: value.float() for name, value in state.items()})
    return gpt


def run(work: Path, options: Any) -> None:
    """Train the GPT for `options.minutes_gpt`."""
    feed, loop = prepare(work, options)
    loop.start(loop.checkpoints.last())
    loop.fit()
    save_tensors(work / GPT, narrow_state(loop.bare))
    note(work, "gpt", {"steps": loop.progress.step, **measure(loop, feed)})


def prepare(work: Path, options: Any) -> tuple[Feed, TimedLoop]:
    device = choose_device(options.device)
    kind = device.split(":")[0]
    positions, layers = options.positions or STEP_POSITIONS[kind], options.layers or sizes.GPT["layers"]
    begun_with = options.begin_with and file_digest(options.begin_with / "gpt.safetensors")
    run_id = hash_value([positions, layers, (work / CODES).stat().st_size, begun_with])[:16]
    checkpoints = CheckpointManager(work / FOLDER, run_id, 2)
    checkpoints.set_aside_others()
    snapshots = work / FOLDER / SNAPSHOTS
    if not checkpoints.last():
        shutil.rmtree(snapshots, ignore_errors=True)  # of an earlier training
    snapshots.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    torch.manual_seed(1)
    speech = Speech.awaited(work) if options.await_speech else Speech(work)
    feed = Feed(work, device, positions, seed=1, speech=speech)
    say(f"feed        {time.monotonic() - began:.1f} s; {len(feed.train.numbers):,} clips to train on")
    config = config_of(work, feed, device, positions, options.rate or RATE[kind], options.compile)
    config.training.precision = options.precision or "auto"
    if options.begin_with:
        config.training.warmup_steps = WARMUP_AGAIN
    gpt = load_gpt(weights(options.begin_with, "gpt")) if options.begin_with else new_gpt(layers)
    model = BaseGPT(gpt, codebook(work))
    log = MetricsLog(work / FOLDER / "logs", fresh=checkpoints.last() is None)
    loop = TimedLoop(model, feed, checkpoints, log, config, options.minutes_gpt, options.out)
    loop.progress.epoch = SHORT_EPOCHS if options.begin_with else 0
    return feed, loop


def config_of(
    work: Path, feed: Feed, device: str, positions: int, rate: float, compiled: bool = False
) -> PretrainConfig:
    """What the loop reads of a config."""
    training: Any = {
        "optimizer": "muon",
        "warmup_steps": WARMUP,
        "final_learning_rate": 0.02,
        "log_interval": 20 if device == "cpu" else 200,
        "compile": compiled,
    }
    return PretrainConfig(
        checkpoint_dir=str(work / FOLDER),
        log_dir=str(work / FOLDER / "logs"),
        learning_rate=rate,
        # The room is all of a step, whose longest row may be a little longer than planned (the feed mixes lengths).
        batch_size=1 + math.ceil(1.25 * positions / float(np.median(feed.clips.positions))),
        device=device,
        seed=1,
        training=training,
    )


@torch.no_grad()
def measure(loop: PretrainLoop, feed: Feed) -> dict[str, float]:
    """Nats a code on validation clips: of each language, of all, and with the text of another clip of the language.

    pointed: the share of codes at which a pointing head, the last one, looks most at the token said next.
    """
    loop.model.eval()
    model = cast(BaseGPT, loop.bare)
    found, sums = {}, {"right": torch.zeros(2), "wrong": torch.zeros(2), "pointed": torch.zeros(2)}
    for language, steps in feed.val.batches().items():
        for kind in ("right", "wrong"):
            texts = np.roll(steps[0].clips, 1) if kind == "wrong" else None
            batch = feed.loaded(steps[0], noisy=False, text_of=texts)
            with loop.accelerator.autocast():
                audio = float(model(batch)[1])
            counted = torch.tensor([audio, float(len(batch["audio_target"]))])
            sums[kind] += counted
            if kind == "right":
                sums["pointed"] += pointed(model, batch)
                found[f"audio_{language}"] = audio / len(batch["audio_target"])
    # Nothing is pointed at where the clips have not been aligned.
    right, wrong, share = (float(count / codes.clamp(min=1)) for count, codes in sums.values())
    say(f"nats a code {right:.3f} on unseen texts; {wrong:.3f} with another clip's text; {share:.1%} pointed right")
    rounded = {name: round(value, 4) for name, value in found.items()}
    return {**rounded, "audio": right, "audio_wrong_text": wrong, "pointed": share}


def pointed(model: BaseGPT, batch: dict[str, Any]) -> Tensor:
    """(codes at which the last pointing head looks most at the token said next, codes whose token is known)."""
    said = batch["said"]
    known = (said != UNKNOWN) & (max(POINTERS) < len(model.gpt.gpt.h))
    if not known.any():
        return torch.zeros(2)
    best = model.log_attention(max(POINTERS), batch).argmax(1)
    return torch.tensor([float((best == g.COND_POSITIONS + 1 + said)[known].sum()), float(known.sum())])


def codebook(work: Path) -> Tensor:
    """The DVAE's code vectors, (1024, width)."""
    return load_file(work / "dvae.safetensors")["codebook.embed"].T.float().contiguous()
