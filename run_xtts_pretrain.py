"""Run single steps of the pipeline in this process, or the training in several.

python run_xtts_pretrain.py --config xtts_pretrain_config.json --step language_model
torchrun --nproc_per_node 8 run_xtts_pretrain.py --config xtts_pretrain_config.json --step full_pretrain
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, load_config
from xtts_ka.core.console import heading, say
from xtts_ka.core.errors import UserError

if TYPE_CHECKING:
    from pretrain_xtts_model import PretrainPipeline

STEPS = {
    "language_model": "language",
    "phoneme_model": "phonemes",
    "xtts_init": "xtts_init",
    "full_pretrain": "full_pretrain",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run one training step of the pipeline, or all of them in order, in this process.",
        epilog="example: python run_xtts_pretrain.py --config xtts_pretrain_config.json --step full_pretrain",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="JSON config (default: %(default)s)")
    parser.add_argument("--step", choices=STEPS, help="the step to run (default: all of them in order)")
    add_verbosity_flags(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """One step as `--only` would run it, or each in order where it is due; in several processes, the training alone."""
    config = load_config(args.config)
    from xtts_ka.training.process_group import joined, world_size

    if world_size() > 1 and args.step != "full_pretrain":
        raise UserError(
            "several processes can share the training only: add --step full_pretrain, and run the other steps "
            "without torchrun or accelerate launch"
        )
    from pretrain_xtts_model import PretrainPipeline

    with joined(config) as peers:
        pipeline = PretrainPipeline(config, peers)
        lead(args, pipeline) if peers.is_main else follow(pipeline)


def lead(args: argparse.Namespace, pipeline: PretrainPipeline) -> None:
    """Hold the lock, decide what is due, and run it; the other processes are called when training begins."""

    def announce(decision) -> None:
        heading(f"{decision.stage.name}: {decision.reason}")
        pipeline.peers.tell(decision.stage.name, "due" if decision.run else "not due")

    with pipeline.ledger.locked():
        pipeline.prepare()
        for step in [args.step] if args.step else STEPS:
            only = STEPS[step] if args.step else None
            decisions = pipeline.plan(only=only, config_path=args.config)
            pipeline.run([d for d in decisions if d.stage.name == STEPS[step]], before=announce)
    say("\nnext: " + command("checkpoint_monitor.py", "--config", args.config))


def follow(pipeline: PretrainPipeline) -> None:
    """Train beside the main process, which has prepared and decided everything."""
    if pipeline.peers.hear("full_pretrain") == "due":
        from pretrain_xtts_model import XTTSPretrainer

        pipeline.use_what_is_there()
        XTTSPretrainer(pipeline.config, pipeline.peers).run()


def _leads() -> bool:
    """Whether this is the only process, or the first of a job: it looks, decides and speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    args.quiet |= not _leads()  # one process speaks for all; errors and warnings come from each
    return run_cli(lambda: run(args), args)


if __name__ == "__main__":
    sys.exit(main())
