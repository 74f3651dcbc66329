"""Measures training at XTTS-v2's full geometry on this machine's GPU, in 90 seconds, without any data.

    python tests/benchmarks/bench_gpu.py --seconds 85
    python tests/benchmarks/bench_gpu.py --device cpu --layers 1 --dim 64 --clips 48 --batch_seconds 40 --validation 24

Weights are random, recordings are noise in mp3 at 48,000 Hz, as long as Common Voice's clips; speed does not depend on
what is said. The parts, each of which may fail without harm to the others:

    start            the device as training names it, versions, a bf16 matrix product
    features         codes and mels of the recordings, decoding included
    training         our loop's steps of `batch_seconds`; the same with a voice sample for each clip
    optimizer        the optimizer's step, fused and not; the running average of the weights
    saving           a checkpoint and a validation, as shares of the default minutes between them
    micro_batches    speed and memory by size, up to the largest that fits
    out_of_memory    a step that does not fit: the loop must cut it smaller and go on
    gpt_trainer      coqui's GPTTrainer on the same clips, as its recipe sets it and at its best

A line of JSON follows each part, and one with all of them at the end. Exits 1 if a part failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/benchmarks")]

import coqui_trainer
import numpy as np
import torch
from bench_checkpoints import cost_of_a_save, timed_step
from bench_training import matrix_product_rate, step_flops, synchronise
from gpu_setup import GIB, TEXT_ROWS, TOKENS_A_SECOND, Bench, release, timed, write_index, write_recordings

from data_loader import DataManager
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import write_json
from xtts_ka.core.torch_settings import choose_device, describe_device
from xtts_ka.model.coqui_georgian import register
from xtts_ka.model.features import FeatureExtractor
from xtts_ka.model.geometry import MEL_BANDS, SAMPLE_RATE
from xtts_ka.model.networks import build_dvae, build_gpt, tiny_config
from xtts_ka.starter.base_model import starter_vocabulary
from xtts_ka.training.batch_plan import Batch, Room
from xtts_ka.training.feature_cache import Clip, FeatureCache
from xtts_ka.training.feature_filling import fill
from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator
from xtts_ka.training.memory_estimate import estimate_memory
from xtts_ka.training.optimizer import RunningAverage
from xtts_ka.training.prepare_features import filling_tools

VOICE_SAMPLES = 6 * SAMPLE_RATE  # of coqui's voice samples, which are padded to this length


# ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def start(bench: Bench) -> dict[str, Any]:
    config = bench.config("start")
    accelerator = build_accelerator(config)
    precision = "bf16" if accelerator.mixed_precision == "bf16" else "float32"
    say(f"device      {describe_device(accelerator.device, precision)}")  # what the training stage says
    found = {"python": sys.version.split()[0], "torch": torch.__version__, "precision": precision}
    if bench.on_gpu:
        free, total = torch.cuda.mem_get_info()
        found |= {"gpu": torch.cuda.get_device_name(), "memory_gib": total / GIB, "free_gib": free / GIB}
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
    return found | {"bf16_product_tflops": matrix_product_rate(bench.device, 8192 if bench.on_gpu else 512)}


def features(bench: Bench) -> dict[str, Any]:
    """Fills the cache and makes the indexes and the DataManager that the later parts use."""
    args, config, work = bench.args, bench.config("features"), bench.args.work
    began = time.perf_counter()
    files = write_recordings(work / "recordings", args.recordings)
    (work / "base").mkdir(parents=True)
    torch.save(build_dvae(1024).state_dict(), work / "base/dvae.pth")
    torch.save(torch.full((MEL_BANDS,), 5.0), work / "base/mel_stats.pth")
    say(f"made {len(files)} recordings in {time.perf_counter() - began:.1f} s")
    cache = FeatureCache(work / "data/features", "0" * 16)
    picked = [files[number % len(files)] for number in range(args.clips)]
    clips = [Clip(number + 1, str(file), seconds) for number, (file, seconds) in enumerate(picked)]
    model_args, base = bench.model_config.model_args, work / "base"
    tools = replace(
        filling_tools(config, model_args, str(bench.device)),
        make_extractor=lambda: FeatureExtractor(base, bench.model_config, str(bench.device)),
    )
    filled = fill(cache, clips, tools)
    bench.seconds = np.array([seconds for _, seconds in picked])
    train = write_index(bench, cache, "train", args.clips, model_args)
    val = write_index(bench, cache, "val", args.validation, model_args)
    bench.data = DataManager(config, train, val, cache, model_args)
    for line in bench.data.describe():
        say(line)
    return {
        "hours": filled.speech / 3600,
        "x_real_time": filled.speech / filled.seconds,
        "x_real_time_without_waiting_for_audio": filled.speech / (filled.seconds * (1 - filled.waited)),
        "waited_for_audio": filled.waited,
        "decoding_threads": tools.threads,
    }


def training(bench: Bench) -> dict[str, Any]:
    loop = bench.loop = bench.new_loop("training", 10**6)
    model = SimpleNamespace(config=bench.model_config, text_rows=TEXT_ROWS)
    found: dict[str, Any] = {"room_positions": loop.room.positions, "parameters": parameters(loop.bare)}
    bench.peak(reset=True)
    found |= measured_steps(bench, loop, model)
    found["peak_gib"] = bench.peak(reset=True)
    shape = bench.data.typical_clip()
    rows = loop.room.positions / (32 + shape.text + shape.codes + loop.room.per_row)
    estimate = estimate_memory(loop.bare, shape._replace(rows=rows), **loop.memory_facts)
    found["estimated_gib"] = (estimate.states + estimate.step) / GIB
    found["torch_calls_a_micro_batch"] = torch_calls(lambda: loop._backward(next(loop._steps())[:1]))
    loop.optimizer.zero_grad(set_to_none=True)
    own = loop.config.training.model_copy(update={"shared_voices": 1})
    shared, bench.data.config = bench.data.config, loop.config.model_copy(update={"training": own})
    found["with_own_voices"] = measured_steps(bench, loop, model)
    bench.data.config = shared
    return found


def torch_calls(work: Callable[[], Any]) -> int:
    """How many of torch's functions are called, those within others too: work for the CPU, whatever the sizes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        work()
    return sum(event.count for event in profiled.key_averages() if event.key.startswith("aten::"))


