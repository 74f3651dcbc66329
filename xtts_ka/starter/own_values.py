"""What starter mode made of what a config uses, and the settings that follow from the trained stand-in base."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from xtts_ka.core.config import BASE_FILES, STARTER_MARK, PretrainConfig
from xtts_ka.core.files import read_json

RECORDINGS = "starter_recordings"  # in data_dir
TRAINED, UNTRAINED = "a small base model trained on a robot's voice", "a tiny untrained base model"


def has_stand_in_base(config: PretrainConfig) -> bool:
    """Whether the base model is a stand-in."""
    return (Path(config.base_model_path) / STARTER_MARK).is_file()


def has_trained_base(config: PretrainConfig) -> bool:
    """Whether the base model is the trained stand-in."""
    if not has_stand_in_base(config):
        return False
    base = Path(config.base_model_path)
    remedy = f"remove the folder {base}, and starter mode makes it again"
    mark = read_json(base / STARTER_MARK, "the stand-in base model", remedy)
    return isinstance(mark, dict) and mark.get("base") == "trained"


def described(config: PretrainConfig) -> list[str]:
    """What of this config's is a stand-in, in words; empty when everything is the user's own."""
    found = []
    if has_stand_in_base(config):
        found.append(TRAINED if has_trained_base(config) else UNTRAINED)
    speech = Path(config.data_dir) / RECORDINGS / STARTER_MARK
    return found + ["synthetic espeak-ng speech"] * speech.is_file()


class OwnValue(NamedTuple):
    """A setting in a section of the config that the starter has a value of its own for."""

    section: str
    name: str
    value: Any


def section_values(config: PretrainConfig) -> list[OwnValue]:
    """Settings that the trained stand-in wants otherwise than a real model; what the config gives stands."""
    if not has_trained_base(config):
        return []
    starter = config.starter
    own = [
        OwnValue("text", "new_tokens", starter.new_tokens),
        OwnValue("language_model", "max_epochs", starter.language_epochs),
        OwnValue("training", "optimizer", starter.optimizer),
        OwnValue("recogniser", "max_steps", starter.recogniser_steps),
    ]
    return [each for each in own if each.name not in getattr(config, each.section).model_fields_set]


def top_values(config: PretrainConfig) -> dict[str, Any]:
    """The keys of which the starter has its own where the base model is a stand-in; a given batch_size stands."""
    if not has_stand_in_base(config):
        return {}
    names = ("max_steps", "learning_rate", *(() if config.clips_at_once else ("batch_seconds",)))
    return {name: getattr(config.starter, name) for name in names}


def settled(config: PretrainConfig) -> PretrainConfig:
    """The config with what follows from the base model that is there, or that starter mode would make.

    evaluation.enabled is true or false then.
    """
    if values := top_values(config):
        config = config.model_copy(update={"epochs": None, **values})
    config = with_section_values(config)
    if config.evaluation.enabled is None:
        missing = [name for name in BASE_FILES if not (Path(config.base_model_path) / name).is_file()]
        enabled = "evaluation" in config.stages() if missing else has_trained_base(config)
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"enabled": enabled})})
    return config


def with_section_values(config: PretrainConfig) -> PretrainConfig:
    """The config with `section_values` in it."""
    for section, name, value in section_values(config):
        part = getattr(config, section).model_copy(update={name: value})
        config = config.model_copy(update={section: part})
    return config


def explained(config: PretrainConfig) -> list[str]:
    """Sentences that say which of the config's values have no effect, where the base model is a stand-in."""
    lines = []
    if values := top_values(config):
        *first, last = (f"starter.{name} ({value:g})" for name, value in values.items())
        replaced = f"epochs, {', '.join(values)}"
        lines.append(f"{', '.join(first)} and {last} replace {replaced}, since the base model is the starter's")
    if found := section_values(config):
        shown = ", ".join(f"{section}.{name} is {value}" for section, name, value in found)
        lines.append(f"{shown}, for the same reason")
    return lines
