"""The recogniser's training loop: spectrograms and letters → weights.

Batches, augmentation and dropout derive from (seed, epoch or step), so a run that was killed and carries on gives the
same weights as an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from xtts_ka.core.config import RecogniserConfig
from xtts_ka.core.console import progress
from xtts_ka.core.tensor_files import load_torch, save_torch
from xtts_ka.recognition.augmentation import augment
from xtts_ka.recognition.recogniser import HOP, RATE, STRIDE, CtcNetwork, batches_by_length
from xtts_ka.recognition.sound_cache import unpacked

CLIP_NORM = 1.0
WARM_UP = 0.1  # share of the steps in which the learning rate rises; then it falls to 0 along a cosine
STATE_SECONDS = 20.0  # between saved states
_GROUP = 16  # batches of clips that are sorted by length together; otherwise padding would be a third of the work


class Sounds(Protocol):
    """Spectrograms by number (`sound_cache.SoundCache`): uint8 (frames, bands), and the frames of each."""

    frames: np.ndarray

    def __getitem__(self, number: int) -> Tensor: ...


class CtcTrainer:
    """Trains one network.

    targets: the ids of each clip's letters; settings: with nothing left open (`train_recogniser.settled`); state_file:
    where it saves what it needs to carry on; identity: of data and settings, the state of another is not carried on.
    """

    def __init__(
        self,
        sounds: Sounds,
        targets: Sequence[Sequence[int]],
        settings: RecogniserConfig,
        seed: int,
        state_file: Path,
        identity: str,
        device: str = "cpu",
    ):
        self.sounds, self.targets, self.settings, self.seed = sounds, targets, settings, seed
        self.state_file, self.identity, self.device = state_file, identity, torch.device(device)
        assert settings.dim and settings.layers and settings.recurrent is not None
        assert settings.batch_seconds and settings.epochs and settings.learning_rate and settings.noise is not None
        self._epochs, self._rate, self._noise = settings.epochs, settings.learning_rate, settings.noise
        self.limit = settings.batch_seconds * RATE / HOP  # mel frames of a padded batch at most
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = CtcNetwork(settings.dim, settings.layers, recurrent=settings.recurrent).to(device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), self._rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.step, self.loss = 0, math.nan

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        in_epochs = math.ceil(self._epochs * self.sounds.frames.sum() / self.limit)
        return max(2, min(self.settings.max_steps, in_epochs))

    def train(self) -> CtcNetwork:
        """Train to the end, from the saved state where there is one, and return the network."""
        saved, first = time.monotonic(), self._resume()
        with progress(what="recogniser", unit="step", total=self.total, initial=first) as bar:
            for step in self.steps():
                bar.update(1)
                if step % 10 == 0:
                    bar.set_postfix(loss=f"{self.loss:.3f}", refresh=False)
                if time.monotonic() - saved > STATE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        return self.network

    def steps(self) -> Iterator[int]:
        """Take one step after the other, and yield the number of steps taken, up to `total`."""
        for batch in self._from(self.step):
            self._learn(batch)
            yield self.step

    def _from(self, first: int) -> Iterator[list[int]]:
        """The batches of the steps `first` to `total`, over as many epochs as it takes."""
        number, epoch = 0, 0
        while True:
            for batch in self._epoch(epoch):
                if number >= self.total:
                    return
                if number >= first:
                    yield batch
                number += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[list[int]]:
        """The epoch's batches; the first epoch runs from short clips to long ones (SortaGrad, Amodei et al. 2016)."""
        frames = self.sounds.frames
        if epoch == 0:
            return batches_by_length(frames.tolist(), self.limit)
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(frames))
        together = max(1, math.ceil(len(frames) / max(1.0, frames.sum() / self.limit / _GROUP)))
        groups = [order[start : start + together] for start in range(0, len(order), together)]
        batches = [group[b].tolist() for group in groups for b in batches_by_length(frames[group].tolist(), self.limit)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _learn(self, batch: list[int]) -> None:
        """One optimizer step on the clips of `batch`."""
        rng = np.random.default_rng((self.seed, self.step, 1))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        mels = unpacked(pad_sequence([self.sounds[i] for i in batch], batch_first=True).to(self.device))
        lengths = torch.tensor([int(self.sounds.frames[i]) for i in batch])
        mels, lengths = augment(mels, lengths, rng, generator, self._noise)
        wanted = [torch.tensor(self.targets[i]) for i in batch]
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * _pace(self.step / self.total)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(rng.integers(2**62)))  # dropout
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                log_probs, frames = self.network.train()(mels, lengths)
            loss = ctc_loss(log_probs, frames, wanted)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        if norm.isfinite():
            self.optimizer.step()
        self.step += 1
        if self.step % 10 == 1:  # reading it waits for the GPU
            self.loss = float(loss.detach())

    # ── the saved state ──────────────────────────────────────────────────────────────────────────────────────────────

    def save(self) -> None:
        """Save what the training needs to carry on."""
        state = {
            "identity": self.identity,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_torch(self.state_file, state)

    def _resume(self) -> int:
        """The step to carry on from: that of the saved state, if it is of this training, or 0."""
        if self.state_file.is_file():
            state = load_torch(self.state_file, remedy="delete it and run the same command")
            if state.get("identity") == self.identity:
                self.network.load_state_dict(state["network"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.step = state["step"]
        return self.step


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """CTC's negative log-likelihood in nepers a letter; a clip with too few frames for its letters counts as 0."""
    sizes = torch.tensor([len(target) for target in targets])
    letters = torch.cat(list(targets)).to(log_probs.device)
    summed = F.ctc_loss(log_probs.transpose(0, 1), letters, lengths, sizes, zero_infinity=True, reduction="sum")
    return summed / sizes.sum()


def _pace(share: float) -> float:
    """The learning rate after `share` of the steps, as a share of its peak."""
    if share < WARM_UP:
        return max(0.02, share / WARM_UP)
    return max(0.005, 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))))


def fits(frames: int, letters: int) -> bool:
    """Whether a clip of so many mel frames can be heard as so many letters, spoken up to 15 % faster."""
    return letters * STRIDE * 1.2 < frames
