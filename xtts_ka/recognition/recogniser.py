"""The project's own recogniser: log-mel spectrogram → convolutions → bidirectional GRU → CTC over the letters.

Its folder holds `model.safetensors` and `recogniser.json`: settings, what it was trained on, its fingerprint, and its
error rates on recordings that it was not trained on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torchaudio.functional import resample
from torchaudio.transforms import MelSpectrogram

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.recognition.symbols import BLANK, SYMBOLS, decode

RATE = 16_000  # Hz at which it listens
HOP = 160  # samples between mel frames: 10 ms
MELS = 80
STRIDE = 4  # mel frames per frame of the network
SECONDS_PER_FRAME = HOP * STRIDE / RATE
FLOOR = 1e-6  # mel power; what is quieter counts as silence
FORMAT = 1  # version of the folder's files
WEIGHTS, FACTS = "model.safetensors", "recogniser.json"
_KERNEL = 5
_TOGETHER = 120.0  # seconds of padded audio in one batch of inference
REMEDY = "delete the folder, and it is trained again"


@functools.cache
def _mel() -> MelSpectrogram:
    return MelSpectrogram(RATE, n_fft=512, win_length=400, hop_length=HOP, n_mels=MELS, f_min=20.0)


def log_mel(wave: Tensor) -> Tensor:
    """(samples,) at RATE, on the CPU → natural logarithm of mel power, (frames, MELS), a frame per HOP samples."""
    if len(wave) < HOP:
        return torch.full((1, MELS), math.log(FLOOR))
    padded = F.pad(wave, (0, max(0, 400 - len(wave))))  # the transform reflects 256 samples at either end
    return _mel()(padded).clamp_min(FLOOR).log().T[: max(1, len(wave) // HOP)]


class CtcNetwork(nn.Module):
    """log-mel (batch, frames, MELS) → log-probabilities (batch, frames / STRIDE, symbols).

    Nothing behind a clip's end takes part, so a clip's result does not depend on its batch.
    """

    def __init__(self, dim: int, layers: int, dropout: float = 0.1):
        super().__init__()
        pad = _KERNEL // 2
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, dim, _KERNEL, stride=2, padding=pad) for inputs in (MELS, dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.convolutions)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.GRU(
            dim, dim, layers, batch_first=True, bidirectional=True, dropout=dropout if layers > 1 else 0.0
        )
        self.output = nn.Linear(2 * dim, len(SYMBOLS))

    def forward(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """lengths: (batch,) mel frames of each clip, on the CPU. Returns log-probabilities and their lengths."""
        x = centred(mels, lengths)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x.transpose(1, 2)).transpose(1, 2)
            lengths = (lengths + 1) // 2
            x = self.dropout(F.gelu(norm(x))) * inside(x, lengths)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]
        return self.output(self.dropout(x)).float().log_softmax(-1), lengths


def inside(x: Tensor, lengths: Tensor) -> Tensor:
    """(batch, time, 1) of `x`'s type: 1 before each row's length, 0 behind it."""
    return (torch.arange(x.shape[1])[None] < lengths[:, None])[..., None].to(x)


def centred(mels: Tensor, lengths: Tensor) -> Tensor:
    """`mels` less the mean of each band over its clip (what differs by microphone and loudness), 0 behind its end."""
    mask = inside(mels, lengths)
    mean = (mels * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return (mels - mean) / 3.0 * mask  # the standard deviation of speech is about 3 nepers


class Recogniser:
    """A trained recogniser: a `listener.Listener`, and the log-probabilities that forced alignment needs.

    facts: what recogniser.json holds. Log-probabilities are over `symbols`, of which the first is CTC's blank (""), and
    a frame is `seconds_per_frame` long.
    """

    symbols = SYMBOLS
    seconds_per_frame = SECONDS_PER_FRAME

    def __init__(self, network: CtcNetwork, facts: dict[str, Any], device: str = "cpu"):
        self.network, self.facts, self.device = network.to(device).eval(), facts, device
        self.name = f"the project's recogniser {facts['fingerprint'][:8]}"

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Recogniser:
        """The recogniser in `folder`. UserError where there is none, or where a file of it is damaged."""
        facts = read_json(Path(folder) / FACTS, "the recogniser", "train it with python evaluate_model.py")
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            network = CtcNetwork(int(facts["settings"]["dim"]), int(facts["settings"]["layers"]))
            network.load_state_dict(load_file(Path(folder) / WEIGHTS))
            return cls(network, facts, device)
        except (LookupError, TypeError, ValueError, RuntimeError, SafetensorError, FileNotFoundError) as error:
            reason = str(error).splitlines()[0][:160]
            raise UserError(f"the recogniser in {folder} cannot be used ({reason}): {REMEDY}") from None

    @torch.inference_mode()
    def log_probs(self, waves: Sequence[np.ndarray], rate: int) -> list[Tensor]:
        """Log-probabilities of each wave (mono float32 in [-1, 1] at `rate` Hz): float32 (frames, symbols), on the CPU.

        Waves of similar length are computed together; the result does not depend on which.
        """
        mels = [log_mel(resample(torch.from_numpy(np.asarray(wave, np.float32)), rate, RATE)) for wave in waves]
        found: list[Tensor] = [torch.empty(0)] * len(mels)
        for batch in batches_by_length([len(mel) for mel in mels], _TOGETHER * RATE / HOP):
            lengths = torch.tensor([len(mels[i]) for i in batch])
            padded = pad_sequence([mels[i] for i in batch], batch_first=True).to(self.device)
            rows, frames = self.network(padded, lengths)
            for i, row, count in zip(batch, rows.cpu(), frames.tolist()):
                found[i] = row[:count].clone()
        return found

    def hear(self, waves: Sequence[np.ndarray], rate: int) -> list[str]:
        """As `Listener.hear`: the likeliest symbol of every frame."""
        return [greedy(row) for row in self.log_probs(waves, rate)]


def greedy(log_probs: Tensor) -> str:
    """(frames, symbols) → the text of the likeliest symbol of each frame, repeats merged, with single spaces."""
    best = torch.unique_consecutive(log_probs.argmax(-1)).tolist()
    return " ".join(decode(i for i in best if i != BLANK).split())


def batches_by_length(lengths: Sequence[int], limit: float) -> list[list[int]]:
    """All indices in batches of similar length, shortest first; padded to its longest a batch has at most `limit`."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= limit:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
