"""Speaks test sentences with a model, listens to them, and reports how well they can be understood.

    python evaluate_model.py --config xtts_pretrain_config.json

Writes report.html, results.csv and report.json. Every clip is kept when it is finished: run the same command again to
carry on. docs/evaluation.md says how each figure is measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, load_config
from xtts_ka.core.console import say

SENTENCES = Path(__file__).parent / "data/evaluation_sentences_ka"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Speak sentences with the trained model, listen to them, and report errors, faults and likeness.",
        epilog=f"example: python evaluate_model.py --config {DEFAULT_CONFIG} --sentences 5",
    )
    add = parser.add_argument
    add("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    add("--model", nargs="+", type=Path, default=[], metavar="DIR", help="model folders (default: the config's)")
    add("--checkpoints", nargs="+", type=Path, default=[], metavar="DIR", help="training checkpoints to compare")
    texts = "files of one text a line (default: the test split's sentences, and short, long, number and question sets)"
    add("--texts", nargs="+", type=Path, default=[], metavar="FILE", help=texts)
    add(
        "--sentences",
        type=_count,
        metavar="N",
        help="texts of each kind (default: all of --texts; else 20 on a GPU, 1 on a CPU)",
    )
    add("--speakers", nargs="+", default=[], metavar="NAME", help="voices (default: the 3 most recorded; 2 on a CPU)")
    add("--reference", nargs="+", type=Path, default=[], metavar="WAV", help="recordings whose voices are cloned")
    asr = "a transformers folder, or a command that prints what a wav says ({wav} in it is the path); repeat to compare"
    add("--asr", action="append", default=[], metavar="DIR|COMMAND", help=f"{asr} (default: the project's recogniser)")
    add("--seeds", type=_count, default=1, metavar="N", help="times each text is spoken (default: %(default)s)")
    guard = "times a text with a fault is spoken at most, as by synthesize.py (default: %(default)s)"
    add("--attempts", type=_count, default=3, metavar="N", help=guard)
    add("--no-guard", action="store_true", help="measure the model alone: every text is spoken once")
    add("--output", type=Path, metavar="DIR", help="folder of clips and report (default: evaluation in log_dir)")
    add_verbosity_flags(parser)
    return parser


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 10**6):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    def run() -> None:
        from xtts_ka.starter.own_values import with_section_values

        config = with_section_values(load_config(args.config))
        output = args.output or Path(config.log_dir) / "evaluation"
        from xtts_ka.evaluation.evaluate import Request, evaluate
        from xtts_ka.evaluation.report import NAMES, summary_lines, write_report
        from xtts_ka.evaluation.texts import KEPT_SETS

        request = Request(
            output=output,
            kept_sets=[SENTENCES / f"{name}.txt" for name in KEPT_SETS],
            models=args.model,
            checkpoints=args.checkpoints,
            texts=args.texts,
            speakers=args.speakers,
            references=args.reference,
            asr=args.asr,
            seeds=args.seeds,
            sentences=args.sentences,
            attempts=0 if args.no_guard else args.attempts,
        )
        report = write_report(evaluate(config, request), _settings(args, config.seed), output)
        for line in summary_lines(report):
            say(line)
        factors = report["times"]["real_time_factor"]
        say(f"real-time factor {', '.join(f'{label} {factor}' for label, factor in factors.items())}", verbose=True)
        say(f"written: {', '.join(str(output / name) for name in NAMES)}")

    return run_cli(run, args)


def _settings(args: argparse.Namespace, seed: int) -> dict:
    """What was asked for, as the report states it."""
    paths = {
        name: [str(path) for path in getattr(args, name)] for name in ("model", "checkpoints", "texts", "reference")
    }
    others = {name: getattr(args, name) for name in ("speakers", "asr", "seeds", "sentences", "attempts", "no_guard")}
    return {**paths, **others, "seed": seed}


if __name__ == "__main__":
    sys.exit(main())
