"""Training checkpoints: written in the background from a copy, trusted only with a manifest that holds.

checkpoints/step_00000500/   model.safetensors  optimizer.pt  state.json  config.json  manifest.json
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_map_with_path

from xtts_ka.core.console import say, warn
from xtts_ka.core.digests import read_manifest, write_manifest
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_folder, read_json, sweep_partials, write_json
from xtts_ka.core.tensor_files import load_torch, save_tensors, save_torch
from xtts_ka.training.checkpoint_folders import CHECKPOINT, CHECKPOINT_SCHEMA

REMEDY = "move this checkpoint folder away and run again, to carry on from the one before it"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest holds. val_loss is None where no validation was due."""

    folder: Path
    step: int
    run_id: str
    val_loss: float | None

    def weights(self, name: str = "model") -> dict[str, Tensor]:
        """The weights, memory-mapped."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.folder / f"{name}.safetensors")
        except SafetensorError as error:  # its checksum holds, so it was written like this
            raise UserError(
                f"checkpoint {self.folder} holds no weights in {name}.safetensors ({error}): {REMEDY}"
            ) from None

    def has(self, name: str) -> bool:
        """Whether it holds weights of this name."""
        return (self.folder / f"{name}.safetensors").is_file()

    def optimizer(self) -> dict[str, Any]:
        return load_torch(self.folder / "optimizer.pt", remedy=REMEDY)

    def state(self) -> dict[str, Any]:
        state = read_json(self.folder / "state.json", "checkpoint state", REMEDY)
        if not isinstance(state, dict):
            raise UserError(
                f"checkpoint state {self.folder / 'state.json'} does not say where training stood: {REMEDY}"
            )
        return state


class CheckpointManager:
    """The checkpoints of one run in `folder`. `run_id` tells runs apart that cannot continue one another.

    Keeps the `keep` newest and the best (lowest validation loss); only the process that trains writes.
    """

    def __init__(self, folder: Path | str, run_id: str, keep: int = 2):
        self.folder, self.run_id, self.keep = Path(folder), run_id, max(2, keep)
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future | None = None
        self._copies = _Copies()

    def checkpoints(self) -> list[Checkpoint]:
        """This run's sound checkpoints, oldest first; an unsound one is passed over with a warning that says why."""
        found = []
        for folder in sorted(self.folder.glob("step_*")):
            manifest, problem = read_manifest(folder) if CHECKPOINT.fullmatch(folder.name) else (None, "")
            if manifest and manifest.get("schema") != CHECKPOINT_SCHEMA:
                problem = f"it has schema {str(manifest.get('schema'))[:20]}, not {CHECKPOINT_SCHEMA}"
            if problem:
                warn(f"checkpoint {folder} is passed over: {problem}")
            elif manifest and manifest.get("run_id") == self.run_id:
                found.append(Checkpoint(folder, int(manifest["step"]), self.run_id, manifest.get("val_loss")))
        return found

    def last(self) -> Checkpoint | None:
        """The newest sound checkpoint: where training carries on."""
        return max(self.checkpoints(), key=lambda c: c.step, default=None)

    def best(self) -> Checkpoint | None:
        """The sound checkpoint with the lowest validation loss: what is exported."""
        scored = [c for c in self.checkpoints() if c.val_loss is not None]
        return min(scored, key=lambda c: (c.val_loss, c.step), default=None)

    def set_aside_others(self, everything: bool = False) -> None:
        """Move checkpoints of other runs (with `everything`, of this one too) to `superseded_N/`: never delete them."""
        mine = set() if everything else {c.folder for c in self.checkpoints()}
        others = [f for f in sorted(self.folder.glob("step_*")) if CHECKPOINT.fullmatch(f.name) and f not in mine]
        if not others:
            return
        numbers = [
            int(f.name.split("_")[1]) for f in self.folder.glob("superseded_*") if f.name.split("_")[1].isdigit()
        ]
        target = self.folder / f"superseded_{max(numbers, default=0) + 1}"
        target.mkdir()
        for folder in others:
            folder.rename(target / folder.name)
        say(f"{len(others)} checkpoint(s) that this run cannot carry on from now stand in {target}")

    def save(
        self,
        step: int,
        weights: dict[str, dict[str, Tensor]],
        optimizer: dict[str, Any],
        state: dict[str, Any],
        config: dict[str, Any],
        val_loss: float | None,
    ) -> None:
        """Copy everything to the CPU now and write it in the background; at most one write is under way.

        weights: file stem → named tensors, e.g. {"model": …}.
        """
        self.wait()
        weights, optimizer = self._copies.of((weights, optimizer))
        self._pending = self._writer.submit(self._write, step, weights, optimizer, dict(state), config, val_loss)

    def wait(self) -> None:
        """Wait for the write under way, and raise what went wrong in it."""
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Wait for the last write, and let go of the room for copies."""
        self.wait()
        self._copies = _Copies()

    def _write(self, step, weights, optimizer, state, config, val_loss) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"step_{step:08d}"
        if target.exists():  # unsound, or it would have been resumed from
            shutil.rmtree(target)
        with atomic_folder(target) as folder:
            for stem, tensors in weights.items():
                save_tensors(folder / f"{stem}.safetensors", tensors)
            save_torch(folder / "optimizer.pt", optimizer)
            write_json(folder / "state.json", state)
            write_json(folder / "config.json", config)
            write_manifest(
                folder,
                {
                    "schema": CHECKPOINT_SCHEMA,
                    "step": step,
                    "run_id": self.run_id,
                    "val_loss": val_loss,
                    "time": time.time(),
                },
            )
        self._prune()

    def _prune(self) -> None:
        """Delete what is neither among the newest nor the best. Sizes are trusted here: hashes were checked on writing."""
        known = []
        for folder in sorted(self.folder.glob("step_*")):
            manifest, _ = read_manifest(folder, hashes=False)
            if manifest and manifest.get("run_id") == self.run_id:
                known.append((int(manifest["step"]), manifest.get("val_loss"), folder))
        scored = [c for c in known if c[1] is not None]
        kept = {c[2] for c in sorted(known)[-self.keep :]} | (
            {min(scored, key=lambda c: (c[1], c[0]))[2]} if scored else set()
        )
        for _, _, folder in known:
            if folder not in kept:
                doomed = folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}.partial"))
                shutil.rmtree(doomed)

    def tidy(self) -> None:
        """Finish what a killed writer left half done. Only for the process that holds the pipeline's lock."""
        if self.folder.is_dir():
            sweep_partials(self.folder)
            self._prune()


class _Copies:
    """Copies of tensors on the CPU, in the same room each time: new pages, and from a GPU pages that are not pinned, would
    make copying several times slower."""

    def __init__(self):
        self._room: dict[str, Tensor] = {}

    def of(self, tree: Any) -> Any:
        """`tree` with copies in place of its tensors, good until the next call."""
        copied = tree_map_with_path(
            lambda path, leaf: self._copied(keystr(path), leaf) if isinstance(leaf, Tensor) else leaf, tree
        )
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return copied

    def _copied(self, place: str, tensor: Tensor) -> Tensor:
        room = self._room.get(place)
        if room is None or (room.shape, room.dtype) != (tensor.shape, tensor.dtype):
            room = self._room[place] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return room.copy_(tensor.detach(), non_blocking=True)
