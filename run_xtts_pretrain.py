"""Run single steps of the pipeline in this process.

    python run_xtts_pretrain.py --config xtts_pretrain_config.json --step language_model
"""

from __future__ import annotations

import argparse
import os
import sys

from console import UserError, add_verbosity_flags, heading, run_cli, say
from pretrain_config import DEFAULT_CONFIG, load_config

STEPS = {"language_model": "language", "phoneme_model": "phonemes", "xtts_init": "xtts_init", "full_pretrain": "full_pretrain"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run one training step of the pipeline, or all of them in order, in this process.",
        epilog="example: python run_xtts_pretrain.py --config xtts_pretrain_config.json --step full_pretrain")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="JSON config (default: %(default)s)")
    parser.add_argument("--step", choices=STEPS, help="the step to run (default: all of them in order)")
    add_verbosity_flags(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """One step as `--only` would run it, or each in order where it is due."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("training in several processes is not finished yet: start it without torchrun or accelerate launch")
    config = load_config(args.config)
    from pretrain_xtts_model import PretrainPipeline

    pipeline = PretrainPipeline(config)
    steps = [args.step] if args.step else list(STEPS)
    with pipeline.ledger.locked():
        pipeline.prepare()
        for step in steps:
            only = STEPS[step] if args.step else None
            decisions = pipeline.plan(only=only, config_path=args.config)
            wanted = [d for d in decisions if d.stage.name == STEPS[step]]
            pipeline.run(wanted, before=lambda d: heading(f"{d.stage.name}: {d.reason}"))
    say(f"\nnext: python checkpoint_monitor.py --config {args.config}")


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_cli(lambda: run(args), args)


if __name__ == "__main__":
    sys.exit(main())
