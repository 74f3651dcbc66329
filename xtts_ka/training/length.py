"""How many steps a training has."""

from __future__ import annotations

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say, warn

FEW_STEPS = 200  # four warm-ups


def training_length(config: PretrainConfig, an_epoch: int, stand_in: bool, told: bool) -> tuple[int, str]:
    """The steps to train and the config's key that sets them.

    an_epoch: its steps. stand_in: the base model is the starter's, with which few steps are intended. told: say it.
    """
    limits = {}
    if config.max_steps:
        limits["starter.max_steps" if stand_in else "max_steps"] = config.max_steps
    if config.epochs:
        limits["epochs"] = config.epochs * an_epoch
    (key, steps), *others = sorted(limits.items(), key=lambda limit: limit[1])
    if told:
        also = "".join(f"; {other} would allow {allowed:,}" for other, allowed in others)
        say(f"steps       {steps:,} by {key}, {steps / an_epoch:.3g} epochs{also}")
    if told and steps < FEW_STEPS and not stand_in:
        warn(
            f"{steps} steps teach little: lower batch_seconds (for a small corpus to a fiftieth of it, see "
            "recipes/studio_voice_24gb.json) or raise epochs"
        )
    return steps, key
