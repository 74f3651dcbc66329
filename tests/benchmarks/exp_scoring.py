"""Compares ways of choosing and masking voice samples by what they reach at equal steps.

    python tests/benchmarks/exp_scoring.py --work /tmp/scoring

    masked     a part of the clip itself, 3 to 6 s or half of a shorter clip; its codes are not scored, in any row: the
               default until 2026-11-26
    others     the default now: another clip of the speaker, every code scored
    unmasked   the same part of the clip itself, every code scored

Starter speech, untrained base models of 2 × 128 and 4 × 256, three seeds each. Validation is the product's: the voice
of another clip, all codes scored. Runs go in parallel, one thread each; finished ones are kept in WORK, not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from data_loader import DataManager, Draw, Sample, XTTSDataset, open_data
from xtts_ka.core.config import PretrainConfig, StarterConfig, TrainingConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import write_json
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.tables import has_metadata, read_split
from xtts_ka.model.checkpoint import XttsFiles, grow_text_rows, load_gpt, read_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.text_rows import new_rows
from xtts_ka.model.vocabulary import count_words, extend_vocabulary, load_tokenizer
from xtts_ka.starter.base_model import make_base_model
from xtts_ka.starter.speech import read_sentences, speak_corpus
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator
from xtts_ka.training.metrics_log import MetricsLog

WAYS = ("masked", "others", "unmasked")
STEPS = {(2, 128): 60, (4, 256): 30}  # by layers and width


class OwnVoice(XTTSDataset):
    """Every clip hears a part of itself, as coqui cuts it; masked: the codes of that part are not scored."""

    def __init__(self, data: XTTSDataset, masked: bool):
        super().__init__(data.index, data.cache, "coqui", data.seed)
        self.conditioning, self.masked = "own", masked  # another name: only coqui's own masking is by batch

    def __getitem__(self, draw: Draw) -> Sample:
        codes, mel = self._features(self.index, draw.clip)
        random = self._random(draw.clip, draw.epoch)
        crop = draw.cond_frames if len(mel) >= draw.cond_frames else max(1, len(mel) // 2)
        first = int(random.integers(0, len(mel) - crop + 1))
        voice = np.resize(mel[first : first + crop], (draw.cond_frames, mel.shape[1]))
        return Sample(self.index.text(draw.clip), codes, voice, (first, first + crop) if self.masked else (0, 0))


def prepare(work: Path, layers: int, dim: int, clips: int) -> tuple[PretrainConfig, XttsFiles]:
    """Speech and tables (once), a base model of this size with Georgian text rows, and the config."""
    folder = work / f"{layers}x{dim}"
    config = PretrainConfig(
        data_dir=str(work / "data"),
        base_model_path=str(folder / "base"),
        output_model_path=str(folder / "model"),
        device="cpu",
        batch_size=6,
        learning_rate=1e-3,
        training=TrainingConfig(warmup_steps=20, log_interval=20),
    )
    if not has_metadata(config.data_dir):
        speak_corpus(read_sentences(ROOT / "data/starter_sentences_ka.txt"), work / "speech", seed=1, max_clips=clips)
        create_metadata(work / "speech", Path(config.data_dir), format="coqui")
    train = read_split(config.data_dir, "train")
    if not Path(config.base_model_path).exists():
        shape = StarterConfig(layers=layers, model_dim=dim, heads=dim // 64)
        make_base_model(Path(config.base_model_path), shape, [clip.audio_path for clip in train[:80]], 0)
    base = read_model(config.base_model_path)
    extension = extend_vocabulary(base.vocab_file, count_words(c.text for c in train), new_tokens=600, min_pair_count=2)
    write_json(folder / "model/vocab.json", extension.vocabulary)
    rows = new_rows("mean", extension.new_tokens, base.gpt_state(), load_tokenizer(base.vocab_file), None, 0)
    return config, XttsFiles(base.config, grow_text_rows(base, rows.embedding, rows.head, rows.bias), base.folder)


def data_for(config: PretrainConfig, way: str) -> DataManager:
    data = open_data(config)
    if way != "others":
        data.train = OwnVoice(data.train, masked=way == "masked")
    return data


def validation_lines(
    config: PretrainConfig, model: XttsFiles, data: DataManager, steps: int, folder: Path
) -> list[dict]:
    """Train `model` for so many steps, with checkpoints and logs in `folder`; the log's lines of its validations."""
    folders = {"checkpoint_dir": str(folder / "checkpoints"), "log_dir": str(folder / "logs")}
    config, log = config.model_copy(update=folders), MetricsLog(folder / "logs", fresh=True)
    loop = PretrainLoop(
        CompactGPT(load_gpt(model), config.training.dropout),
        data,
        CheckpointManager(folder / "checkpoints", "run", 2),
        log,
        config,
        build_accelerator(config),
        steps,
    )
    loop.start(None)
    loop.fit()
    return [line for line in read_jsonl(log.file) if line.get("split") == "val"]


def run(work: Path, size: tuple[int, int], way: str, seed: int, clips: int) -> list[dict]:
    """The validation lines of one training."""
    layers, dim = size
    folder = work / f"{layers}x{dim}" / f"{way}_{seed}"
    done = folder / "val.json"
    if not done.is_file():
        torch.set_num_threads(1)
        config, model = prepare(work, layers, dim, clips)
        steps = STEPS[size]
        training = config.training.model_copy(
            update={"conditioning": "same_speaker" if way == "others" else "coqui", "validation_interval": steps // 2}
        )
        config = config.model_copy(update={"seed": seed, "training": training, "checkpoint_interval": steps})
        write_json(done, validation_lines(config, model, data_for(config, way), steps, folder))
    return json.loads(done.read_text())


def options(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for speech, models and finished runs")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    return parser


def all_lines(run: Callable, args: argparse.Namespace, sizes: Iterable[tuple[int, int]], ways: Iterable) -> dict:
    """(size, seed, way) → the lines of that training, several of which run at a time."""
    jobs = list(itertools.product(sizes, range(1, args.seeds + 1), ways))
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        running = {job: pool.submit(run, args.work, job[0], job[2], job[1], args.clips) for job in jobs}
        return {job: future.result() for job, future in running.items()}


def main() -> None:
    args = options(__doc__).parse_args()
    for size in STEPS:  # the features are computed here, once for all runs of a size
        config, _ = prepare(args.work, *size, args.clips)
        open_data(config)
    data = data_for(config.model_copy(update={"training": TrainingConfig(conditioning="coqui")}), "masked")
    drawn = [data.train[draw] for batch in data.train_batches(0) for draw in batch.draws()]
    hidden = sum(min(-(-s.heard[1] // 4), len(s.codes)) - s.heard[0] // 4 for s in drawn)
    say(f"masked: {100 * (1 - hidden / sum(len(s.codes) for s in drawn)):.1f} % of the audio codes are scored")
    lines = all_lines(run, args, STEPS, WAYS)
    for size in STEPS:
        say(f"\n{size[0]} × {size[1]}: nats a code of validation, mean (lowest–highest of {args.seeds} seeds)")
        for way in WAYS:
            by_seed = [lines[size, seed, way] for seed in range(1, args.seeds + 1)]
            say(f"  {way:<10}" + "  ".join(summary(same_step) for same_step in zip(*by_seed)))


def summary(lines: tuple[dict, ...]) -> str:
    """The seeds' losses at one step."""
    values = [line["loss_mel"] for line in lines]
    return f"step {lines[0]['step']}: {statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


if __name__ == "__main__":
    main()
