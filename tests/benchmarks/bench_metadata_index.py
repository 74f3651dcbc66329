"""A million clips: reading their table, making the training index, and starting from it.

    python tests/benchmarks/bench_metadata_index.py [--rows 1000000] [--work DIR]

The rows are synthetic and as long as Common Voice's. The recordings are empty files; the feature cache has real
records, and its codes and mels are holes in sparse files. Every part runs in a process of its own, so that each has its
own peak of memory; what DIR already holds is used again. Limits: table and index in 60 s and 3 GB, the first batch 25 s
after the start of a second process. Exits 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

MAX_SECONDS, MAX_BYTES, MAX_START = 60.0, 3e9, 25.0
PARTS = ("prepare", "read", "first", "second")


def config_of(work: Path):
    from xtts_ka.core.config import PretrainConfig

    return PretrainConfig(
        data_dir=str(work / "data"),
        base_model_path=str(work / "base"),
        output_model_path=str(work),
        checkpoint_dir=str(work / "checkpoints"),
        log_dir=str(work / "logs"),
        device="cpu",
    )


# ── the data ────────────────────────────────────────────────────────────────────────────────────────────────────────


def prepare(work: Path, rows: int) -> dict:
    """Tables, recordings, base model, vocabulary and feature cache, where they are not there yet."""
    import tiny

    from xtts_ka.core.files import write_json
    from xtts_ka.corpus.tables import read_rows, split_csv, write_splits
    from xtts_ka.model.vocabulary import count_words, extend_vocabulary

    config, facts = config_of(work), {}
    if not split_csv(config.data_dir, "train").exists():
        clips = synthetic_clips(rows, Path(config.data_dir))
        start = time.perf_counter()
        write_splits(config.data_dir, {"train": clips[:-100], "val": clips[-100:], "test": []})
        facts["write_splits"] = time.perf_counter() - start
        (Path(config.data_dir) / "clips").mkdir()
        for clip in clips:
            os.close(os.open(clip.audio_path, os.O_CREAT))
    if not Path(config.base_model_path).exists():
        base = tiny.write_base_model(Path(config.base_model_path))
        texts = (row.text for row, _ in zip(read_rows(config.data_dir, "train"), range(20_000)))
        extension = extend_vocabulary(base / "vocab.json", count_words(texts), new_tokens=2000, min_pair_count=2)
        write_json(work / "vocab.json", extension.vocabulary)
        write_sparse_cache(config)
    return facts


def synthetic_clips(rows: int, folder: Path) -> list:
    """`rows` clips of 3 to 11 s by 5,000 speakers, with sentences of 4 to 14 invented words."""
    from xtts_ka.corpus.tables import Clip

    rng = random.Random(0)
    vowels, consonants = "აეიოუ", "ბგდვზთკლმნპრსტფქღყშჩცძწჭხჯჰ"  # a word without a vowel is read as an abbreviation
    words = [
        "".join(rng.choices(consonants, k=n) + rng.choices(vowels, k=n)) for n in rng.choices(range(1, 6), k=50_000)
    ]
    return [
        Clip(
            f"common_voice_ka_{i:08d}",
            " ".join(rng.choices(words, k=rng.randint(4, 14))) + ".",
            f"cv_{rng.randrange(5_000):08x}",
            rng.randint(30, 110) / 10,
            folder / f"clips/common_voice_ka_{i:08d}.mp3",
            None,
        )
        for i in range(rows)
    ]


def write_sparse_cache(config) -> None:
    """A sound feature cache of all clips: silence of the right length, in files that take no space."""
    import numpy as np

    from xtts_ka.corpus.recordings import look_again
    from xtts_ka.corpus.tables import TRAINING_SPLITS
    from xtts_ka.model.geometry import MEL_BANDS, SAMPLE_RATE, codes_of, frames_of
    from xtts_ka.training import feature_cache
    from xtts_ka.training.feature_cache import RECORD, FeatureCache
    from xtts_ka.training.prepare_features import _keyed_rows, feature_key

    @cache
    def bytes_of(samples: int) -> tuple[int, int, int]:
        codes, mel = bytes(2 * codes_of(samples)), bytes(2 * MEL_BANDS * frames_of(samples))
        return len(codes), len(mel), zlib.crc32(mel, zlib.crc32(codes))

    folder = FeatureCache(Path(config.data_dir) / "features", feature_key(config)).folder
    records, codes_at, mel_at = [], 0, 0
    for split in TRAINING_SPLITS:
        for row, key in _keyed_rows(config, split):
            samples = round(row.duration * SAMPLE_RATE)
            codes, mel, crc = bytes_of(samples)
            records.append((key, codes_at, mel_at, samples, crc, 0))
            codes_at, mel_at = codes_at + codes, mel_at + mel
    look_again()
    table = np.array(records, RECORD)
    table["check"] = feature_cache._check(table)
    for name, size in (("codes", codes_at), ("mels", mel_at)):
        with open(folder / f"{name}.bin", "wb") as file:
            file.truncate(size)
    (folder / "index.bin").write_bytes(table.tobytes())


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


def read(work: Path, rows: int) -> dict:
    """The table as objects, for the stages that want them."""
    from xtts_ka.corpus.tables import read_split

    assert len(read_split(config_of(work).data_dir, "train")) == rows - 100
    return {}


def start(work: Path, rows: int) -> dict:
    """What `run_xtts_pretrain.py --step full_pretrain` does up to its first batch.

    The ledger asks for its inputs when it plans, when the stage's turn comes, and before the stage runs.
    """
    import pretrain_xtts_model
    from data_loader import open_data
    from xtts_ka.corpus.recordings import look_again
    from xtts_ka.corpus.tables import split_csv
    from xtts_ka.model.checkpoint import read_model
    from xtts_ka.training.gpt_trainer import build_accelerator
    from xtts_ka.training.memory_estimate import ROOM_ON_CPU

    config, marks = config_of(work), {}

    def mark(step: str) -> None:
        marks[step] = time.time() - float(os.environ["BENCH_START"]), time.process_time()

    mark("imports")
    look_again()
    for _ in range(3):
        pretrain_xtts_model.EmbeddingsProcessor(config).inputs()
        pretrain_xtts_model.XTTSPretrainer(config).inputs()
    mark("ledger")
    build_accelerator(config), read_model(config.base_model_path)
    mark("model")
    data = open_data(config)
    mark("index")
    steps = data.train_batches(0)
    mark("plan")
    batches = [piece for step in steps for piece in step.cut(data.train.index.positions, ROOM_ON_CPU)]
    loader = data.loader(data.train, batches)
    next(loader)
    mark("first batch")
    opened, cpu, clips = memory("VmRSS"), time.process_time(), 0
    for _ in range(300):
        clips += next(loader)["shape"][0]
    drawn = clips / (time.process_time() - cpu)
    assert len(data.train) + len(data.val) == rows
    index = data.train.index.folder
    return {
        "marks": marks,
        "rss_opened": opened,
        "clips_a_second": drawn,
        "rss_300_batches": memory("VmRSS"),
        "anonymous": memory("RssAnon"),
        "batches": len(batches),
        "index_bytes": sum(file.stat().st_size for file in index.iterdir()),
        "table_bytes": split_csv(config.data_dir, "train").stat().st_size,
        "about": data.describe(),
    }


def memory(name: str) -> int:
    """Bytes of this process, as Linux tells them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def timed(part: str, work: Path, rows: int) -> dict:
    """Run one part in a process of its own."""
    arguments = ["--part", part, "--rows", str(rows), "--work", str(work.resolve())]
    result = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=work,
        env={**os.environ, "BENCH_START": repr(time.time())},
    )
    return json.loads(result.stdout.splitlines()[-1])


