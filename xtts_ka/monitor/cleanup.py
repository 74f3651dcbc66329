"""Deletes old checkpoints. Folders that hold anything the pipeline did not write are left alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xtts_ka.core.console import size
from xtts_ka.core.files import TEMPORARY_SUFFIX
from xtts_ka.training import checkpoint_folders
from xtts_ka.training.checkpoint_folders import CheckpointFolder, folder_bytes, read_checkpoints, subfolders


@dataclass(frozen=True)
class Item:
    """One entry of the checkpoints' folder. action: keep (it is needed), leave (not ours to delete) or delete."""

    action: str
    path: Path
    why: str
    bytes: int = 0

    def __str__(self) -> str:
        freed = f"  {size(self.bytes)}" if self.action == "delete" else ""
        return f"{self.action:<7} {self.path.name}{freed}  ({self.why})"


def plan(folder: Path, keep: int, *, superseded: bool = False, chosen: int | None = None) -> list[Item]:
    """What a cleanup of `folder` deletes: all but the `keep` newest checkpoints, the best, the last, and the chosen.

    chosen: the step of the checkpoint that was exported by CER.

    A damaged checkpoint is deleted only if there is a valid one, a replaced run only with `superseded`. Left alone are
    folders without our manifest, those that hold a file the manifest does not name, links, and everything else.
    """
    found = read_checkpoints(folder)
    newest = [c for c in found if c.of_this_run][-keep:]
    items = [_checkpoint(c, newest, keep, chosen) for c in found]
    for path, _ in subfolders(folder, checkpoint_folders.SUPERSEDED):
        freed = folder_bytes(path)
        if reason := _foreign_run(path):
            items.append(Item("leave", path, reason))
        elif superseded:
            items.append(Item("delete", path, "a run that was replaced", freed))
        else:
            items.append(Item("leave", path, f"a run that was replaced, {size(freed)}: add --superseded to delete it"))
    known = {".gitkeep", *(item.path.name for item in items)}
    for name in sorted({*os.listdir(folder)} - known) if folder.is_dir() else ():
        partial = name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)
        items.append(Item("leave", folder / name, "being written" if partial else "not written by the pipeline"))
    return sorted(items, key=lambda item: ("keep", "leave", "delete").index(item.action))


def _checkpoint(c: CheckpointFolder, newest: list[CheckpointFolder], keep: int, chosen: int | None) -> Item:
    if c.of_this_run and c.step == chosen:
        return Item("keep", c.folder, "exported by CER")
    if c.best or c.last or c in newest:
        marks = [mark for mark in ("best", "last") if getattr(c, mark)]
        return Item("keep", c.folder, " and ".join(marks) or f"one of the {keep} newest")
    if reason := _foreign_content(c):
        return Item("leave", c.folder, reason)
    if not c.problem and not c.of_this_run:
        return Item("leave", c.folder, "of another run, which the next start sets aside")
    if not newest:
        return Item("leave", c.folder, f"{c.problem}, but there is no valid checkpoint")
    return Item("delete", c.folder, f"not valid: {c.problem}" if c.problem else "old", folder_bytes(c.folder))


def _foreign_content(checkpoint: CheckpointFolder) -> str:
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


def _foreign_run(folder: Path) -> str:
    """Why a superseded folder holds more than checkpoints of ours, or "" if it does not."""
    if folder.is_symlink():
        return "it is a link"
    found = read_checkpoints(folder)
    if strangers := sorted({*os.listdir(folder)} - {c.folder.name for c in found}):
        return f"it holds {strangers[0]}, which the pipeline did not write"
    return next((f"{c.folder.name}: {reason}" for c in found if (reason := _foreign_content(c))), "")
