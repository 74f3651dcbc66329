"""A rehearsal that trains for an hour of one core, on longer texts too: what samples cost, and what the guard is worth.

    python tests/benchmarks/exp_longer_rehearsal.py --work DIR [--steps 600] [--judge DIR]

The first command's model trains for 100 steps on single sentences and speaks every other long text with a fault. Here
espeak-ng speaks 1,100 texts of two or three sentences beside them, and training takes 600 steps, with samples that a
recogniser hears. Prints the samples' share of the training's time; then what bench_guard.py measures of the model. A
run that was stopped carries on.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import bench_guard

import run_pretrain
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.starter.speech import read_sentences

ROOT = Path(__file__).parents[2]
JOINED, SHORTEST, LONGEST = 1100, 70, 135  # texts of several sentences, and their letters


def longer_texts(sentences: list[str]) -> list[str]:
    draw, found = random.Random(5), set()
    while len(found) < JOINED:
        text = " ".join(draw.sample(sentences, draw.choice((2, 2, 3))))
        if SHORTEST <= len(text) <= LONGEST:
            found.add(text)
    return sorted(found)


def project(work: Path, steps: int) -> Path:
    """Write the texts and the config; returns its path."""
    sentences = read_sentences(ROOT / "data/starter_sentences_ka.txt")
    texts = [*sentences, *longer_texts(sentences)]
    (work / "sentences.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    starter = {"sentences": "sentences.txt", "clips": 3900, "max_steps": steps, "recogniser_steps": 3000}
    samples = {"sentences": 1, "voices": 1, "recogniser": True}
    shipped = {k: v for k, v in read_json(ROOT / "xtts_pretrain_config.json").items() if k != "$schema"}
    write_json(
        work / "config.json", {**shipped, "device": "cpu", "samples": samples, "starter": {"enabled": True, **starter}}
    )
    return work / "config.json"


def samples_share(metrics: Path) -> str:
    lines = list(read_jsonl(metrics))
    seconds = [line["seconds"] for line in lines if line.get("split") == "samples"]
    took = lines[-1]["time"] - lines[0]["time"]
    return (
        f"samples: {len(seconds)} rounds, {sum(seconds):.0f} s of {took:.0f} s of training: {sum(seconds) / took:.2%}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--judge", type=Path, help="as of bench_guard.py")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    judge = ["--judge", str(args.judge.resolve())] if args.judge else []
    config = project(args.work.resolve(), args.steps)
    os.chdir(args.work)  # the config's folders are below it
    if code := run_pretrain.main(["--config", str(config)]):
        return code
    print(samples_share(Path("logs/metrics.jsonl")), flush=True)
    return bench_guard.main(["--config", str(config), *judge])


if __name__ == "__main__":
    sys.exit(main())
