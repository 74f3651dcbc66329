"""Changes log-mel spectrograms as other speed, pitch, rooms and noise would change the recording.

Everything is done to the spectrogram, a batch at once on its device: a recording is decoded and transformed once
however often it is trained on. What is drawn is a function of the generators given.

- speed: the time axis is stretched; voice: the frequency axis is (vocal tract length, Jaitly & Hinton 2013)
- noise: mel power of steady noise with a random smooth spectrum, or of another clip in the batch, is added
- SpecAugment (Park et al. 2019): spans of frames and of bands are replaced by the clip's mean
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SPEED = 0.15  # largest change of ln(speed), either way
VOICE = 0.12  # of ln(frequency)
NOISY = 0.5  # share of the clips that get steady noise
CROWDED = 0.15  # share that get another clip behind them
NOISE_DB, CROWD_DB = (0.0, 30.0), (5.0, 25.0)  # below the clip's mean power
BANDS, FRAMES = 12, 15  # the widest masks; 15 frames: 0.15 s
FRAMES_APART = 100  # one mask of frames for so many
_DB = math.log(10) / 10  # nepers of power


def augment(
    mels: Tensor, lengths: Tensor, rng: np.random.Generator, generator: torch.Generator, noise: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(batch, frames, bands) log-mel with `lengths` (batch,) on the CPU → the same with other frames and lengths.

    rng draws what concerns a clip as a whole; `generator`, on the device of `mels`, draws the noise. noise: how many
    clips get noise or another clip, relative to NOISY and CROWDED.
    """
    mels, lengths = _stretch(mels, lengths, rng)
    mels = _add_crowd(mels, lengths, rng, noise * CROWDED)
    mels = _add_noise(mels, rng, generator, noise * NOISY)
    return _mask(mels, lengths, rng), lengths


def _stretch(mels: Tensor, lengths: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Bilinear resampling of each clip along time by its speed, and along frequency by its voice."""
    batch, frames, bands = mels.shape
    speed = np.exp(rng.uniform(-SPEED, SPEED, batch))
    voice = torch.from_numpy(np.exp(rng.uniform(-VOICE, VOICE, batch))).float()
    longer = torch.from_numpy(np.maximum(1, np.round(lengths.numpy() / speed))).long()
    time = (torch.arange(int(longer.max())) + 0.5)[None] * (lengths / longer)[:, None]  # in frames of `mels`
    band = (torch.arange(bands) + 0.5)[None] * voice[:, None]
    band, time = ((band * 2 / bands - 1).to(mels.device), (time * 2 / frames - 1).float().to(mels.device))
    grid = torch.stack(torch.broadcast_tensors(band[:, None, :], time[:, :, None]), -1)
    stretched = F.grid_sample(mels[:, None], grid, "bilinear", padding_mode="border", align_corners=False)
    return stretched[:, 0], longer


def _mean_power(mels: Tensor, lengths: Tensor) -> Tensor:
    """ln of the mean mel power of each clip, (batch, 1, 1)."""
    within = (torch.arange(mels.shape[1])[None] < lengths[:, None]).to(mels.device)
    power = (mels.exp().mean(-1) * within).sum(1) / within.sum(1)
    return power.clamp_min(1e-9).log()[:, None, None]


def _some(rng: np.random.Generator, batch: int, share: float, below_db: tuple[float, float]) -> Tensor:
    """(batch, 1, 1) levels in nepers for a random `share` of the clips, −inf for the others."""
    level = np.where(rng.random(batch) < share, -_DB * rng.uniform(*below_db, batch), -np.inf)
    return torch.from_numpy(level).float()[:, None, None]


def _add_crowd(mels: Tensor, lengths: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """Another clip of the batch, quieter, behind some of them."""
    if len(mels) < 2:
        return mels
    level = _some(rng, len(mels), share, CROWD_DB).to(mels.device)
    power = _mean_power(mels, lengths)
    other = (mels - power).roll(1, 0)
    return torch.logaddexp(mels, other + power + level)


def _add_noise(mels: Tensor, rng: np.random.Generator, generator: torch.Generator, share: float) -> Tensor:
    """Steady noise: its spectrum is a random line through 6 points, its power scatters as that of filtered noise."""
    batch, _, bands = mels.shape
    level = _some(rng, batch, share, NOISE_DB)
    points = torch.from_numpy(rng.normal(0, 2, (batch, 1, 6))).float()
    spectrum = F.interpolate(points, bands, mode="linear", align_corners=True)
    spectrum = spectrum - spectrum.exp().mean(-1, keepdim=True).log()
    power = mels.flatten(1).exp().mean(1).clamp_min(1e-9).log()[:, None, None]
    # ln of a mean of four exponential variables: near normal with a deviation of 0.53
    scatter = 0.53 * torch.randn(mels.shape, generator=generator, device=mels.device)
    return torch.logaddexp(mels, (spectrum + level).to(mels.device) + power + scatter)


def _mask(mels: Tensor, lengths: Tensor, rng: np.random.Generator) -> Tensor:
    """Two masks of bands for a clip, and one of frames for each FRAMES_APART of its frames."""
    batch, frames, bands = mels.shape
    hidden = np.zeros((batch, frames, bands), bool)
    for clip, length in zip(hidden, lengths.tolist()):
        for _ in range(2):
            width = int(rng.integers(0, BANDS + 1))
            start = int(rng.integers(0, bands - width + 1))
            clip[:, start : start + width] = True
        for _ in range(max(1, length // FRAMES_APART)):
            start = int(rng.integers(0, length))
            clip[start : start + int(rng.integers(0, FRAMES + 1))] = True
    mean = mels.mean((1, 2), keepdim=True)
    return torch.where(torch.from_numpy(hidden).to(mels.device), mean, mels)
