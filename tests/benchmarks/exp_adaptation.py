"""Adapts the trained stand-in base to Georgian in several ways and compares what is understood of each model.

    python tests/benchmarks/exp_adaptation.py --work DIR                           # every way, three seeds: hours
    python tests/benchmarks/exp_adaptation.py --work DIR --ways rate_2e-3 rate_1e-3 --seeds 2 --jobs 2

Each run is the pipeline's own (`run_pretrain.py` on the shipped config with a few settings changed), on one thread.
The recordings, their features, the base model and the recogniser, which has heard natural clips alone, are made once.
The finished models speak 40 kept sentences in two voices, each once, without guard; where checkpoints are heard on the
way, 20 sentences. Printed: character error rate and the right voice's share, each seed and their mean. Finished runs
are kept in WORK; one that was stopped carries on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch

import run_pretrain
from xtts_ka.core.config import PretrainConfig, load_config
from xtts_ka.core.console import say
from xtts_ka.core.files import read_json, write_json
from xtts_ka.evaluation.evaluate import Request, evaluate
from xtts_ka.evaluation.figures import figures
from xtts_ka.evaluation.texts import KEPT_SETS
from xtts_ka.recognition.train_recogniser import ensure_recogniser

SHARED_SEED = 1  # of recordings and recogniser, and of what is spoken: all models are heard alike
MARKS = (50, 150, 500)  # steps after which the ways to begin the new rows are heard
ROWS = {
    # Half the usual step, for the time it takes.
    "starter": {"max_steps": MARKS[-1], "batch_seconds": 24.0},
    "training": {"keep_checkpoints": 12},
    "checkpoint_interval": MARKS[0],
}
# Settings that differ from COMMON and the shipped config.
WAYS: dict[str, dict[str, Any]] = {
    "rate_2e-3": {},
    "rate_1e-3": {"starter": {"learning_rate": 1e-3}},
    "rate_4e-3": {"starter": {"learning_rate": 4e-3}},
    "masked": {"training": {"conditioning": "coqui"}},
    "tokens_200": {"starter": {"new_tokens": 200}},
    "tokens_800": {"starter": {"new_tokens": 800}},
    "decoder_tuned": {
        "decoder": {
            "enabled": True,
            "max_steps": 100,
            "batch_size": 8,
            "learning_rate": 4e-4,
            "discriminator_width": 0,
            "voice_weight": 10.0,
        }
    },
    "dvae_tuned": {"dvae": {"enabled": True, "max_steps": 200}},
    "rows_mean": {**ROWS, "xtts_init": {"method": "mean"}},
    "rows_informed": {**ROWS, "xtts_init": {"method": "informed"}},
    "rows_random": {**ROWS, "xtts_init": {"method": "random"}},
}
SENTENCES, VOICES = 10, ["espeak_f1", "espeak_m2"]  # of each of the four kept sets
COMMON = {
    # The starter's defaults when the ways were compared; they have changed since.
    "starter": {"clips": 2500, "max_steps": 100, "learning_rate": 2e-3},
    "evaluation": {"enabled": False},
    "samples": {"enabled": False},
    "phonemes": {"max_epochs": 1},
    "recogniser": {"max_steps": 1500},
}


def merged(*settings: dict[str, Any]) -> dict[str, Any]:
    """Settings and sections of settings; the later ones count."""
    found: dict[str, Any] = {}
    for one in settings:
        for key, value in one.items():
            found[key] = merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


def project(folder: Path, base: Path, seed: int, *settings: dict[str, Any]) -> Path:
    """Write the config of a project in `folder`; returns its path."""
    places = {
        "data_dir": str(folder / "data"),
        "base_model_path": str(base),
        "output_model_path": str(folder / "model"),
        "checkpoint_dir": str(folder / "checkpoints"),
        "log_dir": str(folder / "logs"),
    }
    shipped = {k: v for k, v in read_json(ROOT / "xtts_pretrain_config.json").items() if k != "$schema"}
    sentences = {"starter": {"sentences": str(ROOT / "data/starter_sentences_ka.txt")}}
    own = merged(shipped, places, {"device": "cpu", "seed": seed}, sentences, COMMON, *settings)
    write_json(folder / "config.json", own)
    return folder / "config.json"


def adapt(config: Path) -> None:
    if code := run_pretrain.main(["--config", str(config)]):
        raise SystemExit(f"{config}: run_pretrain.py ended with {code}")


def prepare(work: Path) -> None:
    """Recordings, tables, features, base model and recogniser that all runs share."""
    folder = work / "shared"
    if (folder / "ready").is_file():
        return
    config = project(folder, work / "base", SHARED_SEED, {"starter": {"max_steps": 2}})
    adapt(config)
    ensure_recogniser(load_config(config))
    (folder / "ready").touch()


def started(work: Path, folder: Path) -> None:
    """Give a run its copy of what is shared; recordings as links."""

    def put(source: str, target: str) -> None:
        if source.endswith(".wav"):
            os.link(source, target)
        else:
            shutil.copy2(source, target)

    if not (folder / "model").is_dir():
        shutil.rmtree(folder / "data", ignore_errors=True)
        shutil.copytree(work / "shared/data", folder / "data", copy_function=put)
        shutil.copytree(work / "shared/model/recogniser", folder / "new/recogniser", dirs_exist_ok=True)
        (folder / "new").rename(folder / "model")


def heard(config: PretrainConfig, output: Path, checkpoints: list[Path]) -> dict[str, dict[str, float]]:
    """Error rate and right voices of the model, or of each checkpoint."""
    texts = [ROOT / f"data/evaluation_sentences_ka/{kind}.txt" for kind in KEPT_SETS]
    outcome = evaluate(
        config,
        Request(
            output, (), texts=texts, speakers=VOICES, sentences=SENTENCES // 2 if checkpoints else SENTENCES,
            attempts=0, rate_sound=False, checkpoints=checkpoints,
        ),
    )  # fmt: skip
    found = {}
    for label in outcome.labels:
        own = [clip for clip in outcome.clips if clip.model == label]
        of = figures(own, outcome.listeners[0].name, outcome.voices)
        found[label] = {"cer": of["cer"]["value"], "right_voice": of["top1"]["value"]}
    return found


def run(work: Path, way: str, seed: int) -> None:
    """One adaptation and what is understood of it, in `result.json`."""
    folder = work / f"{way}_{seed}"
    if (folder / "result.json").is_file():
        return
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    started(work, folder)
    config = project(folder, work / "base", seed, WAYS[way])
    with open(folder / "output.txt", "a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        adapt(config)
        marks = [folder / f"checkpoints/step_{mark:08d}" for mark in MARKS] if way.startswith("rows") else []
        found = heard(load_config(config).model_copy(update={"seed": SHARED_SEED}), folder / "heard", marks)
    write_json(folder / "result.json", found)
    for part in ("data", "checkpoints", "model", "heard"):
        shutil.rmtree(folder / part)


def show(work: Path, ways: list[str], seeds: int) -> None:
    for way in ways:
        runs = [read_json(file) for n in range(1, seeds + 1) if (file := work / f"{way}_{n}/result.json").is_file()]
        for label in runs[0] if runs else ():
            rates, right = ([run[label][kind] for run in runs] for kind in ("cer", "right_voice"))
            each = ", ".join(f"{rate:.1%}" for rate in rates)
            of = f"{way:<14} {label:<14}"
            say(f"{of} CER {statistics.mean(rates):.1%} ({each}), right voice {statistics.mean(right):.0%}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is shared and for the runs")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, a thread each")
    args = parser.parse_args(argv)
    work = args.work.resolve()
    prepare(work)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(run, work, way, seed) for seed in range(1, args.seeds + 1) for way in args.ways]
        for finished in runs:
            finished.result()
    show(work, args.ways, args.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
