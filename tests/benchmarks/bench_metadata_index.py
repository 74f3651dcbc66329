"""How long reading a split table takes, and how much memory: the limits are 60 s and 3 GB for 1,000,000 rows.

    python tests/benchmarks/bench_metadata_index.py [--rows 1000000]

The rows are synthetic (no audio behind them) and as long as Common Voice's. Writing and reading run in
processes of their own, so that the peak is the reader's alone. Exits 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from metadata_table import Clip, read_split, split_csv, write_splits  # noqa: E402

MAX_SECONDS, MAX_BYTES = 60.0, 3e9


def synthetic_clips(rows: int, folder: Path) -> list[Clip]:
    """`rows` clips of 3 to 11 s by 5,000 speakers, with sentences of 4 to 14 invented words and embeddings."""
    rng = random.Random(0)
    letters = "აეიოუბგდვზთკლმნპრსტფქღყშჩცძწჭხჯჰ"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 11))) for _ in range(50_000)]
    return [
        Clip(f"common_voice_ka_{i:08d}", " ".join(rng.choices(words, k=rng.randint(4, 14))) + ".",
             f"cv_{rng.randrange(5_000):08x}", rng.uniform(3, 11),
             folder / f"clips/common_voice_ka_{i:08d}.mp3", folder / f"embeddings/common_voice_ka_{i:08d}.npy")
        for i in range(rows)
    ]


def peak_bytes() -> int:
    """This process's peak resident memory (Linux counts it in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def timed(command: str, data_dir: Path, rows: int) -> dict:
    """Run one half of the benchmark in a process of its own."""
    arguments = ["--half", command, "--rows", str(rows), "--folder", str(data_dir)]
    result = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


def run_half(command: str, data_dir: Path, rows: int) -> None:
    before = peak_bytes()
    if command == "write":
        clips = synthetic_clips(rows, data_dir)
        start, cpu = time.perf_counter(), time.process_time()
        write_splits(data_dir, {"train": clips, "val": clips[:2], "test": []})
    else:
        start, cpu = time.perf_counter(), time.process_time()
        clips = read_split(data_dir, "train")
        assert len(clips) == rows and len({clip.file_id for clip in clips}) == rows
    print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
                      "peak_bytes": peak_bytes(), "before_bytes": before}))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                     epilog="example: python tests/benchmarks/bench_metadata_index.py --rows 10000")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--half", choices=("write", "read"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.half:
        run_half(args.half, args.folder, args.rows)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wrote = timed("write", Path(folder), args.rows)
        size = split_csv(folder, "train").stat().st_size
        read = timed("read", Path(folder), args.rows)
    print(f"{args.rows} rows, {size / 1e6:.0f} MB of CSV")
    print(f"write_splits  {wrote['seconds']:6.1f} s ({wrote['cpu_seconds']:.1f} s of one core)")
    print(f"read_split    {read['seconds']:6.1f} s ({read['cpu_seconds']:.1f} s of one core), "
          f"peak {read['peak_bytes'] / 1e9:.2f} GB, "
          f"{(read['peak_bytes'] - read['before_bytes']) / args.rows:.0f} bytes a clip")
    scale = args.rows / 1_000_000
    ok = read["seconds"] < MAX_SECONDS * scale and read["peak_bytes"] < MAX_BYTES * max(scale, 0.1)
    print(f"limits for this many rows ({MAX_SECONDS * scale:g} s, {MAX_BYTES * max(scale, 0.1) / 1e9:g} GB): "
          f"{'kept' if ok else 'PASSED'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
