"""Compares voice samples that clips of a speaker share with one for each clip, by what they reach at equal steps.

    python tests/benchmarks/exp_shared_voices.py --work /tmp/shared

Starter speech, untrained base models of 2 × 128 and 4 × 256, three seeds each, steps of 96 s (33 clips);
how many clips share a sample at most is `training.shared_voices`. Validation is the product's, in which no clip shares.
Runs go in parallel, one thread each; finished ones are kept in WORK, not run again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/benchmarks")]

import torch
from exp_scoring import all_lines, options, prepare, summary, validation_lines

from data_loader import open_data
from xtts_ka.core.console import say
from xtts_ka.core.files import write_json

STEPS = {(2, 128): 30, (4, 256): 15}  # by layers and width
STEP_SECONDS = 96.0


def run(work: Path, size: tuple[int, int], shared: int, seed: int, clips: int) -> list[dict]:
    """The validation lines of one training."""
    layers, dim = size
    folder = work / f"{layers}x{dim}" / f"{STEP_SECONDS:g}s_shared{shared}_{seed}"
    done = folder / "val.json"
    if not done.is_file():
        torch.set_num_threads(1)
        config, model = prepare(work, layers, dim, clips)
        steps = STEPS[size]
        changes = {"shared_voices": shared, "validation_interval": steps // 3}
        config = config.model_copy(
            update={
                "seed": seed,
                "batch_size": None,
                "batch_seconds": STEP_SECONDS,
                "training": config.training.model_copy(update=changes),
                "checkpoint_interval": steps,
            }
        )
        write_json(done, validation_lines(config, model, open_data(config), steps, folder))
    return json.loads(done.read_text())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--shared", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4], help="of the models")
    args = parser.parse_args()
    sizes = [size for size in STEPS if size[0] in args.layers]
    for size in sizes:  # the features are computed here, once for all runs of a size
        config, _ = prepare(args.work, *size, args.clips)
        open_data(config)
    lines = all_lines(run, args, sizes, args.shared)
    for size in sizes:
        say(f"\n{size[0]} × {size[1]}: nats a code of validation, mean (lowest–highest of {args.seeds} seeds)")
        for shared in args.shared:
            by_seed = [lines[size, seed, shared] for seed in range(1, args.seeds + 1)]
            say(f"  {shared} clips a sample  " + "  ".join(summary(same_step) for same_step in zip(*by_seed)))


if __name__ == "__main__":
    main()
