"""How long a start looks at the recordings, on this disk and on one that takes its time to answer.

    python tests/benchmarks/bench_recordings.py --recordings 50000 --answer-ms 0.2

The slow disk is this one with a pause before each answer, as a network disk makes it. One thread and AT_ONCE of them in turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from xtts_ka.core.command_line import run_cli
from xtts_ka.corpus import recordings
from xtts_ka.corpus.tables import Clip, write_splits

AT_ONCE = recordings.AT_ONCE


def make(folder: Path, count: int) -> Path:
    """A data folder whose train table names `count` recordings, 1,000 in each folder."""
    clips = [Clip(f"c{i}", "ტექსტი", "nino", 1.0, folder / f"wavs/{i // 1000}/{i}.wav", None) for i in range(count)]
    for clip in clips:
        clip.audio_path.parent.mkdir(parents=True, exist_ok=True)
        clip.audio_path.touch()
    write_splits(folder / "data", {"train": clips, "val": clips[:1], "test": []}, [folder / "wavs"])
    return folder / "data"


def seconds(data: Path, at_once: int) -> float:
    recordings.AT_ONCE = at_once
    recordings.look_again()
    began = time.perf_counter()
    recordings.listing(data, "train")
    return time.perf_counter() - began


def measure(data: Path, name: str, count: int) -> None:
    one, many = map(min, zip(*((seconds(data, 1), seconds(data, AT_ONCE)) for _ in range(3))))
    print(
        f"{name:<24} one thread {1e6 * one / count:7.1f} µs a recording, {AT_ONCE} threads {1e6 * many / count:7.1f}: {one / many:.2f} ×"
    )


def run(args: argparse.Namespace) -> None:
    answer = os.stat

    def slowly(path, **options):
        time.sleep(args.answer_ms / 1000)
        return answer(path, **options)

    with tempfile.TemporaryDirectory() as folder:
        data = make(Path(folder), args.recordings)
        measure(data, "this disk", args.recordings)
        os.stat = slowly
        try:
            measure(data, f"answers after {args.answer_ms} ms", args.recordings)
        finally:
            os.stat = answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=50_000)
    parser.add_argument("--answer-ms", type=float, default=0.2)
    sys.exit(run_cli(lambda: run(parser.parse_args())))
