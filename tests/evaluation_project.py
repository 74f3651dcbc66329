"""A tiny untrained model with two voices and recordings of them, two of which are the test split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import tiny

from xtts_ka.corpus.tables import write_splits
from xtts_ka.model.checkpoint import read_model


def evaluation_project(root: Path) -> Path:
    """Make it in `root`; returns its config file."""
    recordings = tiny.write_recordings(root / "wavs")
    clips = tiny.write_data(root / "data", recordings)
    clips = [replace(clip, speaker_id=("ეკა", "დათო")[n % 2]) for n, clip in enumerate(clips)]
    parts = {"train": clips[:8], "val": clips[8:10], "test": clips[10:]}
    write_splits(root / "data", parts, {file.parent for file in recordings})
    tiny.write_georgian_model(root / "model", read_model(tiny.write_base_model(root / "base", recordings)))
    folders = {name: str(root / name) for name in ("logs", "data", "base", "model")}
    keys = dict(zip(("log_dir", "data_dir", "base_model_path", "output_model_path"), folders.values()))
    (root / "config.json").write_text(json.dumps({**keys, "device": "cpu"}), "utf-8")
    return root / "config.json"
