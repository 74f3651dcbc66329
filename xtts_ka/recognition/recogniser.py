"""The project's own recogniser: log-mel spectrogram → convolutions and LSTMs → CTC over the letters.

Its folder holds `model.safetensors`, `ngram.safetensors` (a character n-gram of the training transcripts) and
`recogniser.json`: settings, what it was trained on, its fingerprint, and its error rates on recordings that it was not
trained on.
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
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchaudio.transforms import MelSpectrogram

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.corpus.resampling import resampled
from xtts_ka.georgian.character_ngram import CharacterNgram
from xtts_ka.recognition.beam_search import beam_search
from xtts_ka.recognition.symbols import BLANK, SYMBOLS, decode

RATE = 16_000  # Hz at which it listens
HOP = 160  # samples between mel frames: 10 ms
MELS = 80
STRIDE = 4  # mel frames per frame of the network
SECONDS_PER_FRAME = HOP * STRIDE / RATE
FLOOR = 1e-6  # mel power; what is quieter counts as silence
FORMAT = 2  # version of the folder's files
SHAPE = ("dim", "layers", "recurrent")  # the settings that the network is built from
WEIGHTS, NGRAM, FACTS = "model.safetensors", "ngram.safetensors", "recogniser.json"
_KERNEL = 5
_TOGETHER = 120.0  # seconds of padded audio in one batch of inference
REMEDY = "delete the folder, and it is trained again"


@functools.cache
def _mel() -> MelSpectrogram:
    return MelSpectrogram(RATE, n_fft=512, win_length=400, hop_length=HOP, n_mels=MELS, f_min=20.0)


def at_rate(wave: np.ndarray, rate: int) -> Tensor:
    """Mono samples at `rate` Hz → (samples,) float32 at RATE."""
    return torch.from_numpy(resampled(wave, rate, RATE))


def log_mel(wave: Tensor) -> Tensor:
    """(samples,) at RATE, on the CPU → natural logarithm of mel power, (frames, MELS), a frame per HOP samples."""
    if len(wave) < HOP:
        return torch.full((1, MELS), math.log(FLOOR))
    padded = F.pad(wave, (0, max(0, 400 - len(wave))))  # the transform reflects 256 samples at either end
    return _mel()(padded).clamp_min(FLOOR).log().T[: max(1, len(wave) // HOP)]


class _ConvBlock(nn.Module):
    """Pre-norm residual convolution over time, (batch, time, dim) → the same; `mask` zeroes what is behind a clip."""

    def __init__(self, dim: int, dilation: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.convolution = nn.Conv1d(dim, dim, _KERNEL, padding=_KERNEL // 2 * dilation, dilation=dilation)
        self.mixing = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = self.convolution((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(self.mixing(F.gelu(hidden)))


class _RecurrentBlock(nn.Module):
    """Pre-norm residual LSTM in both directions, (batch, time, dim) → the same.

    The clips are turned round within their own lengths: with padding in front, the backward direction would not begin
    as it does for a clip alone.
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        hidden = max(1, 2 * dim // 3)
        self.norm = nn.LayerNorm(dim)
        self.forth, self.back = (nn.LSTM(dim, hidden, batch_first=True) for _ in range(2))
        self.mixing = nn.Linear(2 * hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        given = self.norm(x) * mask
        steps, ends = torch.arange(x.shape[1])[None], lengths[:, None]
        turned = torch.where(steps < ends, ends - 1 - steps, steps)[..., None].to(x.device)
        forth, _ = self.forth(given)
        back, _ = self.back(given.gather(1, turned.expand_as(given)))
        hidden = torch.cat([forth, back.gather(1, turned.expand_as(back))], dim=-1)
        return x + self.dropout(self.mixing(hidden))


class CtcNetwork(nn.Module):
    """log-mel (batch, frames, MELS) → log-probabilities (batch, frames / STRIDE, symbols).

    Two convolutions with stride 2 (or `strides`), then `layers` residual ones with dilations 1, 2, 4, 8, 1, …, then
    `recurrent` LSTMs in both directions. Nothing behind a clip's end takes part, so a clip's result does not depend on
    its batch.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        dropout: float = 0.1,
        symbols: int = len(SYMBOLS),
        strides: tuple[int, int] = (2, 2),
        recurrent: int = 0,
    ):
        super().__init__()
        self._strides = strides
        self.strided = nn.ModuleList(
            nn.Conv1d(inputs, dim, _KERNEL, stride=stride, padding=_KERNEL // 2)
            for inputs, stride in zip((MELS, dim), strides)
        )
        self.blocks = nn.ModuleList(_ConvBlock(dim, 2 ** (i % 4), dropout) for i in range(layers))
        self.recurrent = nn.ModuleList(_RecurrentBlock(dim, dropout) for _ in range(recurrent))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, symbols)

    def forward(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """lengths: (batch,) mel frames of each clip, on the CPU. Returns log-probabilities and their lengths."""
        x, lengths = self.hidden(mels, lengths)
        return self.output(x).float().log_softmax(-1), lengths

    def hidden(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, but what the last layer takes in: (batch, frames / STRIDE, dim)."""
        x = centred(mels, lengths)
        for convolution, stride in zip(self.strided, self._strides):
            x = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))
            lengths = (lengths + stride - 1) // stride
            x = x * (mask := inside(x, lengths))
        for block in self.blocks:
            x = block(x, mask)
        for layer in self.recurrent:
            x = layer(x, mask, lengths)
        return self.norm(x), lengths


