"""Training throughput against coqui's GPTTrainer: same clips, weights, geometry, threads, precision and optimizer.

    python tests/benchmarks/bench_training.py --work /tmp/bench --layers 4 --dim 256

Prints audio seconds per second of both, split into data, preparation (mels, DVAE codes) and step, and their ratios; our
cache is built anew and timed too, and the first epoch, cache and all, compared. On CUDA also model FLOPs utilisation
against a bf16 matrix product of the same run, and peak memory beside the estimate. --cpu_time with --threads 1 counts
this process's CPU seconds, which hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import coqui_trainer
import torch

from data_loader import open_data
from xtts_ka.core.config import PretrainConfig, StarterConfig, TrainingConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import write_json
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.tables import has_metadata, read_split
from xtts_ka.model.checkpoint import XttsFiles, grow_text_rows, load_gpt, read_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.coqui_georgian import register
from xtts_ka.model.geometry import SAMPLE_RATE
from xtts_ka.model.text_rows import new_rows
from xtts_ka.model.vocabulary import count_words, extend_vocabulary, load_tokenizer
from xtts_ka.starter.base_model import make_base_model
from xtts_ka.starter.speech import read_sentences, speak_corpus
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator
from xtts_ka.training.memory_estimate import estimate_memory


def prepare(args) -> tuple[PretrainConfig, XttsFiles]:
    """Speech, base model and extended vocabulary in `args.work`."""
    work = args.work
    config = PretrainConfig(
        data_dir=str(work / "data"),
        base_model_path=str(work / f"base_{args.layers}x{args.dim}"),
        log_dir=str(work / "logs"),
        checkpoint_dir=str(work / "checkpoints"),
        output_model_path=str(work / "model"),
        device=args.device,
        learning_rate=1e-4,
        training=TrainingConfig(
            precision=args.precision, dropout=0.1, conditioning=args.conditioning, shared_voices=args.shared_voices
        ),
    )
    if not has_metadata(config.data_dir):
        sentences = read_sentences(ROOT / "data/starter_sentences_ka.txt")
        speak_corpus(sentences, work / "speech", seed=1, max_clips=args.clips)
        create_metadata(work / "speech", Path(config.data_dir), format="coqui")
    clips = read_split(config.data_dir, "train")
    mean = sum(clip.duration for clip in clips) / len(clips)
    config.batch_seconds = args.batch * getattr(args, "accumulation", 1) * mean  # as much audio as in coqui's step
    if not Path(config.base_model_path).exists():
        make_base_model(
            Path(config.base_model_path),
            StarterConfig(layers=args.layers, model_dim=args.dim, heads=args.dim // 64),
            [clip.audio_path for clip in clips[:80]],
            0,
        )
    base = read_model(config.base_model_path)
    extension = extend_vocabulary(
        base.vocab_file, count_words(c.text for c in clips), new_tokens=1000, min_pair_count=2, archaic_letters=False
    )
    write_json(work / "model" / "vocab.json", extension.vocabulary)
    rows = new_rows("random", extension.new_tokens, base.gpt_state(), load_tokenizer(base.vocab_file), None, 0)
    return config, XttsFiles(base.config, grow_text_rows(base, rows.embedding, rows.head, rows.bias), base.folder)


clock = time.perf_counter  # or time.process_time


def synchronise(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock()


# ── theirs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_coqui(args, config: PretrainConfig, model: XttsFiles, device: torch.device) -> dict[str, float]:
    """coqui's loader, `format_batch_on_device`, `train_step`, and AdamW every `accumulation` of `steps` batches."""
    register()
    trainer = coqui_trainer.build(model, str(args.work / "model/vocab.json"), dropout=True, max_text_length=400).to(
        device
    )
    trainer.config.batch_size = args.batch
    samples = [
        {"text": c.text, "audio_file": str(c.audio_path), "language": "ka", "speaker_name": c.speaker_id}
        for c in read_split(config.data_dir, "train")
    ]
    loader = trainer.get_data_loader(trainer.config, samples=samples)
    torch.set_num_threads(args.threads)
    trainer.config.lr = config.learning_rate
    optimizer = trainer.get_optimizer()
    times, seconds, done = {"data": 0.0, "preparation": 0.0, "step": 0.0}, 0.0, -args.warmup
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16")
    while done < args.steps:
        mark = synchronise(device)
        for batch in loader:
            marks = [mark, synchronise(device)]
            batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
            heard = float(batch["wav_lengths"].sum()) / SAMPLE_RATE
            batch = trainer.format_batch_on_device(batch)
            marks.append(synchronise(device))
            with autocast:
                _, losses = trainer.train_step(batch, None)
            (losses["loss"] / args.accumulation).backward()
            if done % args.accumulation == args.accumulation - 1:
                torch.nn.utils.clip_grad_norm_(trainer.xtts.gpt.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            mark = synchronise(device)
            marks.append(mark)
            done += 1
            if done > 0:
                seconds += heard
                for name, (a, b) in zip(times, pairwise(marks)):
                    times[name] += b - a
            if done == args.steps:
                break
    return {
        "audio_s_per_s": seconds / sum(times.values()),
        **{f"{n}_share": t / sum(times.values()) for n, t in times.items()},
        "seconds_a_step": sum(times.values()) / args.steps,
    }


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_ours(args, config: PretrainConfig, model: XttsFiles) -> dict[str, float]:
    """The cache, then the training loop's own steps."""
    torch.set_num_threads(args.threads)
    accelerator = build_accelerator(config)
    shutil.rmtree(Path(config.data_dir) / "features", ignore_errors=True)
    began = clock()
    data = open_data(config, str(accelerator.device))
    cache_seconds, audio = (clock() - began, sum(split.index.seconds.sum() for split in (data.train, data.val)))
    compact = CompactGPT(load_gpt(model), config.training.dropout)
    checkpoints = CheckpointManager(config.checkpoint_dir, "bench")
    loop = PretrainLoop(compact, data, checkpoints, None, config, accelerator, 10**6)
    shape = data.typical_clip()._replace(rows=args.batch)
    say(f"memory {estimate_memory(compact, shape, bf16=args.precision == 'bf16')}")
    torch.set_num_threads(args.threads)
    times, seconds, flops, device = {"data": 0.0, "step": 0.0}, 0.0, 0.0, accelerator.device
    steps, done, asked = loop._steps(), -args.warmup, max(1, args.steps // args.accumulation)
    while done < asked:
        marks = [synchronise(device)]
        batches = next(steps)
        marks.append(synchronise(device))
        loop._train_step(batches)
        marks.append(synchronise(device))
        loop.progress.step += 1
        loop.progress.offset += 1
        done += 1
        if done > 0:
            seconds += sum(batch["seconds"] for batch in batches)
            flops += sum(step_flops(model, batch) for batch in batches)
            times["data"] += marks[1] - marks[0]
            times["step"] += marks[2] - marks[1]
    total = sum(times.values())
    return {
        "audio_s_per_s": seconds / total,
        **{f"{n}_share": t / total for n, t in times.items()},
        "seconds_a_step": total / asked,
        "tflops_per_s": flops / total / 1e12,
        "cache_seconds": cache_seconds,
        "cache_x_real_time": audio / cache_seconds,
        "train_seconds": float(data.train.index.seconds.sum()),
    }


def step_flops(model: XttsFiles, batch: dict) -> float:
    """Useful floating-point operations of a training step (3 × forward): matrices 2·parameters·positions, attention
    4·length²·dim a layer, halved where causal (as in Kaplan et al. 2020, appendix; no recomputation counted)."""
    args = model.config.model_args
    dim, (rows, length) = args.gpt_n_model_channels, batch["shape"]
    voices, _, frames = batch["cond_mels"].shape
    blocks = args.gpt_layers * (2 * 12 * dim**2 * rows * length + 2 * rows * length**2 * dim)
    voice = 6 * (2 * 4 * dim**2 * voices * frames + 4 * voices * frames**2 * dim)
    heads = (
        2 * dim * (len(batch["text_target"]) * model.text_rows + len(batch["audio_target"]) * args.gpt_num_audio_tokens)
    )
    return 3 * (blocks + voice + heads)


def matrix_product_rate(device: torch.device, size: int = 8192) -> float:
    """Measured bf16 TFLOP/s of a square matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    mark = synchronise(device)
    for _ in range(10):
        a @ b
    return 10 * 2 * size**3 / (synchronise(device) - mark) / 1e12


def geometry_parser(description: str) -> argparse.ArgumentParser:
    """What every benchmark of the training loop asks for: where to work, and what to train on what."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8, help="clips of coqui's batches")
    parser.add_argument("--clips", type=int, default=360)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--conditioning", default="same_speaker", help="ours; coqui cuts voice samples from the clips")
    parser.add_argument("--shared_voices", type=int, default=TrainingConfig().shared_voices, help="ours")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    return parser


def main() -> None:
    parser = geometry_parser(__doc__)
    parser.add_argument(
        "--accumulation", type=int, default=8, help="of coqui's batches in a step; ours has as much audio"
    )
    parser.add_argument("--steps", type=int, default=32, help="coqui's batches; ours are as much audio")
    parser.add_argument("--warmup", type=int, default=3, help="coqui's batches, and our steps, that do not count")
    parser.add_argument("--cpu_time", action="store_true", help="measure CPU time")
    args = parser.parse_args()
    if args.cpu_time:
        global clock
        clock = time.process_time
    config, model = prepare(args)
    device = torch.device("cpu" if args.device == "cpu" else "cuda")
    results = {}
    for name, run in (
        ("coqui", lambda: run_coqui(args, config, model, device)),
        ("ours", lambda: run_ours(args, config, model)),
    ):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        results[name] = run()
        if device.type == "cuda":
            results[name]["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        say(f"{name:<6} " + "  ".join(f"{key} {value:.3f}" for key, value in results[name].items()))
    ours, coqui = results["ours"], results["coqui"]
    size = f"{args.layers} × {args.dim}, batch {args.batch} × {args.accumulation}"
    what = f"{size}, {args.threads} threads, {args.precision}, {device.type}"
    faster = ours["audio_s_per_s"] / coqui["audio_s_per_s"]
    say(f"\n{what}: ours / coqui = {faster:.2f} × audio seconds per second")
    theirs_first = ours["train_seconds"] / coqui["audio_s_per_s"]
    our_first = ours["cache_seconds"] + ours["train_seconds"] / ours["audio_s_per_s"]
    faster = theirs_first / our_first
    say(f"first epoch, cache included: coqui {theirs_first:.0f} s, ours {our_first:.0f} s ({faster:.2f} ×)")
    if device.type == "cuda":
        rate = matrix_product_rate(device)
        say(f"bf16 product {rate:.0f} TFLOP/s; model utilisation {100 * ours['tflops_per_s'] / rate:.1f} %")


if __name__ == "__main__":
    main()
