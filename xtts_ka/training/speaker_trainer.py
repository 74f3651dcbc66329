"""Trains XTTS's speaker encoder from nothing, to tell voices apart: for a base model that is made, not released.

Nobody needs it for the released XTTS, whose encoder has heard thousands of people. It learns to classify the training's
voices with an additive angular margin (ArcFace, Deng et al. 2019), so that embeddings of one voice lie close together;
what it is good for is measured on clips, and better on voices, that it has not heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xtts_ka.core.config import PartConfig
from xtts_ka.core.errors import UserError
from xtts_ka.model import geometry as g
from xtts_ka.training.clip_pieces import Arrays, ClipPieces, make_pieces
from xtts_ka.training.parts_loop import Batch, Part, Tools, crop_start, drawn, part_optimizer

WAVES = "waves"  # the kind in pieces: int16 at 16 kHz
LONGEST = 10.0  # seconds of a clip that are kept
_FULL_SCALE = 32767


class SpeakerConfig(PartConfig):
    """Settings of the training; it is no stage of the pipeline, so no section of the config."""

    learning_rate: float = 1e-3
    seconds: float = 2.0  # of a piece
    margin: float = 0.2  # radians
    scale: float = 30.0  # of the cosines


class SpeakerPart(Part):
    """The encoder on pieces of waves. voices, val_voices: whose each clip is."""

    name = "speaker_encoder"
    settings: SpeakerConfig

    def __init__(
        self,
        encoder: nn.Module,
        train: ClipPieces,
        voices: Sequence[str],
        val: ClipPieces,
        val_voices: Sequence[str],
        settings: SpeakerConfig,
        seed: int,
    ):
        self.encoder, self.train, self.val, self.settings, self.seed = encoder, train, val, settings, seed
        names = sorted(set(voices))
        if len(names) < 2 or len(set(val_voices)) < 2 or len(val_voices) <= len(set(val_voices)):
            raise UserError(
                "a speaker encoder needs two voices or more, some with two validation clips: add recordings"
            )
        self.numbers = torch.tensor([names.index(voice) for voice in voices])
        val_names = sorted(set(val_voices))
        self.val_numbers = torch.tensor([val_names.index(voice) for voice in val_voices])
        self.prototypes = nn.Linear(g.SPEAKER_WIDTH, len(names), bias=False)
        self.networks = {"model": encoder, "prototypes": self.prototypes}
        self._both = nn.ModuleList([encoder, self.prototypes])
        self.optimizers = {"model": part_optimizer(self._both, settings.learning_rate)}

    def batch(self, step: int, rank: int, world: int) -> Batch:
        clips = drawn(len(self.train), self.settings.batch_size, self.seed, step, rank, world)
        return {WAVES: self._cut(self.train, clips), "voices": self.numbers[[clip for _, clip in clips]]}

    def _cut(self, source: ClipPieces, clips: Iterable[tuple[int, int]]) -> Tensor:
        """Random pieces (batch, samples); a clip that is too short is repeated."""
        size, rows = int(self.settings.seconds * g.SPEAKER_RATE), []
        for epoch, clip in clips:
            start = crop_start(int(source.lengths[WAVES][clip]), size, self.seed, epoch, clip)
            rows.append(np.resize(source.read(clip, WAVES, start, start + size), size))
        return torch.from_numpy(np.stack(rows)).float() / _FULL_SCALE

    def train_step(self, batch: Batch, step: int, tools: Tools) -> dict[str, Tensor]:
        with tools.autocast():
            embeddings = self.encoder(batch[WAVES], l2_norm=True).float()
        cosines = F.linear(embeddings, F.normalize(self.prototypes.weight)).clamp(-1 + 1e-6, 1 - 1e-6)
        wanted = F.one_hot(batch["voices"], cosines.shape[1]).bool()
        farther = torch.cos(torch.acos(cosines) + self.settings.margin)
        loss = F.cross_entropy(self.settings.scale * torch.where(wanted, farther, cosines), batch["voices"])
        right = (cosines.argmax(1) == batch["voices"]).float().mean()
        norm = tools.step(self._both, self.optimizers["model"], loss)
        return {"loss": loss, "right": right, "grad_norm": torch.tensor(norm)}

    @torch.no_grad()
    def validate(self, tools: Tools) -> dict[str, float]:
        """told_apart: share of the validation clips that are nearest to their own voice."""
        found = []
        for first in range(0, len(self.val), self.settings.batch_size):
            clips = range(first, min(first + self.settings.batch_size, len(self.val)))
            waves = self._cut(self.val, [(0, clip) for clip in clips]).to(tools.device)
            found.append(self.encoder(waves, l2_norm=True).float().cpu())
        share = told_apart(torch.cat(found), self.val_numbers)
        return {"loss": 1 - share, "told_apart": share}


def told_apart(embeddings: Tensor, voices: Tensor) -> float:
    """Share of embeddings (n, dim) nearest to their own voice's mean without themselves; single ones do not count."""
    members = F.one_hot(voices).float()
    sums, counts = members.T @ embeddings, members.sum(0)
    own = members.bool()
    others = sums[None] - members[:, :, None] * embeddings[:, None]  # (n, voices, dim): without the clip itself
    closeness = F.cosine_similarity(embeddings[:, None], others, dim=2)
    judged = counts[voices] > 1
    right = own.gather(1, closeness.argmax(1, keepdim=True))[:, 0]
    return float(right[judged].float().mean())


def wave_pieces(folder: Path, key: Any, paths: Sequence[Path]) -> ClipPieces:
    """Waves of recordings for `SpeakerPart`. key: what says that the recordings are unchanged."""
    from xtts_ka.model.features import load_speech

    def make(batch: Sequence[Path]) -> list[Arrays]:
        speech = [load_speech(path, LONGEST, g.SPEAKER_RATE)[0] for path in batch]
        return [{WAVES: (wave * _FULL_SCALE).round().short().numpy()} for wave in speech]

    return make_pieces(folder, [key, [str(path) for path in paths]], paths, make, WAVES)
