"""Which settings a training depends on, and which changes of them leave a finished training as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xtts_ka.core.config import PretrainConfig, TrainingConfig

# Settings for watching, saving and memory use: the trained weights do not depend on them.
_WATCHING = """log_interval validation_interval validation_minutes keep_checkpoints checkpoint_minutes max_bad_steps
    gradient_checkpointing compile sharding best_by""".split()
TRAINING = tuple(f"training.{name}" for name in TrainingConfig.model_fields if name not in _WATCHING)
# Of the section `training`, what the parts' trainers read.
PARTS = tuple(f"training.{name}" for name in "precision clip_norm warmup_steps final_learning_rate".split())
BY_CER = "the choice of the checkpoint"  # an input, where it is not by loss: older records lack the key
# A finished training carries on when only these changed: its length, and the stages that only the export reads.
CARRIES_ON = {"max_steps", "epochs", "replay_dir", "replay clips", "stage embeddings", "stage phonemes", BY_CER}
# Until 2026-11-26; what is not here had no such key. A finished training is not trained anew for a new default.
_FORMER_DEFAULTS = {
    **{"batch_size": 8, "learning_rate": 2e-5, "epochs": 1000, "max_steps": 50000},
    **{"training.accumulation": 1, "training.warmup_steps": 100, "training.conditioning": "same_clip"},
    "training.new_rows_rate": 1.0,
}


def new_defaults(recorded: Mapping[str, Any], config: PretrainConfig, read: Sequence[str]) -> set[str]:
    """The keys whose former default is on record and that have the present one now, or are no longer read.

    read: the keys that the stage reads now.
    """
    now = PretrainConfig()
    kept = (key for key in read if config.value(key) == now.value(key))
    former = {key for key in kept if key not in recorded or recorded[key] == _FORMER_DEFAULTS.get(key)}
    return former | (recorded.keys() - set(read))