def measured_steps(bench: Bench, loop: PretrainLoop, model: Any) -> dict[str, float]:
    """Whole steps of the loop, up to a tenth of the time."""
    steps, waited, heard, flops, taken, voices, rows, pieces = loop._steps(), 0.0, 0.0, 0.0, [], 0, 0, 0
    end = time.monotonic() + bench.args.seconds / 10
    busy = 0.0  # seconds of all threads of this process
    while len(taken) < 4 or (time.monotonic() < end and len(taken) < 23):
        used = time.process_time()
        began = synchronise(bench.device)
        batches = next(steps)
        loaded = time.perf_counter()
        loop._train_step(batches)
        loop.progress.step += 1
        loop.progress.offset += 1
        taken.append(synchronise(bench.device) - began)
        if len(taken) > 2:  # the first two do not count
            waited += loaded - began
            busy += time.process_time() - used
            heard += sum(batch["seconds"] for batch in batches)
            flops += sum(step_flops(model, batch) for batch in batches)
            voices += sum(len(batch["cond_mels"]) for batch in batches)
            rows += sum(batch["shape"][0] for batch in batches)
            pieces += len(batches)
    total = sum(taken[2:])
    return {
        "audio_s_per_s": heard / total,
        "seconds_a_step": total / len(taken[2:]),
        "steps": len(taken) - 2,
        "waited_for_data": waited / total,
        "cpu_seconds_per_second": busy / total,
        "micro_batches_a_step": pieces / len(taken[2:]),
        "tflops_per_s": flops / total / 1e12,
        "voices_per_clip": voices / rows,
        "loss_is_finite": float(torch.isfinite(loop._window.sums).all()),
    }


