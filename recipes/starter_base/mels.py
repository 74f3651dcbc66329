"""The DVAE's mels of all clips, on the device that trains: a batch of pieces is one indexing operation.

30 hours take 1.5 GB in float16. The mels are those of `model.features.dvae_mels`, divided by the base's own mel_stats.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram

from starter_base.speech import FOLDER, WAVES, Speech
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.model import geometry as g

MEL_STATS = "mel_stats.safetensors"  # `mel_stats`, (80,)
STATS_CLIPS = 2000  # that mel_stats is computed from
SILENCE = float(np.log(1e-5))  # the lowest log-mel
_TOGETHER = {"cuda": 2**24, "cpu": 2**21}  # samples transformed at once
_REFLECTED = g.MEL_WINDOW // 2


class Mels:
    """Normalised mels of some clips. frames: of each clip, on the CPU; len: the number of clips.

    scale: what the log-mels were divided by, (80,). lengths: as `ClipPieces` has it.
    """

    def __init__(self, frames: np.ndarray, scale: Tensor, device: str):
        self.device, self.scale, self.frames = device, scale.to(device), frames
        self.lengths = {"mels": frames}
        ends = np.cumsum(frames)
        self._starts = torch.from_numpy(ends - frames).to(device)
        self._values = torch.empty(int(ends[-1]), g.MEL_BANDS, dtype=torch.half, device=device)

    @classmethod
    def of(cls, log_mels: Sequence[Tensor], scale: Tensor, device: str) -> Mels:
        """Of log-mels in nepers, (frames, 80) each."""
        found = cls(np.array([len(mel) for mel in log_mels]), scale, device)
        for clip, mel in enumerate(log_mels):
            found.fill(np.array([clip]), mel[None])
        return found

    def fill(self, clips: np.ndarray, log_mels: Tensor) -> None:
        """Put in the log-mels (batch, frames, 80) of these clips; frames behind a clip's end are left out."""
        places = torch.arange(log_mels.shape[1], device=self.device)
        inside = places < torch.from_numpy(self.frames[clips]).to(self.device)[:, None]
        first = self._starts[torch.from_numpy(clips).to(self.device)]
        rows = log_mels.to(self.device)[inside] / self.scale
        self._values[(first[:, None] + places)[inside]] = rows.half()

    def __len__(self) -> int:
        return len(self.frames)

    def pieces(self, clips: np.ndarray, starts: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
        """Pieces of `size` frames, (batch, size, 80) float32 with silence behind a clip's end, and each one's frames.

        clips, starts: (batch,) numbers of clips and of the first frame in them.
        """
        left = torch.from_numpy(np.minimum(self.frames[clips] - starts, size)).to(self.device)
        first = self._starts[torch.from_numpy(clips).to(self.device)] + torch.from_numpy(starts).to(self.device)
        places = torch.arange(size, device=self.device)
        inside = places < left[:, None]
        rows = self._values[(first[:, None] + places).clamp(max=len(self._values) - 1)].float()
        return torch.where(inside[..., None], rows, SILENCE / self.scale), left

    def log_mels(self, clips: np.ndarray) -> tuple[Tensor, Tensor]:
        """Whole clips: (batch, frames, 80) in nepers, and the frames of each, on the CPU."""
        rows, _ = self.pieces(clips, np.zeros_like(clips), int(self.frames[clips].max()))
        return rows * self.scale, torch.from_numpy(self.frames[clips])


def load_mels(work: Path, speech: Speech, clips: Sequence[int], device: str) -> Mels:
    """Mels of these clips of `speech`; writes mel_stats where there is none yet."""
    return _load_mels(work, device, _Clips(speech, tuple(clips)))


class _Clips(NamedTuple):
    speech: Speech
    numbers: tuple[int, ...]

    def __hash__(self) -> int:
        return hash((self.speech.digest, self.numbers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Clips) and hash(self) == hash(other)


@functools.lru_cache(maxsize=4)  # two steps in one process read the same
def _load_mels(work: Path, device: str, clips: _Clips) -> Mels:
    waves = waves_on(work, clips.speech, device)
    starts = np.array([clips.speech.clips[number].start for number in clips.numbers])
    samples = np.array([clips.speech.clips[number].samples for number in clips.numbers])
    if not (work / MEL_STATS).is_file():
        chosen = np.random.default_rng(0).permutation(len(samples))[:STATS_CLIPS]
        save_tensors(work / MEL_STATS, {"mel_stats": _scale(waves, starts[chosen], samples[chosen])})
    found = Mels(g.frames_of(samples), load_file(work / MEL_STATS)["mel_stats"], device)
    for some, mels in _log_mels(waves, starts, samples):
        found.fill(some, mels)
    return found


def _scale(waves: Tensor, starts: np.ndarray, samples: np.ndarray) -> Tensor:
    """The mean absolute log-mel of each band, (80,)."""
    sums, frames = torch.zeros(g.MEL_BANDS, dtype=torch.float64), 0
    for some, mels in _log_mels(waves, starts, samples):
        inside = torch.arange(mels.shape[1]) < torch.from_numpy(g.frames_of(samples[some]))[:, None]
        sums += mels[inside.to(mels.device)].abs().sum(0).cpu().double()
        frames += int(inside.sum())
    return (sums / frames).float()


def waves_on(work: Path, speech: Speech, device: str) -> Tensor:
    """All samples, int16: on a CPU memory-mapped; else read, since on some virtual machines page faults are slow."""
    path = work / FOLDER / WAVES
    if device == "cpu":
        return torch.from_file(str(path), shared=False, size=len(speech.waves), dtype=torch.int16)
    return torch.from_numpy(np.fromfile(path, "<i2")).to(device)


def _log_mels(waves: Tensor, starts: np.ndarray, samples: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(numbers of clips, their log-mels (clips, frames, 80)), clips of similar length together."""
    transform = TorchMelSpectrogram(filter_length=g.MEL_WINDOW, sampling_rate=g.SAMPLE_RATE, mel_norm_file=None)
    transform.mel_stft.spectrogram.center = False  # the clips are reflected at their own ends
    transform = transform.to(waves.device)
    for some in _groups(samples, _TOGETHER[waves.device.type]):
        yield some, transform(_reflected(waves, starts[some], samples[some])).transpose(1, 2)


def _groups(samples: np.ndarray, most: int) -> Iterator[np.ndarray]:
    order, first = np.argsort(samples, kind="stable"), 0
    while first < len(order):
        last = first + 1
        while last < len(order) and (last + 1 - first) * (samples[order[last]] + 2 * _REFLECTED) <= most:
            last += 1
        yield order[first:last]
        first = last


def _reflected(waves: Tensor, starts: np.ndarray, samples: np.ndarray) -> Tensor:
    """(clips, samples) float32: each with half a window of its own reflection at either end."""
    last = torch.from_numpy(samples - 1).to(waves.device)[:, None]
    places = torch.arange(-_REFLECTED, int(samples.max()) + _REFLECTED, device=waves.device)[None].abs()
    places = torch.where(places > last, 2 * last - places, places).clamp(min=0)
    return waves[torch.from_numpy(starts).to(waves.device)[:, None] + places].float() / 32768
