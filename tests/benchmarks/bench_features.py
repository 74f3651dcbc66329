"""Filling the feature cache: × real time with several numbers of processes, and how long the extractor waits for audio.

    python tests/benchmarks/bench_features.py --work /tmp/bench --clips 200 --repeat 3
    python tests/benchmarks/bench_features.py --work /tmp/bench --clips 300 --repeat 100 --device cuda --processes 1

Starter-made speech, `--repeat` copies of each clip as mp3 at 48,000 Hz (as Common Voice has them); the DVAE has the
released geometry. In one run, each in processes of its own, `--rounds` times in turn, of which the fastest counts:

    no overlap        one process whose extractor begins when its batch is decoded, and the next is decoded after it
    one thread        one process whose extractor computes with one thread
    1, 2, ...         that number of processes, with the cores divided among them
    decoding alone    one process whose extractor takes no time: what its threads could feed to a faster one

The caches of all but the last are compared byte by byte. Exits 1 if they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

FILES = ("codes.bin", "mels.bin", "index.bin")


def prepare(work: Path, clips: int, repeat: int) -> None:
    """Recordings and base model, where they are not there yet."""
    import soundfile
    import torch
    import torchaudio

    from xtts_ka.core.config import StarterConfig
    from xtts_ka.starter.base_model import make_base_model
    from xtts_ka.starter.speech import read_sentences, speak_corpus

    if not (work / "speech").exists():
        speak_corpus(read_sentences(ROOT / "data/starter_sentences_ka.txt"), work / "speech", seed=1, max_clips=clips)
    wavs = sorted((work / "speech/wavs").glob("*.wav"))
    if not (work / "base").exists():
        make_base_model(work / "base", StarterConfig(layers=1, model_dim=64, heads=1), wavs[:20], 0)
    mp3s = work / "mp3"
    if not mp3s.exists():
        mp3s.mkdir()
        for wav in wavs:
            speech, rate = soundfile.read(wav, dtype="float32")
            wide = torchaudio.functional.resample(torch.from_numpy(speech), rate, 48_000)
            soundfile.write(mp3s / f"{wav.stem}.mp3", wide.numpy(), 48_000)
    for mp3 in sorted(mp3s.glob("*.mp3")):
        for copy in range(repeat):
            link = work / f"copies{copy}" / mp3.name
            if not link.exists():
                link.parent.mkdir(exist_ok=True)
                os.link(mp3, link)


def listed(work: Path, repeat: int) -> Iterator[tuple[str, float]]:
    """Paths and seconds."""
    import soundfile

    seconds = {mp3.name: soundfile.info(mp3).duration for mp3 in (work / "mp3").glob("*.mp3")}
    for copy in range(repeat):
        for name, length in sorted(seconds.items()):
            yield str(work / f"copies{copy}" / name), length


# ── one process of a job ─────────────────────────────────────────────────────────────────────────────────────────────


def run_part(args: argparse.Namespace) -> None:
    """Fill a new cache, with the other processes of this job; the main one prints what `Filled` says as JSON."""
    from xtts_ka.core.config import PretrainConfig
    from xtts_ka.model.checkpoint import read_config
    from xtts_ka.training import feature_filling
    from xtts_ka.training.feature_cache import Clip, FeatureCache
    from xtts_ka.training.prepare_features import filling_tools
    from xtts_ka.training.process_group import joined

    config = PretrainConfig(base_model_path=str(args.work / "base"), device=args.device)
    device = args.device if args.device == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    tools = filling_tools(config, read_config(args.work / "base").model_args, device)
    if args.part == "no overlap":
        feature_filling.AHEAD = 0
    if args.part == "decoding alone":
        tools = feature_filling.Tools(
            tools.load, lambda: instant_features, tools.unit_clips, tools.unit_seconds, cores() // world()
        )
    with joined(config) as peers:
        if not peers.is_main:
            feature_filling.help_fill(tools, peers)
            return
        clips = [Clip(n, path, seconds) for n, (path, seconds) in enumerate(listed(args.work, args.repeat), 1)]
        cache = FeatureCache(args.work / f"cache {args.part}", "0" * 16)
        filled = feature_filling.fill(cache, clips, tools, peers if peers.world > 1 else None)
        print(json.dumps(filled._asdict()), flush=True)


def instant_features(speech: list) -> list:
    """Codes and mels of the right size, that take no time."""
    import torch

    from xtts_ka.model.geometry import MEL_BANDS, codes_of, frames_of

    sizes = [clip.shape[1] for clip in speech]
    return [(torch.zeros(codes_of(n), dtype=torch.int64), torch.zeros(MEL_BANDS, frames_of(n))) for n in sizes]


def cores() -> int:
    return len(os.sched_getaffinity(0))


def world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


# ── all ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def measured(args: argparse.Namespace, part: str, processes: int) -> dict[str, float]:
    shutil.rmtree(args.work / f"cache {part}", ignore_errors=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    flags = [f"--work={args.work}", f"--repeat={args.repeat}", f"--device={args.device}", f"--part={part}"]
    threads = {"OMP_NUM_THREADS": "1" if part == "one thread" else str(max(1, cores() // processes))}
    command = [sys.executable, *launcher, str(Path(__file__).resolve()), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **threads})
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=200, help="different clips")
    parser.add_argument("--repeat", type=int, default=3, help="copies of each")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.work = args.work.resolve()
    if args.part:
        run_part(args)
        return 0
    args.work.mkdir(parents=True, exist_ok=True)
    prepare(args.work, args.clips, args.repeat)
    parts = {"no overlap": 1, "one thread": 1, **{str(count): count for count in args.processes}, "decoding alone": 1}
    rounds = [{part: measured(args, part, count) for part, count in parts.items()} for _ in range(args.rounds)]
    best = {part: min((done[part] for done in rounds), key=lambda filled: filled["seconds"]) for part in parts}
    print(
        f"{best['1' if '1' in best else 'no overlap']['speech'] / 3600:.2f} h of speech, {args.device}, {cores()} cores"
    )
    for part, filled in best.items():
        rate, waited = filled["speech"] / filled["seconds"], 100 * filled["waited"]
        print(f"{part:<15} {filled['seconds']:7.1f} s  {rate:7.1f} × real time  waited {waited:5.1f} % of the time")
    whole = [[(args.work / f"cache {part}" / ("0" * 16) / name).read_bytes() for name in FILES] for part in parts]
    equal = all(other == whole[0] for other in whole[:-1])
    print("the caches are equal byte by byte" if equal else "THE CACHES DIFFER")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
