"""Which checkpoints may go, and their deletion. Nothing is touched that the pipeline did not write."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtts_ka.core.console import size
from xtts_ka.core.digests import MANIFEST
from xtts_ka.core.files import TEMPORARY_SUFFIX
from xtts_ka.training.checkpoint_folders import (
    CHECKPOINT,
    CHECKPOINT_SCHEMA,
    folder_bytes,
    list_checkpoints,
    superseded_folders,
)


@dataclass(frozen=True)
class Doomed:
    """A folder that may go: a checkpoint, or a whole replaced run."""

    path: Path
    bytes: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.path.name, "bytes": self.bytes, "why": self.why}


@dataclass
class Plan:
    """What would be deleted, what is kept, and what is left alone with the reason (by name)."""

    doomed: list[Doomed] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The plan as text."""
        lines = [f"keep    {name}  ({why})" for name, why in self.kept.items()]
        lines += [f"leave   {name}  ({why})" for name, why in self.left_alone.items()]
        lines += [f"delete  {d.path.name}  {size(d.bytes)}  ({d.why})" for d in self.doomed]
        if not self.doomed:
            return [*lines, "there is nothing to delete"]
        return [*lines, f"{len(self.doomed)} to delete, which frees {size(sum(d.bytes for d in self.doomed))}"]


def plan(folder: Path, keep: int, *, superseded: bool = False) -> Plan:
    """What a cleanup of `folder` deletes: all but the `keep` newest checkpoints, the best and the last.

    A damaged checkpoint goes only where a valid one stands. Replaced runs go only with `superseded`. Left
    alone and named: folders without our manifest, those that hold a file the manifest does not name, links,
    and anything else.
    """
    found = list_checkpoints(folder)
    valid = [c for c in found if c["valid"]]
    newest = {c["name"] for c in [c for c in valid if c["of_this_run"]][-keep:]}
    result = Plan()
    for c in found:
        marks = [mark for mark in ("best", "last") if c[mark]]
        foreign = foreign_content(folder / c["name"])
        if marks or c["name"] in newest:
            result.kept[c["name"]] = " and ".join(marks) or f"one of the {keep} newest"
        elif foreign:
            result.left_alone[c["name"]] = foreign
        elif c["valid"] and not c["of_this_run"]:
            result.left_alone[c["name"]] = "of another run, which the next start sets aside"
        elif not valid:
            result.left_alone[c["name"]] = f"{c['reason']}, but there is no valid checkpoint"
        else:
            why = "old" if c["valid"] else f"not valid: {c['reason']}"
            result.doomed.append(Doomed(folder / c["name"], c["bytes"], why))
    for path in superseded_folders(folder):
        foreign = foreign_run(path)
        if foreign:
            result.left_alone[path.name] = foreign
        elif superseded:
            result.doomed.append(Doomed(path, folder_bytes(path), "a run that was replaced"))
        else:
            result.left_alone[path.name] = (
                f"a run that was replaced, {size(folder_bytes(path))}: add --superseded to delete it"
            )
    known = result.kept.keys() | result.left_alone.keys() | {d.path.name for d in result.doomed}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if name not in known and name != ".gitkeep":
            partial = name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)
            result.left_alone[name] = "being written" if partial else "not written by the pipeline"
    return result


def foreign_content(folder: Path) -> str:
    """Why `folder` is not wholly a checkpoint of ours, or "" when it is."""
    step = CHECKPOINT.fullmatch(folder.name)
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes().decode("utf-8"))
        ours = step and manifest["schema"] == CHECKPOINT_SCHEMA and manifest["step"] == int(step[1])
        named = {str(name) for name in manifest["files"]} | {MANIFEST}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "it has no manifest of ours"
    if not ours:
        return "it has no manifest of ours"
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(root, name)
            relative = path.relative_to(folder).as_posix()
            inner = name in folders and any(n.startswith(relative + "/") for n in named)
            if path.is_symlink() or not (inner or relative in named):
                return f"it holds {relative}, which the pipeline did not write"
    return ""


def foreign_run(folder: Path) -> str:
    """Why a superseded folder holds more than checkpoints of ours, or ""."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_dir():
            return f"it holds {path.name}, which the pipeline did not write"
        if reason := foreign_content(path):
            return f"{path.name}: {reason}"
    return ""


def delete(folder: Path, doomed: list[Doomed]) -> list[Doomed]:
    """Delete the folders and return those that were there.

    Each is first renamed to what an interrupted write looks like, so a reader sees a whole checkpoint or
    none, and what a kill leaves behind is swept by the pipeline's next start.
    """
    deleted = []
    for item in doomed:
        aside = folder / f".{item.path.name}.{os.getpid()}{TEMPORARY_SUFFIX}"
        try:
            os.rename(item.path, aside)
        except FileNotFoundError:  # training pruned it meanwhile
            continue
        shutil.rmtree(aside)
        deleted.append(item)
    return deleted
