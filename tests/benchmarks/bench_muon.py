"""Seconds of a Muon step, this project's beside torch.optim.Muon, on matrices of the stand-in base's GPT.

    python tests/benchmarks/bench_muon.py --layers 6 --width 256 --threads 1

On a CPU ours orthogonalises in float32 and multiplies the wide matrices by one factor for all five iterations; torch's
takes matrix by matrix, in bf16. In turns, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch.nn import Parameter

from xtts_ka.core.console import say
from xtts_ka.training.optimizer import Muon

ROUNDS = 7


def weights(layers: int, width: int) -> list[Parameter]:
    """Queries, keys and values; their projection; the two halves of the feed-forward layer."""
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    torch.manual_seed(0)
    found = [Parameter(torch.randn(shape)) for _ in range(layers) for shape in shapes]
    for weight in found:
        weight.grad = torch.randn_like(weight)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, value in {"layers": 6, "width": 256, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    optimizers = {
        "ours": Muon([{"params": weights(args.layers, args.width), "muon": True}], lr=1e-3),
        "torch.optim.Muon": torch.optim.Muon(weights(args.layers, args.width), lr=1e-3),
    }
    seconds: dict[str, list[float]] = {name: [] for name in optimizers}
    for _ in range(ROUNDS + 1):
        for name, optimizer in optimizers.items():
            begun = time.perf_counter()
            optimizer.step()
            seconds[name].append(time.perf_counter() - begun)
    ours, theirs = (statistics.median(rounds[1:]) for rounds in seconds.values())  # the first one allocates
    say(f"ours {ours:.3f} s, torch.optim.Muon {theirs:.3f} s a step: {theirs / ours:.2f} times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
