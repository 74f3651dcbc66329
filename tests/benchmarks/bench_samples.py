"""Measures what a round of samples costs, with the checkpoint of a run and its recogniser.

    python tests/benchmarks/bench_samples.py --config xtts_pretrain_config.json --rounds 3

Speaks rounds into a temporary folder and prints, for each: seconds of wall and of all threads, of speech, the shares
of the parts, and after how long the next round would fit into `samples.every_share` of the time. The first round
builds the model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import soundfile

from xtts_ka.core.config import load_config
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.evaluation import samples as module
from xtts_ka.model.checkpoint import read_model
from xtts_ka.recognition.train_recogniser import present_recogniser
from xtts_ka.training.checkpoint_folders import read_checkpoints
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.metrics_log import MetricsLog

PARTS = {"open_weights": "model", "renew_voices": "voices", "speak_all": "speaking", "mel_picture": "pictures"}
PARTS |= {"measure_clip": "measuring", "write_page": "page", "put_weights": "weights"}


def timed(spent: dict[str, float], part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, whose seconds are added up under `part`."""

    def run(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        done = work(*given, **named)
        spent[part] += time.perf_counter() - began
        return done

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = load_config(args.config)
    device = choose_device(config.device)
    last = next(c for c in reversed(read_checkpoints(Path(config.checkpoint_dir))) if not c.problem)
    weights = Checkpoint(**vars(last)).present_weights()
    listener, why_not = present_recogniser(config)
    print(f"step {last.step} on {device}; recogniser: {listener.name if listener else why_not}")
    spent: dict[str, float] = defaultdict(float)
    for name, part in PARTS.items():
        setattr(module, name, timed(spent, part, getattr(module, name)))
    if listener:
        listener.hear = timed(spent, "listening", listener.hear)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        base = read_model(config.base_model_path).without_gpt()
        samples = module.Samples(config, base, MetricsLog(folder, fresh=True), device, 10**6, listener)
        for number in range(1, args.rounds + 1):
            spent.clear()
            began, before = time.perf_counter(), time.process_time()
            samples.speak(number, weights)
            wall, threads = time.perf_counter() - began, time.process_time() - before
            wavs = list((samples.folder / f"step_{number:08d}").glob("*.wav"))
            speech = sum(soundfile.info(wav).duration for wav in wavs)
            parts = ", ".join(f"{part} {100 * seconds / wall:.0f} %" for part, seconds in spent.items())
            print(
                f"round {number}: {wall:.1f} s, {threads:.1f} s of all threads, {len(wavs)} clips of {speech:.1f} s: "
                f"{parts}; the next fits after {wall / config.samples.every_share / 60:.1f} min"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
