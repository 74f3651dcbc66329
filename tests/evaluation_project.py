"""A tiny untrained model with two voices and recordings of them, two of which are the test split."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import tiny

from xtts_ka.core.tensor_files import write_pickle
from xtts_ka.corpus.tables import write_splits
from xtts_ka.model.checkpoint import read_model
from xtts_ka.training.checkpoint_manager import CheckpointManager


def evaluation_project(root: Path) -> Path:
    """Make it in `root`; returns its config file."""
    recordings = tiny.write_recordings(root / "wavs")
    clips = tiny.write_data(root / "data", recordings)
    clips = [replace(clip, speaker_id=("ეკა", "დათო")[n % 2]) for n, clip in enumerate(clips)]
    parts = {"train": clips[:8], "val": clips[8:10], "test": clips[10:]}
    write_splits(root / "data", parts, {file.parent for file in recordings})
    tiny.write_georgian_model(root / "model", read_model(tiny.write_base_model(root / "base")))
    _add_checkpoint(root)
    folders = {name: str(root / name) for name in ("logs", "data", "base", "model")}
    keys = dict(zip(("log_dir", "data_dir", "base_model_path", "output_model_path"), folders.values()))
    (root / "config.json").write_text(json.dumps({**keys, "device": "cpu"}), "utf-8")
    return root / "config.json"


def _add_checkpoint(root: Path) -> None:
    """A checkpoint with the model's own weights, and what a training leaves beside it."""
    manager = CheckpointManager(root / "checkpoints", "run")
    manager.save(1, {"model": read_model(root / "model").gpt_state()}, {}, {}, {}, None)
    manager.close()
    shutil.copy(root / "model/speakers_xtts.pth", root / "model/speakers_base.pth")
    write_pickle(root / "model/language_model_results.pkl", {"character_limit": 40})