def optimizer(bench: Bench) -> dict[str, Any]:
    loop = bench.loop
    for batch in next(loop._steps())[:1]:
        loop._backward([batch])
    found = {"fused_s": timed(bench, loop.optimizer.step, 3)}
    groups = [{**group, "fused": False, "foreach": True} for group in loop.optimizer.param_groups]
    plain = torch.optim.AdamW(groups)
    found["foreach_s"] = timed(bench, plain.step, 3)
    del plain
    average = RunningAverage(loop.bare.gpt, 0.999)
    found["running_average_s"] = timed(bench, lambda: average.update(1000), 3)
    loop.optimizer.zero_grad(set_to_none=True)
    step = bench.results["training"]["seconds_a_step"]
    return found | {"steps_per_s": 1 / step, "steps_per_s_with_average": 1 / (step + found["running_average_s"])}


def saving(bench: Bench) -> dict[str, Any]:
    loop, steps = bench.loop, bench.loop._steps()
    plain = [timed_step(loop, steps) for _ in range(4)][2:]
    first, *_, written = cost_of_a_save(loop, steps, sum(plain) / 2)  # it also takes the memory for the copies
    again, slowed = first, 0.0
    if bench.left > 3 * written:
        again, slowed, written = cost_of_a_save(loop, steps, sum(plain) / 2)
    size = sum(file.stat().st_size for file in loop.checkpoints.last().folder.iterdir())
    began = synchronise(bench.device)
    loop.validate()
    validation = synchronise(bench.device) - began
    minutes = PretrainConfig().training.validation_minutes
    return {
        "checkpoint_gb": size / 1e9,
        "first_save_blocks_s": first,
        "later_saves_block_s": again,
        "steps_slower_by_s": slowed,
        "written_in_s": written,
        "validation_clips": sum(len(batch.clips) for part in loop.data.val.batches().values() for batch in part),
        "validation_s": validation,
        f"share_of_the_time_every_{minutes:g}_minutes": (again + max(0, slowed) + validation) / (60 * minutes),
    }


def micro_batches(bench: Bench) -> dict[str, Any]:
    """Doubles the size of a micro-batch until memory ends, then tries two sizes between."""
    loop, found, size, fits, fails = bench.loop, {}, 1024, 0, 0
    largest = 2**18 if bench.on_gpu else 4096
    while bench.left > bench.args.seconds / 2 and size <= largest:
        bench.peak(reset=True)
        try:
            seconds, heard = micro_batch(bench, loop, size)
        except torch.OutOfMemoryError:
            fails = size
        else:
            fits = size
            found[str(size)] = {"audio_s_per_s": heard / seconds, "seconds": seconds, "peak_gib": bench.peak()}
        loop.optimizer.zero_grad(set_to_none=True)
        if bench.on_gpu:
            torch.cuda.empty_cache()
        if fails and fails - fits < 0.2 * fits:
            break
        size = (fits + fails) // 2 if fails else 2 * size
    return {"largest_that_fits": fits, "smallest_that_fails": fails, "by_positions": found}


