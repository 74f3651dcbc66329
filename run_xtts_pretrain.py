"""Run single steps of the pipeline in one process, or the training in several.

python run_xtts_pretrain.py --config xtts_pretrain_config.json --step language_model
torchrun --nproc_per_node 8 run_xtts_pretrain.py --config xtts_pretrain_config.json --step full_pretrain
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError

if TYPE_CHECKING:
    from xtts_ka.core.stage_ledger import Decision
    from xtts_ka.training.process_group import Peers

STEPS = {"language_model": "language", "phoneme_model": "phonemes"}  # --step → stage
SHARED = ("dvae", "full_pretrain", "decoder")  # steps that several processes can share
STEPS |= {name: name for name in ("xtts_init", *SHARED)}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run one step of the pipeline, or every stage that is due, in this process.",
        epilog="example: python run_xtts_pretrain.py --config xtts_pretrain_config.json --step full_pretrain",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="JSON config (default: %(default)s)")
    parser.add_argument("--step", choices=STEPS, help="the step to run (default: every stage that is due)")
    add_verbosity_flags(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Run one step as `--only` does, or every stage that is due; several processes share a training alone."""
    config = load_config(args.config)
    if args.step:
        config.needs_stage(STEPS[args.step])
    from xtts_ka.training.process_group import joined, world_size

    if world_size() > 1 and args.step not in SHARED:
        steps = ", ".join(f"--step {step}" for step in SHARED if step in config.stages())
        raise UserError(f"several processes can share a training only: add one of {steps}, or start one process")
    with joined(config) as peers:
        lead(args, config, peers) if peers.is_main else follow(args.step, config, peers)


def lead(args: argparse.Namespace, config: PretrainConfig, peers: Peers) -> None:
    """Hold the lock, decide what is due and run it; the other processes are told when training begins."""
    from pretrain_xtts_model import PretrainPipeline, announce

    def before(decision: Decision) -> None:
        announce(decision)
        peers.tell(decision.stage.name, "due" if decision.run else "not due")

    PretrainPipeline(config, peers).run(only=STEPS.get(args.step), before=before)
    say("\nnext: " + command("checkpoint_monitor.py", "--config", args.config))


def follow(step: str, config: PretrainConfig, peers: Peers) -> None:
    """Train beside the main process, which prepares and decides everything."""
    if peers.hear(step) == "due":
        from pretrain_xtts_model import PretrainPipeline

        next(stage for stage in PretrainPipeline(config, peers).ledger.stages if stage.name == step).run()


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    args.quiet |= os.environ.get("RANK", "0") != "0"  # the first of several processes speaks for all; all may warn
    return run_cli(lambda: run(args), args)


if __name__ == "__main__":
    sys.exit(main())
