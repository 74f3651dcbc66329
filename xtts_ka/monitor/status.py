"""The state of a run as one dict of plain values: stages, training, checkpoints, disk, warnings.

Only reads: it takes no lock, opens no weights (except to verify checksums), and works on a copied folder. A file that
is missing or damaged becomes a warning, never an error.
"""

from __future__ import annotations

import json
import math
import shutil
import textwrap
import time
from calendar import timegm
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import size
from xtts_ka.core.lock import RunLock
from xtts_ka.core.robust import smooth
from xtts_ka.core.stage_ledger import NO_RECORD, Record
from xtts_ka.monitor.analysis import Trend, data_wait_share, trend
from xtts_ka.monitor.history import UNSEEN, RunHistory, Table
from xtts_ka.monitor.time_left import estimate_time_left, training_seconds
from xtts_ka.training import checkpoint_folders
from xtts_ka.training.checkpoint_folders import CheckpointFolder, folder_bytes, read_checkpoints

NOW_LINES = 20  # most training lines whose mean is shown as the present loss


def read_status(
    config: PretrainConfig, history: RunHistory, *, verify: bool = False, now: float | None = None
) -> dict[str, Any]:
    """Everything the screen shows. Refresh `history` first. verify: compare checksums (reads every weight).

    Times are unix seconds, durations seconds, sizes bytes; what is not known is None.
    """
    now = time.time() if now is None else now
    warnings: list[str] = []
    out = Path(config.output_model_path)
    holder = RunLock(out / "pretrain.lock").holder()
    driver = {"running": bool(holder), **{key: holder.get(key) for key in ("pid", "host", "since")}}
    # After so young a line training must be alive, even if nobody seems to hold the lock (another host may).
    young = now - history.last_time < max(60.0, 5 * _line_gap(history.train.table()))
    fresh = history.last_event == "start" and young
    record = out / "pretrain_progress.json"
    stages = _stages(record, config.stages(), driver["running"] or fresh, now, warnings)
    training = _training(config, history, stages, fresh, now)
    if training:
        warnings += _training_warnings(history, training)
    folder = Path(config.checkpoint_dir)
    checkpoints = [_checkpoint(checkpoint, now) for checkpoint in read_checkpoints(folder, hashes=verify)]
    disk = _disk(config, training, [c for c in checkpoints if c["of_this_run"]])
    warnings += _checkpoint_warnings(checkpoints, disk)
    status = {
        "schema": 1,
        "time": now,
        "run_folder": str(out),
        "driver": driver,
        "stages": stages,
        "training": training,
        "checkpoints": checkpoints,
        "unfinished_checkpoints": checkpoint_folders.unfinished(folder),
        "disk": disk,
        "warnings": [_one_line(warning) for warning in warnings],
    }
    # Strict JSON: NaN and infinity become None, numpy's numbers Python's.
    return json.loads(json.dumps(status, default=lambda value: value.item()), parse_constant=lambda _: None)


