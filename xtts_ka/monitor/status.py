"""Where a run stands, as one dict of builtins: stages, training, checkpoints, disk, warnings.

Only reads. It takes no lock, opens no weights (unless asked to verify checksums), and works on a copied
folder. A file that is missing or damaged is a line among the warnings, never an error.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from calendar import timegm
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.config import STAGES, PretrainConfig
from xtts_ka.core.console import size
from xtts_ka.core.jsonl import number
from xtts_ka.core.lock import RunLock
from xtts_ka.core.robust import smooth
from xtts_ka.monitor.analysis import Analysis, analyse, data_wait_share, trend
from xtts_ka.monitor.history import RunHistory, Table
from xtts_ka.monitor.time_left import estimate_time_left, training_seconds
from xtts_ka.training.checkpoint_folders import UNFINISHED, folder_bytes, list_checkpoints, subfolders

NOW_LINES = 20  # training lines at most whose mean is "the loss now"


def read_status(
    config: PretrainConfig, history: RunHistory, *, verify: bool = False, now: float | None = None
) -> dict[str, Any]:
    """Everything the screen shows. Refresh `history` first. verify: compare checksums (reads every weight).

    Times are unix seconds, durations seconds, sizes bytes; what is not known is None.
    """
    now = time.time() if now is None else now
    warnings: list[str] = []
    driver = _driver(Path(config.output_model_path) / "pretrain.lock")
    fresh = _is_fresh(history, now)
    stages = _stages(
        Path(config.output_model_path) / "pretrain_progress.json", driver["running"] or fresh, now, warnings
    )
    checkpoints = list_checkpoints(Path(config.checkpoint_dir), verify=verify, now=now)
    training = _training(config, history, stages, fresh, now)
    status = {
        "schema": 1,
        "time": now,
        "run_folder": str(Path(config.output_model_path)),
        "driver": driver,
        "stages": stages,
        "training": training,
        "checkpoints": checkpoints,
        "unfinished_checkpoints": _unfinished(config.checkpoint_dir),
        "disk": _disk(config, training, checkpoints),
        "warnings": warnings,
    }
    _training_warnings(history, training, warnings)
    _checkpoint_warnings(status, warnings)
    status["warnings"] = [_one_line(warning) for warning in warnings]
    return _builtins(status)


def judge(config: PretrainConfig, history: RunHistory, checkpoints: list[dict]) -> Analysis:
    """`run_analysis.analyse` on this run."""
    bad = sorted(history.train.nonfinite + history.val.nonfinite)
    return analyse(
        history.train.table(),
        history.val.table(),
        clip_norm=config.training.clip_norm,
        checkpoints=checkpoints,
        nonfinite=bad,
        skipped=history.skipped,
    )


# ── stages and the process that runs them ───────────────────────────────────────────────────────────────────


def _driver(lock: Path) -> dict[str, Any]:
    """Who holds the pipeline's lock now."""
    holder = RunLock(lock).holder()
    return {"running": bool(holder), **{key: holder.get(key) for key in ("pid", "host", "since")}}