def run_part(part: str, work: Path, rows: int) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    facts = {"prepare": prepare, "read": read, "first": start, "second": start}[part](work, rows)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu,
                "peak_bytes": memory("VmHWM"),
                **facts,
            }
        )
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the tables")
    parser.add_argument("--work", type=Path, help="folder to work in and to keep (default: a temporary one)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.part:
        run_part(args.part, args.work, args.rows)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        for index in (work / "data" / "features").glob("*/index_*"):
            subprocess.run(["rm", "-r", str(index)], check=True)  # the first start is measured without one
        return report({part: timed(part, work, args.rows) for part in PARTS}, args.rows)


def report(parts: dict[str, dict], rows: int) -> int:
    """Print the figures, and whether the limits are kept. Seconds are wall time, of one core in brackets."""
    first, second, read = parts["first"], parts["second"], parts["read"]
    print(f"{rows:,} rows; write_splits {parts['prepare'].get('write_splits', 0):.1f} s")
    peak = read["peak_bytes"] / 1e9
    print(f"read_split      {read['seconds']:6.1f} s ({read['cpu_seconds']:.1f}), peak {peak:.2f} GB")
    for name, part in (("first start", first), ("second start", second)):
        before = (0.0, 0.0)
        for step, mark in part["marks"].items():
            print(f"{name:<15} {step:<12} {mark[0] - before[0]:6.2f} s ({mark[1] - before[1]:.2f})")
            before = mark
        print(f"{name:<15} {'all':<12} {before[0]:6.2f} s ({before[1]:.2f}), peak {part['peak_bytes'] / 1e9:.2f} GB")
    for when in ("rss_opened", "rss_300_batches", "anonymous"):
        print(f"training        {when:<16} {second[when] / 1e6:.0f} MB")
    print(f"training        {second['clips_a_second']:.0f} clips a second drawn and collated by one core")
    index, table = (first[name] / rows for name in ("index_bytes", "table_bytes"))
    print(f"a clip          {index:.0f} bytes of index, {table:.0f} of table; {first['batches']:,} batches an epoch")
    print("\n".join(first["about"]))
    making, most = first["marks"]["index"][0], MAX_SECONDS * rows / 1_000_000
    kept = {
        f"table and index in {most:g} s ({making:.1f})": making < most,
        f"in {MAX_BYTES / 1e9:g} GB": max(first["peak_bytes"], read["peak_bytes"]) < MAX_BYTES,
        f"first batch of a second start in {MAX_START:g} s": second["marks"]["first batch"][0] < MAX_START,
    }
    print(", ".join(f"{what}: {'kept' if ok else 'PASSED'}" for what, ok in kept.items()))
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
