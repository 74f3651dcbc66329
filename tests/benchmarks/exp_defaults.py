"""Measures what the training's defaults do: peak rate, the new rows' rate, warm-up, batch, and the rarest new token.

A small XTTS GPT is trained on espeak-ng speech of six languages (as in exp_informed_init.py), extended to Georgian
(`mean`), and trained with the product's optimizer and schedule on the starter's sentences. Every setting sees the same
number of clips. Printed: validation text and audio loss, mean ± standard deviation over the seeds.

    python tests/benchmarks/exp_defaults.py --work /tmp/defaults --base_steps 1000
    python tests/benchmarks/exp_defaults.py --work /tmp/defaults --tokens FILE   # tokens by the corpus's size
    python tests/benchmarks/exp_defaults.py --work /tmp/defaults --padding       # padding and sharing by micro-batch
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/benchmarks")]

import numpy as np
import torch
from exp_informed_init import Material, losses, plan, trained_base

from data_loader import Draw, XTTSDataset
from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.files import write_json
from xtts_ka.model.checkpoint import XttsFiles, grow_text_rows, load_gpt
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.geometry import SAMPLE_RATE
from xtts_ka.model.text_rows import new_rows
from xtts_ka.model.vocabulary import count_words, extend_vocabulary, load_tokenizer
from xtts_ka.starter.base_model import starter_vocabulary
from xtts_ka.training.batch_plan import Batch, Room, group_clips, padding, plan_epoch
from xtts_ka.training.optimizer import NewRows, Schedule, build_optimizer

ROOMS = (2048, 4096, 6144, 8192, 16_384, 32_768)


class Setting(NamedTuple):
    """One row of the table."""

    rate: float = 3e-4
    rows: float = 1.0  # the new rows' rate, as a multiple
    warmup: int = 50
    clips: int = 8  # of a step
    pairs: int = 2  # min_pair_count

    def __str__(self) -> str:
        changed = {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}
        return ", ".join(f"{name} {value:g}" for name, value in changed.items()) or "rate 0.0003, the rest as default"


SETTINGS = (
    Setting(),
    *(Setting(rate=rate) for rate in (3e-5, 1e-4, 1e-3)),
    *(Setting(rows=rows) for rows in (3, 10)),
    *(Setting(rate=3e-5, rows=rows) for rows in (10, 30)),
    Setting(rate=1e-3, rows=10),
    Setting(warmup=0),
    *(Setting(clips=clips) for clips in (2, 32)),
    Setting(pairs=10),
)


class Start:
    """The base model extended by the tokens of one `min_pair_count`, and the Georgian clips in these tokens."""

    def __init__(self, material: Material, base: XttsFiles, args: argparse.Namespace, pairs: int):
        held, path = len(material.georgian) // 8, args.work / f"vocab_ka_{pairs}.json"
        words = count_words(clip.text for _, clip in material.georgian[held:])
        words = {word: count // args.voices for word, count in words.items()}  # each sentence is spoken so often
        self.extension = extend_vocabulary(args.work / "vocab.json", words, new_tokens=2000, min_pair_count=pairs)
        write_json(path, self.extension.vocabulary)
        tokenizer = load_tokenizer(path)
        self.train = material.dataset(f"ka_train_{pairs}", material.georgian[held:], tokenizer)
        self.val = material.dataset(f"ka_val_{pairs}", material.georgian[:held], tokenizer)
        counts = np.bincount(self.train.index.tokens, minlength=self.extension.size)[self.extension.new_ids]
        self.frequencies = np.log((counts + 0.5) / (counts + 0.5).sum()).tolist()
        self.base, self.tokenizer, self.collate = base, material.tokenizer, material.collate

    def model(self, seed: int) -> CompactGPT:
        tokens, base = self.extension.new_tokens, self.base
        rows = new_rows("mean", tokens, base.gpt_state(), self.tokenizer, self.frequencies, seed)
        state = grow_text_rows(base, rows.embedding, rows.head, rows.bias)
        return CompactGPT(load_gpt(XttsFiles(base.config, state, base.folder)), 0.1)


def batches(data: XTTSDataset, collate, clips: int, seed: int) -> Iterator[dict]:
    for epoch in itertools.count():
        for step in plan(data, clips, seed, epoch):
            yield collate([data[Draw(int(clip), epoch, 130)] for clip in step])


def train(start: Start, setting: Setting, visits: int, seed: int) -> tuple[float, float]:
    """Validation text and audio loss after about `visits` clips."""
    torch.manual_seed(seed)
    training = TrainingConfig(warmup_steps=setting.warmup, new_rows_rate=setting.rows)
    config = PretrainConfig(learning_rate=setting.rate, training=training)
    model, steps = start.model(seed), visits // setting.clips
    optimizer, schedule = build_optimizer(model, config), Schedule.of(config, steps)
    rows = NewRows(model, start.base.text_rows, setting.rows)
    source = batches(start.train, start.collate, setting.clips, seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        batch = next(source)
        text, audio = model.train()(batch)
        (0.01 * text / len(batch["text_target"]) + audio / len(batch["audio_target"])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with rows.faster():
            optimizer.step()
        optimizer.zero_grad()
    return losses(model, start.val, start.collate)


def experiment(args: argparse.Namespace) -> None:
    material = Material(args)
    base = trained_base(material, args)
    starts = {pairs: Start(material, base, args, pairs) for pairs in {setting.pairs for setting in SETTINGS}}
    print(f"{len(starts[2].train)} + {len(starts[2].val)} Georgian clips; new tokens by min_pair_count: ", end="")
    print(", ".join(f"{pairs}: {len(start.extension.new_ids)}" for pairs, start in sorted(starts.items())))
    print("\n| setting | text | audio | s |\n|---|---|---|---|", flush=True)
    for setting in SETTINGS if args.rows is None else [SETTINGS[row] for row in args.rows]:
        began = time.time()
        found = [train(starts[setting.pairs], setting, args.visits, seed) for seed in range(args.seeds)]
        cells = [f"{statistics.mean(c):.3f} ± {statistics.stdev(c) if len(c) > 1 else 0:.3f}" for c in zip(*found)]
        print(f"| {setting} | {cells[0]} | {cells[1]} | {time.time() - began:.0f} |", flush=True)


def tokens_of_corpora(file: Path, folder: Path) -> None:
    """How many tokens corpora of so many of the file's lines give, and how often the rarest is there."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
    random.Random(0).shuffle(lines)
    base = folder / "vocab.json"
    write_json(base, starter_vocabulary())
    print("| lines | words | " + " | ".join(f"min_pair_count {pairs}" for pairs in (2, 5, 10, 20)) + " |")
    sizes = [size for size in (100, 300, 1000, 3000, 10_000, 30_000, 100_000) if size < len(lines)] + [len(lines)]
    for size in sizes:
        words = count_words(lines[:size])
        found = [
            len(extend_vocabulary(base, words, new_tokens=2000, min_pair_count=pairs).new_ids)
            for pairs in (2, 5, 10, 20)
        ]
        print(
            f"| {size:,} | {sum(words.values()):,} | " + " | ".join(f"{count:,}" for count in found) + " |", flush=True
        )


