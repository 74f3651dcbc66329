"""A training index over clips that exist on paper only, made by the real builder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xtts_ka.corpus.tables import Row
from xtts_ka.model.networks import tiny_config
from xtts_ka.training.clip_index import TrainingIndex, build_index
from xtts_ka.training.feature_cache import RECORD

ARGS = tiny_config(1, 64, 1, 300).model_args  # 402 text and 605 audio positions, as released


def rows_of(count: int, speakers: Sequence[str], unknown: Sequence[str] = ()) -> list[Row]:
    """Rows whose text is their number."""
    names = [speakers[i % len(speakers)] for i in range(count)]
    return [
        Row(f"clip{i}", str(i), name, 1.0, f"/nowhere/clip{i}.wav", "", f"clip{i}.wav", name not in unknown)
        for i, name in enumerate(names)
    ]


def make_index(
    folder: Path, samples: Sequence[int], speakers: Sequence[str] = ("a",), unknown: Sequence[str] = (), **key
) -> TrainingIndex:
    """Clip i has key i, `samples[i]` samples and 3 + i % 40 tokens, all of them 10 + i."""

    def find(keys):
        records = np.zeros(len(keys), RECORD)
        records["key"], records["samples"] = keys, [samples[key] for key in keys]
        return records

    def encode(texts):
        return [np.full(3 + int(text) % 40, 10 + int(text), "<u4") for text in texts]

    rows = [(row, number) for number, row in enumerate(rows_of(len(samples), speakers, unknown))]
    return build_index(folder, "train", {"table": "t", **key}, rows, find, encode, ARGS)