def micro_batch(bench: Bench, loop: PretrainLoop, size: int) -> tuple[float, float]:
    """(seconds, seconds of speech) of the forward and backward pass of a micro-batch of `size` positions."""
    positions = bench.data.train.index.positions
    middle = int(np.median(positions))
    alike = np.flatnonzero(np.abs(positions.astype(np.int64) - middle) <= 0.1 * middle)
    rows = max(1, size // int(positions[alike].max()))
    batch = Batch(np.resize(alike, rows), 0, 387, (alike, np.arange(len(alike)) // 4))
    loaded = {**next(bench.data.loader(bench.data.train, [batch])), "weight": 1.0}
    return timed(bench, lambda: loop._backward([loaded]), 2), loaded["seconds"]


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """Two steps of the loop in a third of the memory, each at first as one micro-batch. On a CPU the lack is played."""
    bench.loop = None
    release()
    loop = bench.new_loop("out_of_memory", 2)
    loop.room, step = whole_step(bench), loop._train_step
    loop.save = lambda val_loss=None: None  # measured in `saving`
    loop.validate = lambda: 1.0
    sizes = []

    def train_step(batches: list[dict]) -> None:
        sizes.append(len(batches))
        if not bench.on_gpu and len(batches) < 4:
            raise torch.OutOfMemoryError("played")
        step(batches)

    loop._train_step = train_step
    if bench.on_gpu:
        states = estimate_memory(loop.bare, bench.data.typical_clip(), **loop.memory_facts).states
        limit = states + 12 * GIB
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / torch.cuda.mem_get_info()[1]))
    try:
        loop.fit()
    finally:
        if bench.on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)
    found = {"micro_batches_tried": sizes, "parts": loop.progress.parts, "steps_done": loop.progress.step}
    if loop.progress.step != 2 or loop.progress.parts < 2:
        raise AssertionError(f"memory did not run out, or training did not go on: {found}")
    return found


def whole_step(bench: Bench) -> Room:
    """Just enough for all clips of a step at once."""
    positions = bench.data.train.index.positions
    return Room(max(len(batch.clips) for batch in bench.data.train_batches(0)) * int(positions.max()))


def gpt_trainer(bench: Bench) -> dict[str, Any]:
    """coqui's mels, codes, forward and backward passes and AdamW, without its loading of recordings."""
    bench.loop = None
    release()
    register()
    folder = bench.args.work / "base"
    vocabulary = starter_vocabulary()
    used = set(vocabulary["model"]["vocab"].values())
    vocabulary["model"]["vocab"].update({f"t{i}": i for i in range(TEXT_ROWS) if i not in used})
    write_json(folder / "vocab.json", vocabulary)
    small = tiny_config(1, 64, 1, TEXT_ROWS)
    weights = build_gpt(small, TEXT_ROWS).state_dict
    model = SimpleNamespace(config=small, folder=folder, gpt_state=weights)
    trainer = coqui_trainer.build(model, str(folder / "vocab.json"), dropout=True, max_text_length=400)
    trainer.xtts.gpt = bench.new_gpt().train()  # of full size
    trainer.to(bench.device)
    trainer.config.lr = 5e-6
    adamw, found = trainer.get_optimizer(), {}
    for precision, rows in (("float32", 3), ("bf16", 3), ("bf16", 12), ("float32", 12)):
        if bench.left < 3:
            break
        bench.peak(reset=True)
        name = f"{precision}, batches of {rows}"
        found[name] = coqui_steps(bench, trainer, adamw, precision, rows) | {"peak_gib": bench.peak()}
        ours = bench.results.get("training", {}).get("audio_s_per_s")
        if ours:
            found[name]["ours_is_faster"] = ours / found[name]["audio_s_per_s"]
    return found


def coqui_steps(bench: Bench, trainer: Any, adamw: Any, precision: str, rows: int) -> dict[str, float]:
    """Micro-batches for a twentieth of the time; the optimizer's step counts once in `batch_seconds`."""
    autocast = torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bf16")
    batches, taken, heard, done = coqui_batches(bench, rows), 0.0, 0.0, -2
    end = time.monotonic() + bench.args.seconds / 20
    while done < 2 or time.monotonic() < end:
        batch = next(batches)
        began = synchronise(bench.device)
        batch = {name: value.to(bench.device) if value is not None else None for name, value in batch.items()}
        seconds = float(batch["wav_lengths"].sum()) / SAMPLE_RATE
        batch = trainer.format_batch_on_device(batch)
        with autocast:
            _, losses = trainer.train_step(batch, None)
        losses["loss"].backward()
        done += 1
        if done > 0:
            taken += synchronise(bench.device) - began
            heard += seconds
    torch.nn.utils.clip_grad_norm_(trainer.xtts.gpt.parameters(), 1.0)
    step = timed(bench, adamw.step, 1)
    adamw.zero_grad(set_to_none=True)
    whole = taken / heard * bench.args.batch_seconds + step
    return {
        "audio_s_per_s": bench.args.batch_seconds / whole,
        "micro_batches": done,
        "seconds_a_micro_batch": taken / done,
        "optimizer_s": step,
    }


