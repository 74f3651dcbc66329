"""Writes docs/tour.md and its pictures in docs/images/ from a real run of the shipped config.

    python docs/make_tour.py --work /tmp/tour

Copies the files of this checkout to an empty folder, runs every command there, and writes down what each one printed.
Takes about twenty minutes on 2 cores. Times, paths and the last digits of losses differ from machine to machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from xtts_ka.core.config import load_config  # noqa: E402
from xtts_ka.corpus.audio import read_mono  # noqa: E402
from xtts_ka.recognition.recogniser import HOP, RATE, at_rate, log_mel  # noqa: E402
from xtts_ka.starter.speech import VOICES, synthesise, trim_silence  # noqa: E402

STEPS = load_config(ROOT / "xtts_pretrain_config.json").starter.max_steps
CONFIG = "--config xtts_pretrain_config.json"
STEP = re.compile(r"step +\d+/\d+ |training: \d+ of \d+ ")
STEPS_SHOWN = (5, 2)  # of a longer series of step lines: the first and the last ones


class Command(NamedTuple):
    """A shell line, what the tour says before and after it, its exit code, and the output at which it gets Ctrl-C."""

    line: str
    before: str = ""
    code: int = 0
    interrupt_at: str = ""
    shown: bool = True
    after: str = ""


def commands(*lines: str) -> list[Command]:
    return [Command(line) for line in lines]


SCRIPTS = {
    "run_pretrain.py": [
        Command(
            f"python run_pretrain.py {CONFIG}",
            "The shipped config on a bare machine: starter mode makes stand-ins, and the model speaks at the end.",
            after="The five sentences as the model says them, and as espeak-ng itself does in the same voice:\n\n"
            "![Mel spectrograms of the five sentences](images/first_sentences.png)",
        ),
        Command(f"python run_pretrain.py {CONFIG} --dry-run", "What would run now:"),
        Command('sed \'s/"epochs"/"epoch"/\' xtts_pretrain_config.json > wrong.json', shown=False),
        Command(
            "python run_pretrain.py --config wrong.json", "With `epoch` where `epochs` should be (exit code 2):", 2
        ),
        Command(
            f"python run_pretrain.py {CONFIG} --only full_pretrain",
            "A finished training that is asked for by name starts anew. Ctrl-C in its first half (exit code 130):",
            130,
            f"step {STEPS // 40 * 10:6}/{STEPS}",
        ),
    ],
    "run_xtts_pretrain.py": [
        Command(f"python run_xtts_pretrain.py {CONFIG} --step xtts_init", "One stage again:"),
        Command(
            f"torchrun --nproc_per_node 2 run_xtts_pretrain.py {CONFIG} --step full_pretrain",
            "The interrupted training goes on, here with two processes instead of one:",
        ),
    ],
    "checkpoint_monitor.py": [
        *commands(f"python checkpoint_monitor.py {CONFIG}"),
        Command(
            f"timeout --foreground --signal INT 8 python checkpoint_monitor.py {CONFIG} --watch --interval 2",
            "`--watch` refreshes that in place on a terminal; into a file it prints lines, until Ctrl-C:",
            124,
        ),
        *commands(f"python checkpoint_monitor.py {CONFIG} --plot docs/images/training_plot.png"),
        Command(
            f"python checkpoint_monitor.py {CONFIG} --analyze",
            "![The curves of the run above](images/training_plot.png)",
        ),
        *commands(f"python checkpoint_monitor.py {CONFIG} --export metrics.csv", "head -3 metrics.csv"),
        *commands(f"echo n | python checkpoint_monitor.py {CONFIG} --cleanup --keep 1"),
        Command(
            f"python checkpoint_monitor.py {CONFIG} --json --verify | python -m json.tool | sed -n 1,20p",
            "For programs, with the checksums of all checkpoints compared (the first lines):",
        ),
    ],
    "create_metadata_files.py": commands(
        "python create_metadata_files.py --source data/starter_recordings --output_dir data_again"
    ),
    "data_loader.py": commands(f"python data_loader.py {CONFIG}"),
    "embedding_adapter.py": commands(f"python embedding_adapter.py {CONFIG}"),
    "phoneme_processor.py": [
        Command("printf 'მთვარე\\nწყალი\\nსიყვარული\\n' > words.txt"),
        *commands(
            f"python phoneme_processor.py {CONFIG} --words words.txt",
            f"python phoneme_processor.py {CONFIG} --words words.txt --narrow",
            f"python phoneme_processor.py {CONFIG} --words words.txt --model",
        ),
    ],
    "synthesize.py": [
        Command(
            f'python synthesize.py {CONFIG} --text "გამარჯობა, მეგობარო!" --output hello.wav',
            "A robot's voice, as the stand-ins have taught it: the starter shows the way, not the result.",
        )
    ],
    "evaluate_model.py": [
        Command(
            f"python evaluate_model.py {CONFIG}",
            "The recogniser that the last stage of the first command has trained listens here too:",
        )
    ],
    "xtts_ka.georgian.text": commands(
        'echo "2026 წლის 12 მარტს, XIX საუკუნე, 3%-ით" | python -m xtts_ka.georgian.text'
    ),
}
HEAD = """# A tour: every script, its flags and what it prints

