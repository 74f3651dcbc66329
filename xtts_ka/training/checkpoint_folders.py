"""The checkpoint folders of a run: their names, their format, and which of them are valid. Does not import torch.

checkpoints/step_00000500/   model.safetensors  optimizer.pt  state.json  config.json  manifest.json
checkpoints/superseded_1/    the checkpoints of a run that was replaced
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from xtts_ka.core.digests import MANIFEST, files_problem, load_manifest
from xtts_ka.core.files import TEMPORARY_SUFFIX
from xtts_ka.core.jsonl import number

CHECKPOINT_SCHEMA = 2  # in the manifest; schema 1 named the optimizer's moments by number
VALIDATION = 2  # in the manifest: how val_loss was measured; before 2 with the training's own voice samples and masking
STEP = re.compile(r"step_(\d{8})")
SUPERSEDED = re.compile(r"superseded_(\d+)")
UNFINISHED = re.compile(r"\.step_.*" + re.escape(TEMPORARY_SUFFIX))


@dataclass
class CheckpointFolder:
    """A checkpoint folder and what its manifest says of it.

    problem: why it cannot be used, or "". `of_this_run`, `last` and `best` are true of valid ones only: this run is the
    one that wrote the newest valid checkpoint, `last` its highest step, `best` its lowest validation loss.
    """

    folder: Path
    step: int
    run_id: str | None = None
    val_loss: float | None = None  # None where no validation was due
    validation: int = 1  # how it was measured: the VALIDATION of then
    time: float | None = None  # unix seconds when it was written
    files: frozenset[str] = frozenset()  # the manifest and the files it names; empty if it is no manifest of ours
    problem: str = ""
    of_this_run: bool = False
    last: bool = False
    best: bool = False


AnyCheckpoint = TypeVar("AnyCheckpoint", bound=CheckpointFolder)


def read_checkpoints(folder: Path, *, hashes: bool = False) -> list[CheckpointFolder]:
    """The checkpoint folders in `folder`, by step. `hashes` compares each file's SHA-256, not only its size."""
    found = [_read(path, int(name[1]), hashes) for path, name in subfolders(folder, STEP)]
    if valid := [c for c in found if not c.problem]:
        run_id = max(valid, key=lambda c: (c.time or 0.0, c.step)).run_id
        mine = [c for c in valid if c.run_id == run_id]
        for c in mine:
            c.of_this_run = True
        mine[-1].last = True
        if best := best_of(mine):
            best.best = True
    return found


def best_of(checkpoints: Iterable[AnyCheckpoint]) -> AnyCheckpoint | None:
    """The one with the lowest validation loss, the earliest of equals; None where none has one.

    Only losses that were measured in the same way are compared: in the newest way of those there are.
    """
    scored = [c for c in checkpoints if c.val_loss is not None]
    newest = max((c.validation for c in scored), default=0)
    return min((c for c in scored if c.validation == newest), key=attrgetter("val_loss", "step"), default=None)


def _read(folder: Path, step: int, hashes: bool) -> CheckpointFolder:
    manifest, problem = load_manifest(folder)
    if manifest and manifest.get("schema") != CHECKPOINT_SCHEMA:
        problem = f"it has schema {str(manifest.get('schema'))[:20]}, not {CHECKPOINT_SCHEMA}"
    elif manifest and manifest.get("step") != step:
        problem = f"{MANIFEST} is that of another step"
    if manifest is None or problem:
        return CheckpointFolder(folder, step, problem=problem)
    val_loss, time = (None if math.isnan(n := number(manifest.get(name))) else n for name in ("val_loss", "time"))
    files = frozenset({*manifest["files"], MANIFEST})
    problem = files_problem(folder, manifest, hashes=hashes)
    way = VALIDATION if manifest.get("validation") == VALIDATION else 1
    return CheckpointFolder(folder, step, str(manifest.get("run_id")), val_loss, way, time, files, problem)


def subfolders(folder: Path, pattern: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    """The folders in `folder` whose whole name matches, by name; none when `folder` does not exist."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(path, match) for path in paths if (match := pattern.fullmatch(path.name))]


def new_superseded(folder: Path) -> Path:
    """Make the next `superseded_N` folder in `folder`."""
    target = folder / f"superseded_{1 + max((int(name[1]) for _, name in subfolders(folder, SUPERSEDED)), default=0)}"
    target.mkdir()
    return target


def part_folder(folder: Path | str, part: str) -> Path:
    """Where a part's checkpoints or metrics stand, in the folder of the GPT's."""
    return Path(folder) / part


def unfinished(folder: Path) -> list[str]:
    """The names of checkpoints that are being written, or whose writer was killed."""
    return [path.name for path, _ in subfolders(folder, UNFINISHED)]


def folder_bytes(folder: Path) -> int:
    """Bytes of the files under `folder`. Files that vanish meanwhile count as nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def delete_folder(folder: Path) -> bool:
    """Delete a folder; False if it does not exist (any more).

    It is first renamed to the name of an unfinished write. So a reader finds a whole checkpoint or none, and what a
    kill leaves behind is deleted at the pipeline's next start.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return False
    shutil.rmtree(aside)
    return True