def print_padding() -> None:
    """Padding, and micro-batches a step, of 20,000 clips with lengths as in Common Voice, planned and cut."""
    seconds = np.clip(np.random.default_rng(0).lognormal(1.4, 0.5, 20_000), 1, 28)
    positions, samples = (37 + 28.5 * seconds).astype(np.uint32), (seconds * SAMPLE_RATE).astype(np.int64)
    print("| batch_seconds | " + " | ".join(f"{room:,} positions" for room in ROOMS) + " |")
    for batch_seconds in (24, 256, 1260):
        plan = plan_epoch(positions, samples, batch_seconds * SAMPLE_RATE, 0, 0)
        cells = []
        for room in ROOMS:
            cut = [piece.clips for step in plan for piece in Batch(step, 0, 0).cut(positions, Room(room))]
            cells.append(f"{100 * padding(positions, cut):.1f} %, {len(cut) / len(plan):.1f}")
        print(f"| {batch_seconds:,} | {' | '.join(cells)} |")
    print_sharing(positions, samples)


def print_sharing(positions: np.ndarray, samples: np.ndarray) -> None:
    """Padding, and voice samples encoded for each clip, by how many may share one: speaker n has 1 / n as many clips
    as the first, of 500."""
    shares = 1 / np.arange(1, 501)
    speakers = np.random.default_rng(1).choice(500, len(positions), p=shares / shares.sum())
    _, speakers = np.unique(speakers, return_inverse=True)
    print("\n| shared_voices | " + " | ".join(f"{room:,} positions" for room in ROOMS) + " |")
    for shared in (1, 2, 4, 8):
        groups, cells = group_clips(speakers, positions, shared, 0, 0), []
        plan = plan_epoch(positions, samples, 1260 * SAMPLE_RATE, 0, 0, groups)
        for room in ROOMS:
            steps = [Batch(step, 0, 0, (step, groups[step])) for step in plan]
            cut = [piece for step in steps for piece in step.cut(positions, Room(room))]
            voices = sum(len({draw.sharing or (draw.clip,) for draw in piece.draws()}) for piece in cut)
            cells.append(
                f"{100 * padding(positions, [piece.clips for piece in cut]):.1f} %, {voices / len(positions):.2f}"
            )
        print(f"| {shared} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, help="a text file, one sentence a line: count tokens only")
    parser.add_argument("--padding", action="store_true", help="print padding only")
    parser.add_argument("--rows", type=int, nargs="+", help="only these rows of the table, from 0")
    parser.add_argument("--base_steps", type=int, default=1000)
    parser.add_argument("--per_language", type=int, default=160)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--longest", type=float, default=3.0)
    parser.add_argument("--voices", type=int, default=2, help="voices that speak each Georgian sentence")
    parser.add_argument("--visits", type=int, default=800, help="clips that each training sees")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    began = time.time()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.padding:
        print_padding()
    elif args.tokens:
        tokens_of_corpora(args.tokens, args.work)
    else:
        experiment(args)
    print(f"\n{(time.time() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
