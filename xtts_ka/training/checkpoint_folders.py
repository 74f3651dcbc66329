"""The checkpoint folders of a run: names, format, what is in them. No torch needed."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import Any

from xtts_ka.core.digests import MANIFEST, read_manifest
from xtts_ka.core.files import TEMPORARY_SUFFIX
from xtts_ka.core.jsonl import number

CHECKPOINT = re.compile(r"step_(\d{8})")  # name of a checkpoint's folder
CHECKPOINT_SCHEMA = 2  # of a checkpoint's manifest, for those who write and those who watch; 1 had moments by number


SUPERSEDED = re.compile(r"superseded_\d+")
UNFINISHED = re.compile(r"\.step_.*" + re.escape(TEMPORARY_SUFFIX))


def list_checkpoints(folder: Path, *, verify: bool = False, now: float | None = None) -> list[dict[str, Any]]:
    """The checkpoint folders, oldest step first, with validity and the marks of best and last.

    Best and last are sought among the valid checkpoints of the run that wrote the newest one, as training
    does.
    """
    now = time.time() if now is None else now
    found = [_checkpoint(path, int(name[1]), verify, now) for path, name in subfolders(folder, CHECKPOINT)]
    found.sort(key=lambda c: c["step"])
    valid = [c for c in found if c["valid"]]
    if valid:
        newest = max(valid, key=lambda c: (c["time"] or 0.0, c["step"]))["run_id"]
        mine = [c for c in valid if c["run_id"] == newest]
        for c in mine:
            c["of_this_run"] = True
        max(mine, key=lambda c: c["step"])["last"] = True
        if scored := [c for c in mine if c["val_loss"] is not None]:
            min(scored, key=lambda c: (c["val_loss"], c["step"]))["best"] = True
    return found


def _checkpoint(path: Path, step: int, verify: bool, now: float) -> dict[str, Any]:
    manifest, reason = read_manifest(path, hashes=verify)
    facts = manifest if isinstance(manifest, dict) else {}
    if manifest is not None and (facts.get("schema") != CHECKPOINT_SCHEMA or facts.get("step") != step):
        manifest, reason = None, f"{MANIFEST} is of another kind or another step"
    written, val_loss = number(facts.get("time")), number(facts.get("val_loss"))
    return {
        "name": path.name,
        "step": step,
        "bytes": folder_bytes(path),
        "time": None if math.isnan(written) else written,
        "age_seconds": None if math.isnan(written) else max(0.0, now - written),
        "run_id": str(facts.get("run_id")),
        "val_loss": None if math.isnan(val_loss) else val_loss,
        "valid": manifest is not None,
        "reason": reason,
        "best": False,
        "last": False,
        "of_this_run": False,
    }


def subfolders(folder: Path, pattern: re.Pattern) -> list[tuple[Path, re.Match]]:
    """Real folders (no links) in `folder` whose whole name matches; none when `folder` is not there."""
    try:
        with os.scandir(folder) as entries:
            return [
                (Path(e.path), m)
                for e in entries
                if (m := pattern.fullmatch(e.name)) and e.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def superseded_folders(folder: Path) -> list[Path]:
    """The folders to which the pipeline moved runs that were replaced."""
    return sorted(path for path, _ in subfolders(folder, SUPERSEDED))


def folder_bytes(folder: Path) -> int:
    """Bytes of the files under `folder`; what vanishes meanwhile counts as nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue
    return total
