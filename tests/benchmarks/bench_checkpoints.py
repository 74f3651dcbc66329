"""What checkpoints cost the training loop, and how long carrying on takes.

    python tests/benchmarks/bench_checkpoints.py --work /tmp/bench --layers 4 --dim 256

Steps with and without a checkpoint being written are timed in turn, in one run, so that other load on the machine
affects both. The cost of a save is the time of the copy, which blocks the loop, and the time by which steps are slower
while the file is written. With the time of a validation it is given as a share of `validation_minutes`, here and, by
estimate, at full geometry. Then a new loop loads the last checkpoint and does one step.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/benchmarks")]

import torch
from bench_training import geometry_parser, prepare, synchronise

from data_loader import MAX_VALIDATION, DataManager, open_data
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.model.checkpoint import load_gpt
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator

# At full geometry: an H100 by docs/scaling.md's arithmetic, and a card of a tenth of its speed (assumptions, not
# measured); Common Voice's mean clip in seconds; seconds of waiting for a checkpoint (bench_checkpoint_writer.py).
RATES, MEAN_CLIP, FULL_COPY = (2500, 250), 5, 0.55


def timed_step(loop: PretrainLoop, steps) -> float:
    """Seconds of one training step, its data included."""
    began = synchronise(loop.accelerator.device)
    batches = next(steps)
    loop._train_step(batches)
    loop.progress.step += 1
    loop.progress.offset += 1
    return synchronise(loop.accelerator.device) - began


def cost_of_a_save(loop: PretrainLoop, steps, plain: float) -> tuple[float, float, float]:
    """(seconds of the copy, seconds by which steps are slower until the file is written, seconds of writing)."""
    began = synchronise(loop.accelerator.device)
    loop.save(1.0)
    blocked = synchronise(loop.accelerator.device) - began
    slowed = 0.0
    while not loop.checkpoints._pending.done():
        slowed += timed_step(loop, steps) - plain
    loop.checkpoints.wait()
    return blocked, slowed, time.perf_counter() - began


def print_full_geometry(data: DataManager, step: float, validation: float, minutes: float) -> None:
    """Estimate the share at full geometry from how much cheaper a second of audio is in validation than in training."""
    heard = sum(
        float(data.val.index.seconds[batch.clips].sum()) for part in data.val.batches().values() for batch in part
    )
    ratio = (validation / heard) / (step / data.step_seconds)
    say(f"a second of audio costs {ratio:.2f} times as much in validation as in training")
    for rate in RATES:
        cost = MAX_VALIDATION * MEAN_CLIP * ratio / rate + FULL_COPY
        share = 100 * cost / (60 * minutes)
        say(f"full geometry at {rate:,} s of audio a second: {cost:.1f} s every {minutes:g} minutes, {share:.2f} %")


def main() -> None:
    parser = geometry_parser(__doc__)
    parser.add_argument("--saves", type=int, default=5)
    args = parser.parse_args()
    config, model = prepare(args)
    accelerator = build_accelerator(config)
    data = open_data(config, str(accelerator.device))
    torch.set_num_threads(args.threads)
    folder = args.work / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)

    def fresh() -> PretrainLoop:
        compact = CompactGPT(load_gpt(model), config.training.dropout)
        return PretrainLoop(compact, data, CheckpointManager(folder, "bench"), None, config, accelerator, 10**6)

    loop = fresh()
    steps = loop._steps()
    for _ in range(3):
        timed_step(loop, steps)
    plain, costs = [], []
    for _ in range(args.saves):
        plain += [timed_step(loop, steps) for _ in range(8)]
        costs.append(cost_of_a_save(loop, steps, statistics.mean(plain)))
    step = statistics.mean(plain)
    blocked, slowed, written = (statistics.mean(column) for column in zip(*costs))
    began = synchronise(accelerator.device)
    loop.validate()
    validation = synchronise(accelerator.device) - began
    size = sum(file.stat().st_size for file in loop.checkpoints.last().folder.iterdir())
    minutes = PretrainConfig().training.validation_minutes
    share = 100 * (blocked + slowed + validation) / (60 * minutes)
    say(f"step {step:.3f} s; a checkpoint of {size / 1e6:.0f} MB is written in {written:.2f} s")
    say(f"the copy blocks the loop for {blocked:.3f} s, and the steps meanwhile are slower by {slowed:.3f} s in all")
    say(f"validation {validation:.2f} s; with a checkpoint every {minutes:g} minutes {share:.2f} % of the loop's time")
    print_full_geometry(data, step, validation, minutes)

    began = time.perf_counter()
    again = fresh()
    built = time.perf_counter()
    last = again.checkpoints.last()
    checked = time.perf_counter()
    again.start(last)
    loaded = time.perf_counter()
    timed_step(again, again._steps())
    say(f"resuming: model {built - began:.2f} s, checksums {checked - built:.2f} s")
    say(f"weights and moments {loaded - checked:.2f} s, first step {time.perf_counter() - loaded:.2f} s")


if __name__ == "__main__":
    main()
