"""Adapt XTTS-v2 to Georgian: embeddings → phonemes → language → xtts_init → full_pretrain.

The same command after a crash carries on. Heavy imports happen inside a stage.
"""

from __future__ import annotations

import argparse
import sys

from console import add_verbosity_flags, heading, run_cli, say, style
from pretrain_config import DEFAULT_CONFIG, load_config

STAGE_NAMES = ("embeddings", "phonemes", "language", "xtts_init", "full_pretrain")
KEY_FIGURES = {"embeddings": "speakers", "phonemes": "heldout_per", "language": "new_tokens", "xtts_init": "new_rows",
               "full_pretrain": "best_val_loss"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Adapt XTTS-v2 to Georgian, stage by stage: " + " → ".join(STAGE_NAMES) + ". Run it again after a crash: it carries on.",
        epilog="example: python run_pretrain.py --config xtts_pretrain_config.json --dry-run")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="JSON config (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="run every stage again")
    parser.add_argument("--only", choices=STAGE_NAMES, help="run this one stage again; those it needs must be done")
    parser.add_argument("--dry-run", action="store_true", help="print per stage whether it would run, and why; change nothing")
    add_verbosity_flags(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Validate the config first, then import what is heavy."""
    config = load_config(args.config)
    from pretrain_xtts_model import PretrainPipeline
    from stage_ledger import describe

    pipeline = PretrainPipeline(config)
    missing = pipeline.missing_inputs()
    if args.dry_run and missing and config.starter.enabled:
        for sentence in missing:
            say(f"starter would first make a stand-in: {sentence.split(':')[0]}")
        for name in STAGE_NAMES:
            say(f"{name:<14} runs  never run on these inputs")
        return 0
    if args.dry_run and not missing:
        pipeline.use_what_is_there()
        for line in describe(pipeline.plan(only=args.only, force=args.force, config_path=args.config)):
            say(line)
        return 0
    with pipeline.ledger.locked():
        pipeline.prepare()
        rows = _run_stages(pipeline, args)
    _summary(rows, config.output_model_path, args.config)
    return 0


def _run_stages(pipeline, args: argparse.Namespace) -> list[tuple[str, ...]]:
    rows = []

    def before(decision) -> None:
        heading(f"{decision.stage.name}: {decision.reason}")

    def after(decision, entry) -> None:
        key = KEY_FIGURES[decision.stage.name]
        value = entry["metrics"].get(key)
        figure = f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        rows.append((decision.stage.name, "done" if decision.run else "skipped", f"{entry['seconds']:.0f} s", figure))
        say(style(f"{decision.stage.name} {rows[-1][1]}", "green") + f"  {figure}")

    pipeline.run(pipeline.plan(only=args.only, force=args.force, config_path=args.config), before=before, after=after)
    return rows


def _summary(rows: list[tuple[str, ...]], model: str, config_path: str) -> None:
    heading("summary")
    for row in (("stage", "status", "time", "key figure"), *rows):
        say(f"{row[0]:<14} {row[1]:<8} {row[2]:>7}  {row[3]}")
    say(f"\nthe model stands in {model}\nnext: python checkpoint_monitor.py --config {config_path} --plot")


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_cli(lambda: run(args), args)


if __name__ == "__main__":
    sys.exit(main())