def inside(x: Tensor, lengths: Tensor) -> Tensor:
    """(batch, time, 1) of `x`'s type: 1 before each row's length, 0 behind it."""
    return (torch.arange(x.shape[1]) < lengths[:, None])[..., None].to(x)


def centred(mels: Tensor, lengths: Tensor) -> Tensor:
    """`mels` less the mean of each band over its clip (what differs by microphone and loudness), 0 behind its end."""
    mask = inside(mels, lengths)
    mean = (mels * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return (mels - mean) / 3.0 * mask  # the standard deviation of speech is about 3 nepers


class Recogniser:
    """A trained recogniser: a `listener.Listener`, and the log-probabilities that forced alignment needs.

    facts: what recogniser.json holds; ngram: of the training transcripts, for the beam search; without it, or with a
    beam of 1 in the settings, decoding is greedy. Log-probabilities are over `symbols`, of which the first is CTC's
    blank (""), and a frame is `seconds_per_frame` long.
    """

    symbols = SYMBOLS
    seconds_per_frame = SECONDS_PER_FRAME

    def __init__(
        self, network: CtcNetwork, facts: dict[str, Any], device: str = "cpu", ngram: CharacterNgram | None = None
    ):
        self.network, self.facts, self.device, self.ngram = network.to(device).eval(), facts, device, ngram
        self.name = f"the project's recogniser {facts['fingerprint'][:8]}"

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Recogniser:
        """The recogniser in `folder`. UserError where there is none, or where a file of it is damaged."""
        facts = read_json(Path(folder) / FACTS, "the recogniser", "train it with python evaluate_model.py")
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            dim, layers, recurrent = (int(facts["settings"][name]) for name in SHAPE)
            network = CtcNetwork(dim, layers, recurrent=recurrent)
            network.load_state_dict(load_file(Path(folder) / WEIGHTS))
            ngram = CharacterNgram.from_arrays(load_arrays(Path(folder) / NGRAM))
            return cls(network, facts, device, ngram)
        except (LookupError, TypeError, ValueError, RuntimeError, SafetensorError, FileNotFoundError) as error:
            reason = str(error).splitlines()[0][:160]
            raise UserError(f"the recogniser in {folder} cannot be used ({reason}): {REMEDY}") from None

    @torch.inference_mode()
    def log_probs(self, waves: Sequence[np.ndarray], rate: int) -> list[Tensor]:
        """Log-probabilities of each wave (float32 mono in [-1, 1], `rate` Hz): float32 (frames, symbols) on the CPU."""
        return self.log_probs_of_mels([log_mel(at_rate(wave, rate)) for wave in waves])

    @torch.inference_mode()
    def log_probs_of_mels(self, mels: Sequence[Tensor]) -> list[Tensor]:
        """The same of mels as `log_mel` computes them.

        Those of similar length are computed together; the result does not depend on which.
        """
        found: list[Tensor] = [torch.empty(0)] * len(mels)
        for batch in batches_by_length([len(mel) for mel in mels], _TOGETHER * RATE / HOP):
            lengths = torch.tensor([len(mels[i]) for i in batch])
            padded = pad_sequence([mels[i] for i in batch], batch_first=True).to(self.device)
            rows, frames = self.network(padded, lengths)
            for i, row, count in zip(batch, rows.cpu(), frames.tolist()):
                found[i] = row[:count].clone()
        return found

    def hear(self, waves: Sequence[np.ndarray], rate: int) -> list[str]:
        """As `Listener.hear`."""
        return [self.decode(row) for row in self.log_probs(waves, rate)]

    def decode(self, log_probs: Tensor) -> str:
        """The text of log-probabilities (frames, symbols), by the decoding that the settings say."""
        width = int(self.facts["settings"]["beam"])
        return greedy(log_probs) if width == 1 or not self.ngram else beam_search(log_probs, self.ngram, width=width)


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
