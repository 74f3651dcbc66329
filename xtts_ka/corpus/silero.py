"""silero-vad's network over whole clips: the probability that somebody speaks, for each 32 ms.

Its wheel carries the weights (MIT) as a TorchScript module that judges 32 ms at a time, 28 × real time on one core.
Here the same layers judge all chunks of many clips at once: convolutions over each chunk, then one recurrent pass over
each clip. The numbers are those of the original (tests/corpus/test_silero.py) at 600 × real time.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE = 16_000  # Hz at which it listens
CHUNK = 512  # samples of which it gives one probability
SECONDS_PER_CHUNK = CHUNK / RATE
_CONTEXT, _REFLECTED, _TOGETHER = 64, 64, 512  # samples before a chunk, and reflected behind it; chunks at once
_STRIDES = (1, 2, 2, 1)


@functools.cache
def _weights() -> tuple[dict[str, Tensor], nn.LSTM]:
    spec = importlib.util.find_spec("silero_vad")  # importing it would set torch to one thread
    assert spec is not None and spec.submodule_search_locations
    module = torch.jit.load(str(Path(spec.submodule_search_locations[0]) / "data" / "silero_vad.jit"))
    weights = dict(module._model.state_dict())
    lstm = nn.LSTM(128, 128, batch_first=True)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    lstm.load_state_dict({f"{kind}_l0": weights[f"decoder.rnn.{kind}"] for kind in kinds})
    return weights, lstm.requires_grad_(False)


@torch.inference_mode()
def speech_probabilities(waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of each wave (mono float32 at RATE): float32 (chunks,); the last chunk is padded with silence."""
    counts = [-(-len(wave) // CHUNK) for wave in waves]
    if not any(counts):
        return [np.zeros(0, np.float32) for _ in waves]
    weights, lstm = _weights()
    rows = [
        F.pad(torch.from_numpy(np.ascontiguousarray(wave, np.float32)), (_CONTEXT, count * CHUNK - len(wave))).unfold(
            0, _CONTEXT + CHUNK, CHUNK
        )
        for wave, count in zip(waves, counts)
        if count
    ]
    features = torch.cat([_encoded(part, weights) for part in torch.cat(rows).split(_TOGETHER)])
    clips = nn.utils.rnn.pad_sequence(features.split([count for count in counts if count]), batch_first=True)
    by_clip = iter(_decided(lstm(clips)[0], weights).numpy())
    return [next(by_clip)[:count] if count else np.zeros(0, np.float32) for count in counts]


class SpeechStream:
    """The same over consecutive pieces of one recording, however long: it keeps what the network remembers."""

    def __init__(self) -> None:
        self._before = torch.zeros(_CONTEXT)
        self._state: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """Of mono float32 samples at RATE, whole chunks: float32 (chunks,)."""
        if not len(wave):
            return np.zeros(0, np.float32)
        weights, lstm = _weights()
        samples = torch.cat([self._before, torch.from_numpy(np.ascontiguousarray(wave, np.float32))])
        self._before = samples[-_CONTEXT:].clone()
        chunks = samples.unfold(0, _CONTEXT + CHUNK, CHUNK)
        features = torch.cat([_encoded(part, weights) for part in chunks.split(_TOGETHER)])
        hidden, self._state = lstm(features[None], self._state)
        return _decided(hidden, weights)[0].numpy()


def _decided(hidden: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """What the LSTM gives, (clips, chunks, 128) → probabilities (clips, chunks)."""
    x = hidden.relu().transpose(1, 2)
    return F.conv1d(x, weights["decoder.decoder.2.weight"], weights["decoder.decoder.2.bias"]).sigmoid()[:, 0]


def _encoded(chunks: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """(chunks, context + chunk) samples → (chunks, 128)."""
    x = F.pad(chunks[:, None], (0, _REFLECTED), mode="reflect")
    x = F.conv1d(x, weights["stft.forward_basis_buffer"], stride=128)
    x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
    for i, stride in enumerate(_STRIDES):
        name = f"encoder.{i}.reparam_conv"
        x = F.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=stride, padding=1).relu()
    return x[..., 0]
