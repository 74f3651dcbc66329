"""Makes the stand-in base from nothing: see README.md beside this file.

python recipes/starter_base/make_base.py --work DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1]
if sys.path[:1] == [str(RECIPES / "starter_base")]:
    del sys.path[0]  # its modules are starter_base.…, and their names alone are common ones
for folder in (str(RECIPES), str(RECIPES.parent)):  # processes that are spawned get this path too
    if folder not in sys.path:
        sys.path.insert(0, folder)
import xtts_ka  # noqa: F401  first of all: it refuses other versions of Python

# isort: split
import argparse
import importlib
import os
import shutil
import subprocess
import time
from typing import NamedTuple

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import say
from xtts_ka.core.errors import RunError


class Step(NamedTuple):
    """A step: `<function>(work, options)` of a module beside this file leaves `output` in the work folder.

    output: None where the step is done every time. minutes: how long it trains, where it is a training.
    """

    module: str
    function: str
    output: str | None
    minutes: float | None = None


STEPS = {
    "texts": Step("texts", "run", "texts.jsonl.gz"),
    "speech": Step("speech", "run", "speech/done.json"),
    "phonemes": Step("phonemes", "run", "phonemes.safetensors", 10),
    "dvae": Step("dvae", "run", "dvae.safetensors", 120),
    "speakers": Step("speakers", "run", "speaker_encoder.safetensors", 15),
    "georgian": Step("georgian_recogniser", "run", "georgian_recogniser.safetensors", 8),
    "judge": Step("georgian_recogniser", "judge", None),
    "codes": Step("codes", "run", "codes.npz"),
    "alignments": Step("alignments", "run", "alignments.npz"),
    "gpt": Step("gpt", "run", "gpt.safetensors", 240),
    "decoder": Step("decoder", "run", "decoder.safetensors", 60),
    "measure": Step("measure", "run", None),
    "pack": Step("pack", "run", "base/base.json"),
}


TUNING = (
    ("layers", int, "of the GPT (default: as in sizes.py)"),
    ("positions", int, "of the GPT's sequences in a step (default: 8,192 on a CPU, 131,072 on a GPU)"),
    ("rate", float, "peak learning rate (default: GPT 2e-3 on a CPU, 4e-3 on a GPU; decoder 8e-4)"),
    ("precision", str, "of the GPT's training: float32 or bf16 (default: bf16 on a GPU, float32 on a CPU)"),
)
# On a GPU the latter run at the same time, in processes of their own.
BESIDE = {"dvae": ("speakers", "georgian"), "gpt": ("decoder",)}
HAND_THEMSELVES = ("gpt", "decoder")  # to `--out`, again and again, in files of at most 16 MiB


def make_base(options: argparse.Namespace) -> None:
    options.work.mkdir(parents=True, exist_ok=True)
    due, failed = [name for name in options.steps if not _is_there(options, name)], []
    asked = list(due)
    while due:
        name = due.pop(0)
        beside = [other for other in BESIDE.get(name, ()) if other in due and _has_gpu(options.device)]
        due = [other for other in due if other not in beside]
        started = {other: _started(other, options) for other in beside}
        _do(name, options)
        failed += [other for other, process in started.items() if process.wait()]
        _hand_out(options, asked)
    if failed:
        raise RunError(f"these steps failed beside others: run --steps {','.join(failed)}")


def _is_there(options: argparse.Namespace, name: str) -> bool:
    output = STEPS[name].output
    if there := output is not None and (options.work / output).exists():
        say(f"{name:<11} {options.work / output} is there")
    return there


def _do(name: str, options: argparse.Namespace) -> None:
    step, begun = STEPS[name], time.monotonic()
    say(f"\n── {name} ──")
    getattr(importlib.import_module(f"starter_base.{step.module}"), step.function)(options.work, options)
    say(f"{name:<11} {time.monotonic() - begun:.1f} s")


def _started(name: str, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    """The step `name`, in a process of its own."""
    minutes = getattr(options, f"minutes_{name}") + (options.minutes_gpt if name == "decoder" else 0)
    command = [sys.executable, __file__, "--work", str(options.work), "--steps", name, f"--minutes-{name}={minutes}"]
    out = ["--out", str(options.out)] if options.out else []
    out += ["--await-speech"] * options.await_speech
    return subprocess.Popen(
        [*command, *out, "--device", options.device, f"--processes={options.processes}", "--beside"]
    )


def _has_gpu(device: str) -> bool:
    from xtts_ka.core.torch_settings import choose_device

    return choose_device(device).startswith("cuda")


def _hand_out(options: argparse.Namespace, steps: list[str]) -> None:
    """Copy what is there of these steps' networks, with what JSON says of them, and the figures to `--out`."""
    if not options.out:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    stems = [Path(STEPS[name].output or "").stem for name in steps if STEPS[name].minutes]
    stems = [stem for stem in stems if stem not in HAND_THEMSELVES] + ["mel_stats"] * ("phonemes" in steps)
    names = [f"{stem}.{ending}" for stem in stems for ending in ("safetensors", "json")]
    for name in [*names, "figures.json"]:
        if (options.work / name).is_file():
            shutil.copyfile(options.work / name, options.out / name)


def _steps(given: str) -> list[str]:
    names = given.split(",")
    if unknown := [name for name in names if name not in STEPS]:
        raise argparse.ArgumentTypeError(f"no step {unknown[0]!r}: they are {', '.join(STEPS)}")
    return [name for name in STEPS if name in names]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Make the stand-in base from nothing, or what of it is missing.")
    found.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of all intermediate results")
    found.add_argument("--steps", type=_steps, default=list(STEPS), help=f"some of {','.join(STEPS)} (default: all)")
    found.add_argument("--out", type=Path, metavar="DIR", help="copy the networks there too, while they are trained")
    found.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    found.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="that speak side by side (default: %(default)s)"
    )
    found.add_argument("--clips", type=int, help="use so many sentences only, for a rehearsal")
    for name, step in STEPS.items():
        if step.minutes:
            text = f"how long {name} is trained (default: %(default)s, for two CPU cores)"
            found.add_argument(f"--minutes-{name}", type=float, default=step.minutes, metavar="M", help=text)
    for name, kind, text in TUNING:
        found.add_argument(f"--{name}", type=kind, help=text)
    found.add_argument("--begin-with", type=Path, metavar="DIR", help="train on the GPT and decoder of this pack")
    found.add_argument("--compile", action="store_true", help="compile the GPT's blocks")
    found.add_argument(
        "--await-speech", action="store_true", help="gpt and decoder wait until another process has spoken"
    )
    found.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)  # started by this command itself
    add_verbosity_flags(found)
    return found


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return run_cli(lambda: make_base(args), args)


if __name__ == "__main__":
    sys.exit(main())
