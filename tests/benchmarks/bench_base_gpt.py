"""How fast the stand-in base's GPT is trained: python tests/benchmarks/bench_base_gpt.py --work DIR [--seconds 4]

DIR: of recipes/starter_base/make_base.py, its step `codes` done. For each number of layers and positions of a step:
steps, clips and positions a second, and the GPU's memory. Nothing is kept.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes")]

import torch

from starter_base.feed import Feed
from starter_base.gpt import SNAPSHOTS, BaseGPT, TimedLoop, codebook, config_of, measure, new_gpt
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.training.checkpoint_manager import CheckpointManager


def measured(feed: Feed, work: Path, layers: int, positions: int, seconds: float, compiled: bool, folder: Path) -> str:
    feed.step_positions = positions
    config = config_of(work, feed, feed.clips.device, positions, 3e-3, compiled)
    model = BaseGPT(new_gpt(layers), codebook(work), 100)
    on_gpu = feed.clips.device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    manager = CheckpointManager(folder, "bench", 2)
    loop = TimedLoop(model, feed, manager, None, config, 60, None)
    loop.progress.epoch = 5  # clips of all lengths
    steps, done, clips, tokens, begun = loop._steps(), 0, 0, 0, math.inf
    warm = 8
    while time.monotonic() - begun < seconds:
        if done == warm:
            if on_gpu:
                torch.cuda.synchronize()
            begun = time.monotonic()
        batches = next(steps)
        loop._train_step(batches)
        loop.progress.step += 1
        done += 1
        if done > warm:
            clips += sum(batch["shape"][0] for batch in batches)
            tokens += sum(batch["shape"][0] * batch["shape"][1] for batch in batches)
    if on_gpu:
        torch.cuda.synchronize()
    took = time.monotonic() - begun
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if on_gpu else "-"
    pace = f"{(done - warm) / took:6.2f} steps/s {clips / took:8.0f} clips/s {tokens / took:9.0f} positions/s"
    return f"{layers} layers {positions:>7} positions{' compiled' if compiled else ''}: {pace}  {memory}"


def trained(feed: Feed, work: Path, layers: int, positions: int, rate: float, seconds: float, folder: Path) -> str:
    """What a training of so many seconds reaches with this peak rate."""
    feed.step_positions = positions
    torch.manual_seed(1)
    config = config_of(work, feed, feed.clips.device, positions, rate)
    model = BaseGPT(new_gpt(layers), codebook(work), 100)
    (folder / SNAPSHOTS).mkdir(parents=True, exist_ok=True)
    loop = TimedLoop(model, feed, CheckpointManager(folder, "bench", 2), None, config, seconds / 60, None)
    loop.progress.epoch = 5
    loop.start(None)
    loop.fit()
    found = measure(loop, feed)
    figures = f"nats a code {found['audio']:.4f}, with another text {found['audio_wrong_text']:.4f}"
    return (
        f"rate {rate:g}, {layers} layers, {positions} positions, {seconds:g} s: {loop.progress.step} steps, {figures}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 6])
    parser.add_argument("--positions", type=int, nargs="+", default=[16384, 32768, 65536])
    parser.add_argument("--compile", action="store_true", help="measure the first size compiled too")
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="also train with these learning rates")
    parser.add_argument("--rate-seconds", type=float, default=12.0, help="how long each is trained")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    begun = time.monotonic()
    feed = Feed(args.work, choose_device(args.device), args.positions[0], seed=1)
    print(f"feed {time.monotonic() - begun:.1f} s", flush=True)
    sizes = [(layers, positions, False) for layers in args.layers for positions in args.positions]
    sizes += [(args.layers[0], args.positions[-1], True)] if args.compile else []
    with tempfile.TemporaryDirectory() as scratch:
        for layers, positions, compiled in sizes:
            print(measured(feed, args.work, layers, positions, args.seconds, compiled, Path(scratch)), flush=True)
        for rate in args.rates:
            folder = Path(scratch) / f"{rate}"
            print(
                trained(feed, args.work, args.layers[0], args.positions[-1], rate, args.rate_seconds, folder),
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
