"""Writes training checkpoints in the background, finds the ones to carry on from, deletes the old ones.

The format of the folders is in `checkpoint_folders`. A checkpoint counts only with a manifest whose hashes hold.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import KeyPath, keystr, tree_map_with_path

from xtts_ka.core.console import say, warn
from xtts_ka.core.digests import write_manifest
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_folder, read_json, write_json
from xtts_ka.core.tensor_files import load_torch, save_tensors, save_torch
from xtts_ka.training import checkpoint_folders
from xtts_ka.training.checkpoint_folders import (
    CHECKPOINT_SCHEMA,
    VALIDATION,
    CheckpointFolder,
    best_of,
    read_checkpoints,
)

REMEDY = "move this checkpoint folder away and run again, to carry on from the one before it"


@dataclass
class Checkpoint(CheckpointFolder):
    """A valid checkpoint, with the means to read its files. A file that cannot be read is a UserError."""

    def weights(self, name: str = "model") -> dict[str, Tensor]:
        """The weights in `name`.safetensors, memory-mapped."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.folder / f"{name}.safetensors"
        try:
            return load_file(file)
        except SafetensorError as error:  # the hash of the file holds, so it was written like this
            raise UserError(f"checkpoint {self.folder} holds no weights in {file.name} ({error}): {REMEDY}") from None

    def has(self, name: str) -> bool:
        """Whether there are weights of this name."""
        return (self.folder / f"{name}.safetensors").is_file()

    def present_weights(self) -> dict[str, Tensor]:
        """The weights that are used in the end: the running average, where one was kept."""
        return self.weights("ema" if self.has("ema") else "model")

    def optimizer(self) -> dict[str, Any]:
        return load_torch(self.folder / "optimizer.pt", remedy=REMEDY)

    def state(self) -> dict[str, Any]:
        """Where training stood: step, epoch, position in the epoch and so on."""
        file = self.folder / "state.json"
        state = read_json(file, "checkpoint state", REMEDY)
        if not isinstance(state, dict):
            raise UserError(f"checkpoint state {file} does not say where training stood: {REMEDY}")
        return state


class CheckpointManager:
    """The checkpoints of one run in `folder`. Checkpoints of another `run_id` cannot be carried on from.

    Keeps the `keep` newest (at least two) and the one with the lowest validation loss. Of several processes that train
    together, only the main one may save.
    """

    def __init__(self, folder: Path | str, run_id: str, keep: int = 2):
        self.folder, self.run_id, self.keep = Path(folder), run_id, max(2, keep)
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future | None = None
        self._memory: dict[str, Tensor] = {}  # of the copies that are being written

    def checkpoints(self) -> list[Checkpoint]:
        """This run's valid checkpoints by step, with every hash compared. Warns of each one that is not valid."""
        found = read_checkpoints(self.folder, hashes=True)
        for checkpoint in found:
            if checkpoint.problem:
                warn(f"checkpoint {checkpoint.folder} is passed over: {checkpoint.problem}")
        return [Checkpoint(**vars(checkpoint)) for checkpoint in self._mine(found)]

    def _mine(self, found: list[CheckpointFolder]) -> list[CheckpointFolder]:
        return [checkpoint for checkpoint in found if not checkpoint.problem and checkpoint.run_id == self.run_id]

    def last(self) -> Checkpoint | None:
        """The newest valid checkpoint: the one to carry on from."""
        return next(reversed(self.checkpoints()), None)

    def best(self) -> Checkpoint | None:
        """The valid checkpoint with the lowest validation loss: the one to export."""
        return best_of(self.checkpoints())

    def set_aside_others(self, everything: bool = False) -> None:
        """Move checkpoints of other runs (with `everything`, of this one too) to `superseded_N/`. Deletes nothing."""
        mine = [] if everything else [checkpoint.folder for checkpoint in self.checkpoints()]
        others = [checkpoint.folder for checkpoint in read_checkpoints(self.folder) if checkpoint.folder not in mine]
        if not others:
            return
        target = checkpoint_folders.new_superseded(self.folder)
        for folder in others:
            folder.rename(target / folder.name)
        say(f"moved {len(others)} checkpoint(s) that this run cannot carry on from to {target}")

    def save(
        self, step: int, weights: dict, optimizer: dict, state: dict, config: dict, val_loss: float | None
    ) -> None:
        """Copy everything to the CPU now and write it in the background, after the write before it has ended.

        weights: file stem → named tensors, e.g. {"model": …}. val_loss: None where no validation was due. Raises what
        went wrong in the write before.
        """
        self.wait()
        weights, optimizer = tree_map_with_path(self._copied, (weights, optimizer))
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        facts = {"schema": CHECKPOINT_SCHEMA, "step": step, "run_id": self.run_id, "val_loss": val_loss}
        facts["validation"] = VALIDATION
        self._pending = self._writer.submit(self._write, facts, weights, optimizer, state, config)

    def wait(self) -> None:
        """Wait until the last write has ended, and raise what went wrong in it."""
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Wait until the last write has ended, and free the memory of the copies."""
        self.wait()
        self._memory = {}

    def _copied(self, path: KeyPath, leaf: Any) -> Any:
        """A copy of a tensor on the CPU, in the same memory at every save.

        Newly allocated memory, and for tensors on a GPU memory that is not pinned, makes copying several times slower.
        """
        if not isinstance(leaf, Tensor):
            return leaf
        if (place := keystr(path)) not in self._memory:
            self._memory[place] = torch.empty(leaf.shape, dtype=leaf.dtype, pin_memory=leaf.is_cuda)
        return self._memory[place].copy_(leaf.detach(), non_blocking=True)

    def _write(self, facts: dict, weights: dict, optimizer: dict, state: dict, config: dict) -> None:
        target = self.folder / f"step_{facts['step']:08d}"
        if target.exists():  # not valid, or training would have carried on from it
            shutil.rmtree(target)
        with atomic_folder(target) as folder:
            for stem, tensors in weights.items():
                save_tensors(folder / f"{stem}.safetensors", tensors)
            save_torch(folder / "optimizer.pt", optimizer)
            write_json(folder / "state.json", state)
            write_json(folder / "config.json", config)
            write_manifest(folder, {**facts, "time": time.time()})
        self._prune()

    def _prune(self) -> None:
        """Delete this run's checkpoints except the newest and the best. Checks sizes only: hashing takes too long."""
        mine = self._mine(read_checkpoints(self.folder))
        kept = [*mine[-self.keep :], best_of(mine)]
        for checkpoint in mine:
            if checkpoint not in kept and not checkpoint.folder.is_symlink():
                checkpoint_folders.delete_folder(checkpoint.folder)
