"""Step 4: the DVAE, from nothing, on the speech of the ten languages.

XTTS needs its codes alone, so they must hold what is said. The loss is the error of the mels, in which quiet parts
count less, and what a frozen recogniser hears differently in them: the divergence of its phoneme posteriors on made
mels from those on natural ones, and the distance of its hidden features. Unlike CTC that needs no text, so that pieces
may begin and end anywhere, and every frame counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from starter_base import sizes
from starter_base.figures import note
from starter_base.mels import Mels, load_mels
from starter_base.phonemes import VAL_CLIPS, PhonemeNetwork, error_rates, load_phonemes, log_probs
from starter_base.speech import Speech
from starter_base.timed import train_timed
from xtts_ka.core.config import DvaeConfig
from xtts_ka.core.console import say
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.codebook import codebook_use, reconstruct
from xtts_ka.model.networks import build_dvae
from xtts_ka.training.dvae_trainer import DvaePart
from xtts_ka.training.parts_loop import Batch, Tools

WEIGHTS = "dvae.safetensors"
BATCH = {"cuda": 96, "cpu": 24}  # pieces
SETTINGS = DvaeConfig(
    fresh=True,
    max_steps=100_000,
    learning_rate=1e-3,
    segment_codes=40,  # 1.9 s
    codebook_decay=0.99,
    revive_below=0.1,
    audibility=0.8,
)
# Steps before which the codebook is started anew: at first the encoder's output is nearly constant and moves fast.
STARTED_ANEW = (200, 1000)
DIVERGENCE, FEATURES = 0.5, 0.2  # weights of what the recogniser hears


class Hearing:
    """What the recogniser hears differently in made mels, as `DvaePart.extra`. scale: of the mels, (80,)."""

    def __init__(self, network: PhonemeNetwork, scale: Tensor):
        self.network, self.scale = network, scale

    def __call__(self, made: Tensor, true: Tensor, batch: Batch) -> Tensor:
        """made, true: normalised mels (batch, 80, frames)."""
        inside = torch.arange(true.shape[2], device=true.device) < batch["frames"][:, None]
        made = torch.where(inside[:, None], made, true)
        with torch.no_grad():
            wanted, wanted_probs = self._heard(true)
        heard, heard_probs = self._heard(made)
        inside = inside[:, :: true.shape[2] // heard.shape[1]]
        divergence = F.kl_div(heard_probs, wanted_probs, reduction="none", log_target=True).sum(-1)
        distance = (heard - wanted).square().mean(-1)
        return ((DIVERGENCE * divergence + FEATURES * distance) * inside).sum() / inside.sum()

    def _heard(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.full((len(mels),), mels.shape[2])
        hidden, _ = self.network.body.hidden(mels.transpose(1, 2) * self.scale, lengths)
        return hidden, log_probs(self.network.body.output, hidden)


class FastDvaePart(DvaePart):
    """The DVAE's trainer on mels in the device's memory."""

    best_by_loss = False
    train: Mels  # type: ignore[assignment]

    def train_step(self, batch: Batch, step: int, tools: Tools) -> dict[str, Tensor]:
        if step in STARTED_ANEW:
            self.begin(tools)
        return super().train_step(batch, step, tools)

    def _pieces(self, source: Mels, clips: Iterable[tuple[int, int]]) -> Batch:  # type: ignore[override]
        """As the trainer's, the whole batch at once."""
        drawn_clips = np.array(list(clips))
        size, chosen = self.settings.segment_codes * g.FRAMES_PER_CODE, drawn_clips[:, 1]
        rng = np.random.default_rng([self.seed, *drawn_clips[0].tolist(), 7])
        starts = rng.integers(0, np.maximum(1, source.frames[chosen] - size + 1))
        mels, frames = source.pieces(chosen, starts, size)
        return {"mels": mels.transpose(1, 2).contiguous(), "frames": frames}


def run(work: Path, options: Any) -> None:
    """Train for `options.minutes_dvae`; measure what the recogniser hears through the codes."""
    speech, device = Speech(work), choose_device(options.device)
    numbers = {split: speech.of(split) for split in ("train", "val")}
    mels = {split: load_mels(work, speech, numbers[split], device) for split in numbers}
    network, symbols = load_phonemes(work, device)
    torch.manual_seed(14)
    dvae = build_dvae(g.AUDIO_CODES, **sizes.DVAE)
    settings = SETTINGS.model_copy(update={"batch_size": BATCH[torch.device(device).type]})
    scale = mels["train"].scale
    part = FastDvaePart(dvae, mels["train"], mels["val"], settings, 14, scale, Hearing(network, scale))  # type: ignore[arg-type]
    chosen = train_timed(part, work, options.minutes_dvae, device, speech)
    dvae.load_state_dict(chosen.weights())
    through, use = through_codes(dvae.eval(), mels["val"], len(numbers["val"][:VAL_CLIPS]))
    measured = [error_rates(network, symbols, speech, numbers["val"][:VAL_CLIPS], m) for m in (mels["val"], through)]
    facts = {"natural": measured[0], "through the codes": measured[1], **use, "steps": settings.max_steps}
    say(
        f"dvae        phoneme errors {measured[0]['phonemes']:.1%} → {measured[1]['phonemes']:.1%}, "
        f"letters {measured[0]['letters']:.1%} → {measured[1]['letters']:.1%}; perplexity {use['perplexity']:.0f}"
    )
    note(work, "dvae", facts)
    save_tensors(work / WEIGHTS, {name: tensor.cpu() for name, tensor in dvae.state_dict().items()})


@torch.no_grad()
def through_codes(dvae: Any, mels: Mels, count: int) -> tuple[Mels, dict[str, float]]:
    """The first clips as the DVAE's decoder gives them back, each by itself, and how the codebook is used."""
    rows, codes = [], []
    for clip in range(count):
        frames = int(mels.frames[clip])
        whole, _ = mels.pieces(np.array([clip]), np.array([0]), -(-frames // g.FRAMES_PER_CODE) * g.FRAMES_PER_CODE)
        found = reconstruct(dvae, whole.transpose(1, 2))
        rows.append(found.mels[0].T[:frames] * mels.scale)
        codes.append(found.codes[0].cpu())
    return Mels.of(rows, mels.scale, mels.device), codebook_use(torch.cat(codes), dvae.num_tokens)