def _stages(path: Path, names: tuple[str, ...], alive: bool, now: float, warnings: list[str]) -> list[dict[str, Any]]:
    """The stages of these names in the stage record. alive: whether anything shows that a process works on them."""
    entries: dict[str, Any] = {}
    try:
        entries = dict(json.loads(path.read_bytes())["stages"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        warnings.append(f"{path.name} cannot be read: the pipeline will check every stage again when it next runs")
    return [_stage(name, entries.get(name), alive, now, warnings) for name in names]


def _stage(name: str, entry: Any, alive: bool, now: float, warnings: list[str]) -> dict[str, Any]:
    try:
        record = Record.model_validate(entry)
    except ValidationError:
        record = NO_RECORD
    status: str = record.status
    seconds, started, error = record.seconds, _unix(record.started), record.error
    if status == "running":
        status, seconds = ("running", now - started) if alive else ("interrupted", math.nan)
    elif status == "pending" and error:
        status = "interrupted"
    if status == "failed":
        warnings.append(f"stage {name} failed: {error or 'no reason was recorded'}")
    elif status == "interrupted":
        warnings.append(f"stage {name} was interrupted: the same command carries on")
    return {
        "name": name,
        "status": status,
        "seconds": seconds if seconds > 0 else None,
        "started": started,
        "finished": _unix(record.finished),
        "error": error,
        "metrics": record.metrics,
    }


def _unix(stamp: Any) -> float:
    """Unix seconds of a stamp such as 2026-11-23T05:40:00Z; NaN for anything else."""
    try:
        return float(timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _training(config: PretrainConfig, history: RunHistory, stages: list[dict], fresh: bool, now: float) -> dict | None:
    """Figures of the training, or None before the first event or metric."""
    train, val = history.train.table(), history.val.table()
    if not len(train["step"]) and not len(val["step"]) and history.last_event is None:
        return None
    step = max(history.train.last, history.val.last, history.resumed_at, 0)
    total = history.total_steps or config.max_steps or max(1, step)
    gap = _line_gap(train)
    state = _state(history, stages, fresh)
    eta = estimate_time_left(train, total) if state not in ("finished", "starting") else None
    left = math.nan
    if eta:  # counts down between two lines, and stands still when no further line comes
        left = max(0.0, eta.seconds - min(max(0.0, now - _newest(train, "time")), gap))
    return {
        "state": state,
        "step": step,
        "total_steps": total,
        "fraction": min(1.0, step / total),
        "run_id": history.run_id,
        "restarts": len(history.restarts),
        "seconds": training_seconds(train),
        "last_line_time": history.last_time,
        "last_line_age_seconds": np.maximum(0.0, now - history.last_time),
        "line_gap_seconds": gap or None,
        "loss": {"train": _train_losses(train), "val": _val_losses(val), "unseen": _val_losses(val, UNSEEN)},
        "samples": _samples(history.samples.table(), training_seconds(train)),
        "choice": vars(history.choice) if history.choice else None,
        "lr": _newest(train, "lr"),
        "grad_norm": _newest(train, "grad_norm"),
        "audio_s_per_s": _newest(train, "audio_s_per_s", NOW_LINES),
        "seconds_per_step": eta.seconds_per_step if eta else None,
        "data_wait_share": data_wait_share(train),
        "eta_seconds": left,
        "eta_plus_minus_seconds": eta.plus_minus if eta else None,
        "ends": now + left if state == "running" else None,
        "damaged_lines": history.damaged,
        "skipped_steps": history.skipped[-20:],
        "memory_splits": [{"step": step, "parts": parts} for step, parts in history.splits],
        "nonfinite_steps": sorted({*history.train.nonfinite, *history.val.nonfinite})[-20:],
    }


def _state(history: RunHistory, stages: list[dict], fresh: bool) -> str:
    """running, starting (again), finished, stopped, failed, or interrupted (ended without a word)."""
    stage = next(s["status"] for s in stages if s["name"] == "full_pretrain")
    if history.last_event in ("finish", "stop"):
        ended = {"finish": "finished", "stop": "stopped"}[history.last_event]
        return "starting" if stage == "running" else ended
    if fresh or stage == "running":
        return "running"
    return {"done": "finished", "failed": "failed"}.get(stage, "interrupted")


def _line_gap(train: Table) -> float:
    """Usual seconds between two training lines; 0 while unknown."""
    gaps = np.diff(train["time"][-200:])
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 0.0


def _newest(table: Table, column: str, lines: int = 1) -> float:
    """The median of the newest known values."""
    values = table[column][~np.isnan(table[column])][-lines:]
    return float(np.median(values)) if len(values) else math.nan


def _train_losses(train: Table) -> dict[str, Any]:
    """Means over the newest fifth of the lines, at most NOW_LINES, and the lowest such mean: one batch says little."""
    half = min(NOW_LINES // 2, max(1, len(train["step"]) // 10))
    smoothed = {name: smooth(train[name], 2 * half + 1) for name in ("loss", "loss_text", "loss_mel")}
    now = [column[-half - 1 :][0] if len(column) else math.nan for column in smoothed.values()]
    inner = slice(half, -half) if len(train["step"]) > 2 * half else slice(None)  # at the ends the means are of fewer
    return _losses(now, smoothed["loss"][inner], train["step"][inner], trend(train))


def _val_losses(val: Table, part: str = "") -> dict[str, Any]:
    """Of all validation clips, or of the part whose losses' names begin so."""
    now = [_newest(val, part + name) for name in ("loss", "loss_text", "loss_mel")]
    loss = val[part + "loss"]
    return _losses(now, loss, val["step"], trend({"step": val["step"], "loss": loss}, share=0.5))


def _losses(now: list[float], loss: np.ndarray, step: np.ndarray, found: Trend | None) -> dict[str, Any]:
    best = int(np.nanargmin(loss)) if not np.all(np.isnan(loss)) else None
    return {
        **dict(zip(("now", "now_text", "now_mel"), now)),
        "best": None if best is None else loss[best],
        "best_step": None if best is None else int(step[best]),
        "trend": vars(found) if found else None,
    }


def _samples(samples: Table, seconds: float) -> dict[str, Any] | None:
    """What was heard in the rounds of samples; None where there was none. seconds: of training."""
    if not len(samples["step"]):
        return None
    cer = samples["cer"]
    best = int(np.nanargmin(cer)) if not np.all(np.isnan(cer)) else None
    found = trend({"step": samples["step"], "loss": cer}, share=0.5)
    return {
        "rounds": len(samples["step"]),
        "step": int(samples["step"][-1]),
        **{name: _newest(samples, name) for name in ("cer", "wer", "similarity", "fault_rate", "recogniser_cer")},
        "best_cer": None if best is None else cer[best],
        "best_step": None if best is None else int(samples["step"][best]),
        "trend": vars(found) if found else None,
        "share_of_time": float(np.nansum(samples["seconds"])) / seconds if seconds else None,
    }


def _checkpoint(c: CheckpointFolder, now: float) -> dict[str, Any]:
    names = ("step", "time", "run_id", "val_loss", "best", "last", "of_this_run")
    return {name: getattr(c, name) for name in names} | {
        "name": c.folder.name,
        "bytes": folder_bytes(c.folder),
        "age_seconds": None if c.time is None else max(0.0, now - c.time),
        "valid": not c.problem,
        "reason": c.problem,
    }


def _disk(config: PretrainConfig, training: dict | None, checkpoints: list[dict]) -> dict[str, Any]:
    """Free space and what the run may still need: `keep_checkpoints`, the best one, and one being written.

    `checkpoints` are those of this run.
    """
    folder = Path(config.checkpoint_dir)
    usage = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
    largest = max((c["bytes"] for c in checkpoints[-2:]), default=0)
    more = max(1, config.training.keep_checkpoints + 2 - len(checkpoints))
    return {
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "checkpoint_bytes": largest or None,
        "needed_bytes": 0 if training and training["state"] == "finished" else largest * more,
    }


def _training_warnings(history: RunHistory, training: dict[str, Any]) -> list[str]:
    warnings = []
    age, gap = training["last_line_age_seconds"], training["line_gap_seconds"] or 0.0
    if training["state"] == "running" and age > max(120.0, 10 * gap):
        usual = f", where one comes every {gap:.0f} s" if gap else ""
        warnings.append(f"no new metrics for {age / 60:.0f} min{usual}: validation takes long, or the run hangs")
    elif training["state"] == "interrupted":
        warnings.append("training was interrupted (no process, no new metrics): the same command carries on")
    if bad := training["nonfinite_steps"]:
        warnings.append(f"losses that are not a number: {len(bad)}, the last at step {bad[-1]}")
    if skipped := history.skipped:
        last = f"the last at step {skipped[-1]}: if there are more, lower learning_rate"
        warnings.append(f"steps skipped because the loss or gradient was not finite: {len(skipped)}, {last}")
    if history.splits:
        step, parts = history.splits[-1]
        warnings.append(
            f"the GPU's memory ran out at step {step}: since then micro-batches are cut into {parts} pieces, the "
            "same training but slower; training.gradient_checkpointing avoids that"
        )
    if history.damaged:
        warnings.append(f"damaged lines passed over in {history.path.name}: {history.damaged}")
    return warnings


def _checkpoint_warnings(checkpoints: list[dict], disk: dict[str, Any]) -> list[str]:
    invalid = [c for c in checkpoints if not c["valid"]]
    warnings = [f"checkpoint {c['name']} is not valid ({c['reason']}): training will not use it" for c in invalid]
    if disk["free_bytes"] < disk["needed_bytes"]:
        figures = f"{size(disk['free_bytes'])} are free and the run may need {size(disk['needed_bytes'])} more"
        warnings.append(f"the disk is low: {figures} for checkpoints: see --cleanup")
    return warnings


def _one_line(text: str) -> str:
    """`text` as one line of at most 300 characters, without control characters, which a terminal would obey."""
    return textwrap.shorten("".join(c if c.isprintable() else " " for c in text), 300, placeholder="…")
