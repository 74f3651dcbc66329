"""Makes the stand-in base from nothing: see README.md beside this file.

python recipes/starter_base/make_base.py --work DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import xtts_ka  # noqa: F401  first of all: it refuses other versions of Python

# isort: split
import argparse
import importlib
import time
from typing import NamedTuple

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import say


class Step(NamedTuple):
    """A step: `<function>(work, options)` of a module beside this file leaves `output` in the work folder.

    minutes: how long it trains, where it is a training.
    """

    module: str
    function: str
    output: str
    minutes: float | None = None


STEPS = {
    "texts": Step("texts", "run", "texts.jsonl.gz"),
    "speech": Step("speech", "run", "speech/clips.jsonl"),
    "phonemes": Step("phonemes", "run", "phonemes.safetensors", 45),
    "dvae": Step("dvae", "run", "dvae.safetensors", 120),
    "speakers": Step("speakers", "run", "speaker_encoder.safetensors", 15),
    "codes": Step("codes", "run", "codes.npz"),
    "gpt": Step("gpt", "run", "gpt.safetensors", 240),
    "decoder": Step("decoder", "run", "decoder.safetensors", 60),
    "pack": Step("pack", "run", "base/base.json"),
}


def make_base(options: argparse.Namespace) -> None:
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.steps:
        step, begun = STEPS[name], time.monotonic()
        if (options.work / step.output).exists():
            say(f"{name:<11} {options.work / step.output} is there")
            continue
        say(f"\n── {name} ──")
        getattr(importlib.import_module(f"recipes.starter_base.{step.module}"), step.function)(options.work, options)
        say(f"{name:<11} {time.monotonic() - begun:.1f} s")


def _steps(given: str) -> list[str]:
    names = given.split(",")
    if unknown := [name for name in names if name not in STEPS]:
        raise argparse.ArgumentTypeError(f"no step {unknown[0]!r}: they are {', '.join(STEPS)}")
    return [name for name in STEPS if name in names]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the stand-in base from nothing, or what of it is missing.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of all intermediate results")
    parser.add_argument("--steps", type=_steps, default=list(STEPS), help=f"some of {','.join(STEPS)} (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="copy the networks there too, while they are trained")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that speak side by side (default: %(default)s)")
    parser.add_argument("--clips", type=int, help="use so many sentences only, for a rehearsal")
    for name, step in STEPS.items():
        if step.minutes:
            text = f"how long {name} is trained (default: %(default)s, for two CPU cores)"
            parser.add_argument(f"--minutes-{name}", type=float, default=step.minutes, metavar="M", help=text)
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: make_base(args), args)


if __name__ == "__main__":
    sys.exit(main())
