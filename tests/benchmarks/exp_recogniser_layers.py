"""What a layer of the recogniser costs on one CPU thread, forward and backward: 14 clips of 3 s at 25 frames a second.

python tests/benchmarks/exp_recogniser_layers.py
"""

from __future__ import annotations

import time

import torch
from torch import nn

CLIPS, FRAMES, REPEATS = 14, 75, 5


def milliseconds(layer: nn.Module, x: torch.Tensor) -> float:
    """CPU milliseconds of a forward and a backward pass, the mean of REPEATS after one to warm up."""
    began = 0.0
    for number in range(REPEATS + 1):
        if number == 1:
            began = time.process_time()
        out = layer(x)
        (out[0] if isinstance(out, tuple) else out).sum().backward()
    return (time.process_time() - began) / REPEATS * 1e3


def main() -> int:
    torch.set_num_threads(1)
    for dim in (192, 512):
        x = torch.randn(CLIPS, FRAMES, dim)
        layers = {
            "bidirectional GRU": (nn.GRU(dim, dim, 1, batch_first=True, bidirectional=True), x),
            "bidirectional LSTM": (nn.LSTM(dim, dim, 1, batch_first=True, bidirectional=True), x),
            "attention and feed-forward": (nn.TransformerEncoderLayer(dim, 4, 2 * dim, batch_first=True), x),
            "convolution of 5 frames": (nn.Conv1d(dim, dim, 5, padding=2), x.transpose(1, 2).contiguous()),
        }
        for name, (layer, given) in layers.items():
            print(f"dim {dim}, {name}: {milliseconds(layer, given):.0f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
