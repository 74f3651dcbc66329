"""Deletes old checkpoints. Folders that hold anything the pipeline did not write are left alone."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from xtts_ka.core.console import size
from xtts_ka.core.files import TEMPORARY_SUFFIX
from xtts_ka.training.checkpoint_folders import (
    STEP,
    SUPERSEDED,
    CheckpointFolder,
    delete_folder,
    folder_bytes,
    read_checkpoints,
    subfolders,
)


@dataclass(frozen=True)
class Doomed:
    """A folder to delete: a checkpoint, or a whole run that was replaced."""

    path: Path
    bytes: int
    why: str


@dataclass
class Plan:
    """What would be deleted, what is kept, and what is left alone; the last two as name → reason."""

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

    A damaged checkpoint is deleted only if there is a valid one, a replaced run only with `superseded`. Left alone are
    folders without our manifest, those that hold a file the manifest does not name, links, and everything else.
    """
    result = Plan()
    found = read_checkpoints(folder)
    newest = [c for c in found if c.of_this_run][-keep:]
    for c in found:
        name = c.folder.name
        if c.best or c.last or c in newest:
            marks = [mark for mark in ("best", "last") if getattr(c, mark)]
            result.kept[name] = " and ".join(marks) or f"one of the {keep} newest"
        elif reason := foreign_content(c):
            result.left_alone[name] = reason
        elif not c.problem and not c.of_this_run:
            result.left_alone[name] = "of another run, which the next start sets aside"
        elif not newest:
            result.left_alone[name] = f"{c.problem}, but there is no valid checkpoint"
        else:
            why = f"not valid: {c.problem}" if c.problem else "old"
            result.doomed.append(Doomed(c.folder, folder_bytes(c.folder), why))
    for path, _ in subfolders(folder, SUPERSEDED):
        if reason := foreign_run(path):
            result.left_alone[path.name] = reason
        elif superseded:
            result.doomed.append(Doomed(path, folder_bytes(path), "a run that was replaced"))
        else:
            hint = "add --superseded to delete it"
            result.left_alone[path.name] = f"a run that was replaced, {size(folder_bytes(path))}: {hint}"
    known = {".gitkeep", *result.kept, *result.left_alone, *(d.path.name for d in result.doomed)}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if name not in known:
            partial = name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)
            result.left_alone[name] = "being written" if partial else "not written by the pipeline"
    return result


def foreign_content(checkpoint: CheckpointFolder) -> str:
    """Why a checkpoint folder is not wholly ours, or "" if it is."""
    folder, ours = checkpoint.folder, checkpoint.files
    if folder.is_symlink():
        return "it is a link"
    if not ours:
        return f"it has no manifest of ours: {checkpoint.problem}"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parent = path.is_dir() and any(file.startswith(name + "/") for file in ours)
        if path.is_symlink() or not (parent or name in ours):
            return f"it holds {name}, which the pipeline did not write"
    return ""


def foreign_run(folder: Path) -> str:
    """Why a superseded folder holds more than checkpoints of ours, or "" if it does not."""
    if folder.is_symlink():
        return "it is a link"
    if strangers := sorted({*os.listdir(folder)} - {path.name for path, _ in subfolders(folder, STEP)}):
        return f"it holds {strangers[0]}, which the pipeline did not write"
    reasons = ((c.folder.name, foreign_content(c)) for c in read_checkpoints(folder))
    return next((f"{name}: {reason}" for name, reason in reasons if reason), "")


def delete(doomed: list[Doomed]) -> list[Doomed]:
    """Delete the folders and return those that still existed."""
    return [item for item in doomed if delete_folder(item.path)]
