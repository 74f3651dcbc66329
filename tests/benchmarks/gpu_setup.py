"""What bench_gpu.py measures with: random weights of any size, clips of noise, the product's loop over them."""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/benchmarks")]

import numpy as np
import soundfile
import torch
from bench_training import synchronise

from data_loader import DataManager
from xtts_ka.core.config import PretrainConfig
from xtts_ka.corpus.tables import Row
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.networks import build_gpt, tiny_config
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.clip_index import TrainingIndex, build_index
from xtts_ka.training.feature_cache import FeatureCache
from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator
from xtts_ka.training.metrics_log import MetricsLog

OLD_ROWS, TEXT_ROWS = 6681, 8681  # of the released vocabulary, and with 2,000 tokens more
TOKENS_A_SECOND = 13 / 2.2  # characters a second, characters a token
GIB = 2**30


@dataclass
class Bench:
    """What the parts share."""

    args: argparse.Namespace
    device: torch.device
    deadline: float
    results: dict[str, Any] = field(default_factory=dict)
    seconds: np.ndarray = field(default_factory=lambda: np.empty(0))  # of the clips
    data: DataManager | None = None
    loop: PretrainLoop | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def model_config(self) -> Any:
        args = self.args
        return tiny_config(args.layers, args.dim, max(1, args.dim // 64), TEXT_ROWS)

    def new_gpt(self) -> torch.nn.Module:
        """Made on the device itself, where drawing 439 M numbers takes no time."""
        with torch.device(self.device):
            gpt = build_gpt(self.model_config, TEXT_ROWS)
        for table in (gpt.text_embedding, gpt.mel_embedding):
            torch.nn.init.normal_(table.weight, std=0.02)
        return gpt

    def config(self, folder: str) -> PretrainConfig:
        args = self.args
        return PretrainConfig(
            data_dir=str(args.work / "data"),
            base_model_path=str(args.work / "base"),
            output_model_path=str(args.work / "model"),
            checkpoint_dir=str(args.work / folder / "checkpoints"),
            log_dir=str(args.work / folder / "logs"),
            device=args.device,
            batch_seconds=args.batch_seconds,
        )

    def new_loop(self, folder: str, total: int) -> PretrainLoop:
        """The product's loop on new weights, started at step 0."""
        config = self.config(folder)
        self.data.config = config
        loop = PretrainLoop(
            CompactGPT(self.new_gpt(), config.training.dropout),
            self.data,
            CheckpointManager(config.checkpoint_dir, "bench", config.training.keep_checkpoints),
            MetricsLog(config.log_dir, fresh=True),
            config,
            build_accelerator(config),
            total,
            OLD_ROWS,
        )
        loop.start(None)
        return loop

    def peak(self, reset: bool = False) -> float:
        """GiB taken at most since the last reset."""
        if not self.on_gpu:
            return 0.0
        peak = torch.cuda.max_memory_allocated() / GIB
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return peak


def timed(bench: Bench, work: Callable[[], Any], times: int) -> float:
    """Seconds of a call, the fastest of `times` after one that does not count."""
    work()
    found = []
    for _ in range(times):
        began = synchronise(bench.device)
        work()
        found.append(synchronise(bench.device) - began)
    return min(found)


def release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def write_recordings(folder: Path, count: int) -> list[tuple[Path, float]]:
    """Noise in mp3 at 48,000 Hz: paths and seconds, whose distribution is Common Voice's (5 s on average)."""
    random, found = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for number, seconds in enumerate(np.clip(random.lognormal(1.48, 0.5, count), 1, 11.6).tolist()):
        loudness = np.repeat(random.uniform(0, 0.3, math.ceil(seconds * 8)), 6000)[: round(seconds * 48_000)]
        file = folder / f"{number}.mp3"
        soundfile.write(file, loudness * random.standard_normal(len(loudness)), 48_000)
        found.append((file, seconds))
    return found


def write_index(bench: Bench, cache: FeatureCache, split: str, count: int, model_args: Any) -> TrainingIndex:
    """`count` clips of 40 speakers, ten more in validation; those of validation have features of training clips."""
    speakers = 40 if split == "train" else 50
    rows = []
    for number in range(count):
        key = number % bench.args.clips
        name = f"{split}{number}"
        row = Row(name, str(key), f"speaker{number % speakers}", bench.seconds[key], f"/{name}.wav", "", name, True)
        rows.append((row, key + 1))
    random = np.random.default_rng(1)

    def encode(texts: list[str]) -> list[np.ndarray]:
        sizes = [max(1, round(bench.seconds[int(text)] * TOKENS_A_SECOND)) for text in texts]
        return [random.integers(300, TEXT_ROWS, size).astype("<u4") for size in sizes]

    return build_index(cache.folder, split, {"table": split}, rows, cache.find, encode, model_args)