def coqui_batches(bench: Bench, rows: int) -> Iterator[dict[str, Any]]:
    """The clips in the order of the table, as coqui's collate function gives them."""
    random, place = np.random.default_rng(0), 0
    while True:
        lengths = [round(bench.seconds[(place + row) % len(bench.seconds)] * SAMPLE_RATE) for row in range(rows)]
        texts = [max(1, round(n / SAMPLE_RATE * TOKENS_A_SECOND)) for n in lengths]
        wav = torch.zeros(rows, 1, max(lengths))
        voices = torch.zeros(rows, 1, 1, VOICE_SAMPLES)
        for row, length in enumerate(lengths):
            wav[row, 0, :length] = torch.from_numpy(random.standard_normal(length, np.float32))
            voices[row, 0, 0, : min(length // 2, VOICE_SAMPLES)] = 0.1
        yield {
            "wav": wav,
            "padded_text": torch.randint(300, TEXT_ROWS, (rows, max(texts))),
            "text_lengths": torch.tensor(texts),
            "wav_lengths": torch.tensor(lengths),
            "conditioning": voices,
            "cond_idxs": torch.tensor([[0, length // 2] for length in lengths]),
            "cond_lens": None,
        }
        place += rows


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ── all ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

PARTS = (start, features, training, micro_batches, optimizer, saving, gpt_trainer, out_of_memory)


def run_part(bench: Bench, part: Callable[[Bench], dict[str, Any]]) -> bool:
    """Whether the part went well; what it raised is printed, so that the others still run."""
    name, began = part.__name__, time.monotonic()
    say(f"\n── {name}")
    if bench.left < 3:
        say("left out: no time")
        return False
    try:
        bench.results[name] = rounded(part(bench))
    except Exception:  # any failure of one part: the GPU's minutes must not be lost for the others
        traceback.print_exc(file=sys.stdout)
        bench.results[name] = {"failed": traceback.format_exc(limit=-1)}
    bench.results[name]["took_s"] = round(time.monotonic() - began, 1)
    show(bench.results[name])
    print("JSON " + json.dumps({name: bench.results[name]}), flush=True)
    release()
    return "failed" not in bench.results[name]


def rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    return float(f"{found:.4g}") if isinstance(found, float) else found


def show(found: dict[str, Any], indent: str = "  ") -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            say(f"{indent}{name}")
            show(value, indent + "    ")
        else:
            say(f"{indent}{name:<40} {value}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=85, help="in all; what no longer fits is left out")
    parser.add_argument(
        "--parts", nargs="+", choices=[part.__name__ for part in PARTS], help="only these (default: all)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--clips", type=int, default=600, help="training clips")
    parser.add_argument("--recordings", type=int, default=24, help="different recordings, which the clips repeat")
    parser.add_argument("--validation", type=int, default=1000, help="validation clips")
    parser.add_argument("--batch_seconds", type=float, default=1260)
    parser.add_argument("--work", type=Path, help="an empty folder (default: a temporary one)")
    args = parser.parse_args(argv)
    deadline, given = time.monotonic() + args.seconds, args.work
    args.work = given or Path(tempfile.mkdtemp(prefix="bench_gpu_"))
    bench = Bench(args, torch.device(choose_device(args.device)), deadline)
    good = [run_part(bench, part) for part in PARTS if not args.parts or part.__name__ in args.parts]
    say("\n── all")
    print("JSON " + json.dumps(bench.results), flush=True)
    if not given:
        shutil.rmtree(args.work, ignore_errors=True)
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