Made by `python docs/make_tour.py` from a real run of the shipped config ({machine}); do not edit it by hand.
Long series of step lines are cut (…).
"""


def run(command: Command, folder: Path) -> str:
    """What `command` prints, errors included. RuntimeError for an unexpected exit code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command.line}" if command.interrupt_at else f"set -o pipefail; {command.line}"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if command.interrupt_at and command.interrupt_at in line and "  train  " in line:
            process.send_signal(signal.SIGINT)
    if process.wait() != command.code:
        raise RuntimeError(f"{command.line} ended with {process.returncode}:\n{printed}")
    return shortened(printed.replace(str(folder), "~/georgian").replace(str(ROOT), "~/georgian"))


def shortened(printed: str) -> str:
    """`printed` without most of the step lines of each long series, and without spaces at line ends."""
    lines, series = [], []
    for line in [*printed.splitlines(), ""]:
        if STEP.match(line):
            series.append(line)
            continue
        first, last = STEPS_SHOWN
        lines += series if len(series) <= first + last + 1 else [*series[:first], "…", *series[-last:]]
        series = []
        lines.append(line.rstrip())
    return "\n".join(lines).strip("\n")


def indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines()) + "\n"


def section(script: str, lines: list[Command], folder: Path) -> str:
    called = script if script.endswith(".py") else f"-m {script}"
    parts = [
        f"## {script}\n",
        indented(f"$ python {called} --help\n" + run(Command(f"python {called} --help"), folder)),
    ]
    for command in lines:
        print(f"$ {command.line}", flush=True)
        printed = run(command, folder)
        if command.shown:
            parts += [f"{command.before}\n"] * bool(command.before) + [indented(f"$ {command.line}\n{printed}")]
            parts += [f"{command.after}\n"] * bool(command.after)
    return "\n".join(parts)


def copy_checkout(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def draw_sentences(samples: Path, picture: Path) -> None:
    """Mel spectrograms of the wavs in `samples`, each sentence in another voice, beside espeak-ng's own."""
    texts = dict(line.split("  ", 1) for line in (samples / "sentences.txt").read_text("utf-8").splitlines())
    figure, rows = plt.subplots(len(texts), 2, figsize=(11, 2.1 * len(texts)), layout="constrained", squeeze=False)
    for place, (number, text) in enumerate(texts.items()):
        wavs = sorted(samples.glob(f"{number}_*.wav"))
        wav = wavs[place % len(wavs)]
        voice = next(voice for voice in VOICES if wav.stem.endswith(voice.speaker_id))
        own = trim_silence(synthesise(text, voice.voice, voice.rate, voice.pitch))
        for axes, who, (wave, rate) in zip(rows[place], ("model", "espeak-ng"), (read_mono(wav), (own, 22_050))):
            mel = log_mel(at_rate(wave, rate)).T
            axes.imshow(
                mel, origin="lower", aspect="auto", vmin=mel.max() - 12, extent=(0, mel.shape[1] * HOP / RATE, 0, 80)
            )
            axes.set_title(f"{who}, {voice.speaker_id}" if who != "model" else text, fontsize=7, loc="left")
            axes.set_yticks([])
    rows[-1][0].set_xlabel("seconds")
    rows[-1][1].set_xlabel("seconds")
    figure.savefig(picture, dpi=80)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write docs/tour.md from a real run of the shipped config.")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder, or one that does not exist yet")
    folder = parser.parse_args(argv).work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    copy_checkout(folder)
    machine = f"{os.cpu_count()} CPU cores, no GPU, Python {sys.version_info.major}.{sys.version_info.minor}"
    tour = "\n".join([HEAD.format(machine=machine), *(section(name, lines, folder) for name, lines in SCRIPTS.items())])
    draw_sentences(folder / "models/xtts_v2_ka/samples", ROOT / "docs/images/first_sentences.png")
    (ROOT / "docs/tour.md").write_text(tour.rstrip("\n") + "\n", "utf-8")
    shutil.copy2(folder / "docs/images/training_plot.png", ROOT / "docs/images/training_plot.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