def _stages(path: Path, alive: bool, now: float, warnings: list[str]) -> list[dict[str, Any]]:
    try:
        record = json.loads(path.read_bytes().decode("utf-8"))
        entries = record["stages"]
        if not isinstance(entries, dict):
            raise TypeError
    except FileNotFoundError:
        entries = {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        warnings.append(f"{path.name} cannot be read: the pipeline will look at every stage again when it next runs")
        entries = {}
    return [_stage(name, entries.get(name), alive, now, warnings) for name in STAGES]


def _stage(name: str, entry: Any, alive: bool, now: float, warnings: list[str]) -> dict[str, Any]:
    entry = entry if isinstance(entry, dict) else {}
    status = entry.get("status") if entry.get("status") in ("running", "done", "failed") else "pending"
    started, seconds = _unix(entry.get("started")), number(entry.get("seconds"))
    error = entry["error"] if isinstance(entry.get("error"), str) else None
    if status == "running":
        seconds = now - started
        if not alive:
            status, seconds = "interrupted", math.nan
    if status == "pending" and error:
        status = "interrupted"
    if status == "failed":
        warnings.append(f"stage {name} failed: {error or 'no reason was recorded'}")
    elif status == "interrupted":
        warnings.append(f"stage {name} was interrupted: the same command carries on")
    metrics = entry["metrics"] if isinstance(entry.get("metrics"), dict) else {}
    return {
        "name": name,
        "status": status,
        "seconds": seconds if seconds > 0 else math.nan,
        "started": started,
        "finished": _unix(entry.get("finished")),
        "error": error,
        "metrics": metrics,
    }


def _unix(stamp: Any) -> float:
    """Unix seconds of a stamp such as 2026-11-23T05:40:00Z; NaN for anything else."""
    try:
        return float(timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
    except (TypeError, ValueError, OverflowError):
        return math.nan


# ── training ────────────────────────────────────────────────────────────────────────────────────────────────


def _training(config: PretrainConfig, history: RunHistory, stages: list[dict], fresh: bool, now: float) -> dict | None:
    """Figures of the training, or None before the first event or metric."""
    train, val = history.train.table(), history.val.table()
    if not len(train["step"]) and not len(val["step"]) and history.last_event is None:
        return None
    step = max(history.train.last, history.val.last, history.resumed_at, 0)
    total = history.total_steps or config.max_steps
    gap = _line_gap(train)
    state = _state(history, stages, fresh)
    eta = estimate_time_left(train, total) if state not in ("finished", "starting") else None
    newest = {name: _newest(train, name) for name in ("lr", "grad_norm")}
    left = math.nan
    if eta:  # counts down between two lines, and stands still when they stay away
        left = max(0.0, eta.seconds - (min(max(0.0, now - _newest(train, "time")), gap) if gap > 0 else 0.0))
    return {
        "state": state,
        "step": step,
        "total_steps": total,
        "fraction": min(1.0, step / total) if total else None,
        "run_id": history.run_id,
        "restarts": history.restart_count,
        "seconds": training_seconds(train),
        "last_line_time": history.last_time,
        "last_line_age_seconds": np.maximum(0.0, now - history.last_time),
        "line_gap_seconds": gap,
        "loss": {"train": _train_losses(train), "val": _val_losses(val)},
        **newest,
        "audio_s_per_s": _newest(train, "audio_s_per_s", NOW_LINES),
        "seconds_per_step": eta.seconds_per_step if eta else None,
        "data_wait_share": data_wait_share(train),
        "eta_seconds": left,
        "eta_plus_minus_seconds": eta.plus_minus if eta else None,
        "ends": now + left if state == "running" else None,
        "damaged_lines": history.damaged,
        "skipped_steps": history.skipped[-20:],
        "memory_splits": [{"step": step, "parts": parts} for step, parts in history.splits],
        "nonfinite_steps": sorted(set(history.train.nonfinite + history.val.nonfinite))[-20:],
    }


def _is_fresh(history: RunHistory, now: float) -> bool:
    """True when the newest line is so young that training must be alive, whoever holds the lock."""
    gap = _line_gap(history.train.table())
    return history.last_event == "start" and now - history.last_time < max(60.0, 5 * gap if gap > 0 else 0.0)


def _state(history: RunHistory, stages: list[dict], fresh: bool) -> str:
    """running, starting (again), finished, stopped, failed, or interrupted (no sign of life without them)."""
    stage = next(s["status"] for s in stages if s["name"] == "full_pretrain")
    if history.last_event in ("finish", "stop"):
        ended = {"finish": "finished", "stop": "stopped"}[history.last_event]
        return "starting" if stage == "running" else ended
    if fresh or stage == "running":
        return "running"
    return {"done": "finished", "failed": "failed"}.get(stage, "interrupted")


def _line_gap(train: Table) -> float:
    """Usual seconds between two training lines; NaN while unknown."""
    gaps = np.diff(train["time"][-200:][train["lines"][-200:] == 1])
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else math.nan


def _newest(table: Table, column: str, lines: int = 1) -> float:
    values = table[column][~np.isnan(table[column])][-lines:]
    return float(np.median(values)) if len(values) else math.nan


def _train_losses(train: Table) -> dict[str, Any]:
    """Means over the newest fifth of the lines or NOW_LINES, and the lowest such mean: a single batch says little."""
    half = min(NOW_LINES // 2, max(1, len(train["step"]) // 10))
    newest = slice(-2 * half - 1, None)
    now = {name: _mean(train[name][newest]) for name in ("loss", "loss_text", "loss_mel")}
    full = slice(half, -half) if len(train["step"]) > 2 * half else slice(None)  # at the ends the means are of fewer
    smoothed, steps = smooth(train["loss"], train["lines"], 2 * half + 1)[full], train["step"][full]
    at = int(np.nanargmin(smoothed)) if not np.all(np.isnan(smoothed)) else None
    return {
        "now": now["loss"],
        "now_text": now["loss_text"],
        "now_mel": now["loss_mel"],
        "best": None if at is None else smoothed[at],
        "best_step": None if at is None else int(steps[at]),
        "trend": _trend(train),
    }


def _val_losses(val: Table) -> dict[str, Any]:
    known = ~np.isnan(val["low"])
    at = int(np.argmin(val["low"][known])) if known.any() else None
    return {
        "now": _newest(val, "loss"),
        "now_text": _newest(val, "loss_text"),
        "now_mel": _newest(val, "loss_mel"),
        "best": val["low"][known][at] if at is not None else None,
        "best_step": int(val["low_step"][known][at]) if at is not None else None,
        "trend": _trend(val, 0.5),
    }


def _trend(table: Table, share: float = 1 / 3) -> dict[str, Any] | None:
    found = trend(table, share=share)
    return vars(found) if found else None


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


# ── checkpoints and disk ────────────────────────────────────────────────────────────────────────────────────


def _unfinished(folder: str) -> list[str]:
    return sorted(path.name for path, _ in subfolders(Path(folder), UNFINISHED))


def _disk(config: PretrainConfig, training: dict | None, checkpoints: list[dict]) -> dict:
    """Free space, how fast the run has filled it on the whole, and what it can still need.

    Checkpoints come and go, so growth is what stands on the disk now over the time spent in training. The
    need is bounded: `keep_checkpoints`, the best one, and one being written.
    """
    place = next(p for p in (Path(config.checkpoint_dir), *Path(config.checkpoint_dir).parents) if p.exists())
    usage = shutil.disk_usage(place)
    mine = [c for c in checkpoints if c["of_this_run"]]
    running = training is not None and training["state"] == "running"
    hours = training["seconds"] / 3600 if running else 0.0
    written = sum(c["bytes"] for c in mine) + folder_bytes(Path(config.log_dir))
    growth = written / hours if hours > 1 / 60 else math.nan
    largest = max((c["bytes"] for c in mine[-2:]), default=0)
    finished = training is not None and training["state"] == "finished"
    more = max(1, config.training.keep_checkpoints + 2 - len(mine))
    need = 0 if finished else largest * more
    return {
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "growth_bytes_per_hour": growth,
        "full_in_seconds": 3600 * usage.free / growth if growth > 0 else None,
        "checkpoint_bytes": largest or None,
        "needed_bytes": need,
    }


# ── warnings ────────────────────────────────────────────────────────────────────────────────────────────────


def _training_warnings(history: RunHistory, training: dict | None, warnings: list[str]) -> None:
    if training is None:
        return
    age, gap = training["last_line_age_seconds"], training["line_gap_seconds"]
    if training["state"] == "running" and age > max(120.0, 10 * gap if gap > 0 else 0):
        usual = f", where one comes every {gap:.0f} s" if gap > 0 else ""
        warnings.append(f"no new metrics for {age / 60:.0f} min{usual}: validation takes long, or the run hangs")
    elif training["state"] == "interrupted":
        warnings.append("training was interrupted (no process, no new metrics): the same command carries on")
    if bad := training["nonfinite_steps"]:
        warnings.append(
            f"{len(bad)} logged loss{'es are' * (len(bad) > 1) or ' is'} not a number, the last at step {bad[-1]}"
        )
    if skipped := history.skipped:
        steps = "1 step was" if len(skipped) == 1 else f"{len(skipped)} steps were"
        warnings.append(
            f"{steps} skipped because the loss or gradient was not finite, the last at step "
            f"{skipped[-1]}: if more come, lower learning_rate"
        )
    if history.splits:
        step, parts = history.splits[-1]
        warnings.append(
            f"the GPU's memory ran out at step {step}: since then each batch is cut into {parts} pieces, "
            f"the same training but slower; a smaller batch_size avoids that"
        )
    if history.damaged:
        lines = "line was" if history.damaged == 1 else "lines were"
        warnings.append(f"{history.damaged} damaged {lines} passed over in {history.path.name}")


def _checkpoint_warnings(status: dict, warnings: list[str]) -> None:
    for checkpoint in status["checkpoints"]:
        if not checkpoint["valid"]:
            warnings.append(
                f"checkpoint {checkpoint['name']} is not valid ({checkpoint['reason']}): training will not use it"
            )
    disk = status["disk"]
    if disk["needed_bytes"] and disk["free_bytes"] < disk["needed_bytes"]:
        warnings.append(
            f"the disk is low: {size(disk['free_bytes'])} are free and the run may "
            f"need "
            f"{size(disk['needed_bytes'])} more for checkpoints: see --cleanup"
        )


# ── plain values ────────────────────────────────────────────────────────────────────────────────────────────


def _one_line(text: str, longest: int = 300) -> str:
    """Free text as one line without control characters (a terminal would obey them)."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _builtins(value: Any) -> Any:
    """`value` with numpy numbers as plain ones and NaN as None, so that it is strict JSON."""
    if isinstance(value, dict):
        return {str(key): _builtins(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_builtins(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
