"""Run folders as a training leaves them, with curves of a chosen kind: for the tests of the monitor."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from xtts_ka.core.digests import write_manifest
from xtts_ka.core.files import write_json
from xtts_ka.core.jsonl import append_jsonl
from xtts_ka.training.checkpoint_folders import CHECKPOINT_SCHEMA

START = 1_790_000_000.0  # unix seconds at which every synthetic run begins
STAGES = ("embeddings", "phonemes", "language", "xtts_init", "full_pretrain")
PEAK = 2e-5


def cosine(share: float, warmup: float = 0.02, floor: float = 0.1) -> float:
    """Learning rate at `share` of the run: warm-up, then a cosine to a tenth of the peak."""
    if share < warmup:
        return PEAK * share / warmup
    return PEAK * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))))


def descent(share: float) -> float:
    """A loss that falls like a power of the steps, from 6.0 to 2.85 at the end of the run."""
    return 2.0 + 4.0 * (1 + 30 * share) ** -0.45


def curve(kind: str, lines: int = 400, total_lines: int | None = None, every: int = 10, seed: int = 1) -> list[dict]:
    """The metric lines of a run of one kind, with a validation every ten lines.

    kind: healthy, plateau, divergence, spikes, overfitting, lr_noise, starvation.
    """
    draw = random.Random(f"{kind}{seed}")
    total = total_lines or lines
    records = []
    for i in range(1, lines + 1):
        share, noise = i / total, draw.gauss(0, 0.02)
        loss, val, lr, norm, wait = descent(share), descent(share) + 0.1, cosine(share), 0.8, 0.05
        if kind == "plateau":
            loss = max(loss, descent(0.25))
            val, lr = loss + 0.1, PEAK
        elif kind == "divergence" and share > 0.6:
            loss, norm = descent(0.6) + 12 * (share - 0.6), 9.0
            val, lr = loss + 0.1, PEAK
        elif kind == "spikes" and i > 30 and i % 37 == 0:
            loss, norm = loss * 1.8, 9.0
        elif kind == "overfitting":
            val = descent(share) + 0.1 + 4.0 * max(0.0, share - 0.4)
        elif kind == "lr_noise":
            loss, val, lr, norm, noise = 4.0, 4.1, PEAK, 5.0, draw.gauss(0, 0.8)
        elif kind == "starvation":
            wait = 1.6
        loss = max(0.1, loss + noise)
        time = round(START + 3.0 * i + draw.uniform(-0.1, 0.1), 3)
        records.append(
            {
                "step": i * every,
                "split": "train",
                "loss": loss,
                "loss_text": loss * 1.4,
                "loss_mel": loss * 0.99,
                "lr": lr,
                "grad_norm": norm + draw.uniform(0, 0.1),
                "audio_s_per_s": 28 + draw.gauss(0, 0.5),
                "data_wait_s": wait,
                "time": time,
            }
        )
        if i % 10 == 0:
            val += draw.gauss(0, 0.005)
            records.append(
                {
                    "step": i * every,
                    "split": "val",
                    "loss": val,
                    "loss_text": val * 1.4,
                    "loss_mel": val * 0.99,
                    "time": time + 0.5,
                }
            )
    return records


def heard(kind: str = "better", rounds: int = 20, last: int = 4000, seed: int = 1) -> list[dict]:
    """The lines of samples. kind: better; worse: the CER rises from the middle on; similarity alone: nobody listens."""
    draw = random.Random(f"{kind}{seed}")
    lines = []
    for i in range(1, rounds + 1):
        share, step = i / rounds, i * last // rounds
        cer = 0.9 - 0.6 * share if kind == "better" or share < 0.5 else 0.6 + 0.5 * (share - 0.5)
        values = {"cer": cer + draw.gauss(0, 0.01), "wer": 0.9, "fault_rate": 0.4 + draw.gauss(0, 0.02)}
        values |= {"recogniser_cer": 0.04}
        similarity = {"similarity": 0.5 + 0.2 * share + draw.gauss(0, 0.005)}
        times = {"seconds": 2.0, "time": START + 0.3 * step + 1.5}
        spoken = similarity if kind == "similarity alone" else values | similarity
        lines.append({"step": step, "split": "samples", **spoken, **times})
    return lines


def started(step: int = 0, total: int = 4000, resumed: bool = False, time: float = START) -> dict:
    return {"event": "start", "step": step, "total_steps": total, "resumed": resumed, "run_id": "run-a", "time": time}


def write_log(path: Path, records: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def add_checkpoint(
    folder: Path,
    step: int,
    val_loss: float | None = None,
    run_id: str = "run-a",
    time: float | None = None,
    size: int = 5000,
) -> Path:
    """A checkpoint folder with our manifest and `size` bytes of weights."""
    target = folder / f"step_{step:08d}"
    target.mkdir(parents=True)
    (target / "model.safetensors").write_bytes(step.to_bytes(8, "little") * (size // 8))
    (target / "optimizer.pt").write_bytes(b"o" * 100)
    write_json(target / "state.json", {"step": step, "skipped": 0})
    write_json(target / "config.json", {})
    write_manifest(
        target,
        {
            "schema": CHECKPOINT_SCHEMA,
            "step": step,
            "run_id": run_id,
            "val_loss": val_loss,
            "time": START + 0.3 * step if time is None else time,
        },
    )
    return target


def progress_record(status: str = "done", **stages: dict) -> dict:
    """pretrain_progress.json with every stage in `status`; keyword arguments replace fields of a stage."""
    entry = {
        "status": status,
        "started": "2026-09-21T13:00:00Z",
        "finished": "2026-09-21T13:10:00Z",
        "seconds": 600.0,
        "error": None,
        "metrics": {},
        "fingerprint": {"version": 1, "config": {}, "inputs": {}, "outputs": {}},
    }
    return {"schema": 1, "stages": {name: entry | stages.get(name, {}) for name in STAGES}}


def make_run(
    folder: Path, records: list[dict] | None = None, checkpoints: Callable[[Path], None] | None = None, **config: object
) -> Path:
    """A run's folder; returns its config file. Without `records` nothing has been logged."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "xtts_pretrain_config.json"
    write_json(path, {"max_steps": 4000, **config})
    if records is not None:
        log = write_log(folder / "logs" / "metrics.jsonl", [started(), *records])
        write_json(folder / "models" / "xtts_v2_ka" / "pretrain_progress.json", progress_record())
        append_jsonl(log, {"event": "finish", "step": 4000, "time": records[-1]["time"] + 1 if records else START})
    if checkpoints:
        checkpoints(folder / "checkpoints")
    return path
