"""Counts what voice samples of another clip cost: operations of a forward pass, without computing anything.

    python tests/benchmarks/exp_voice_cost.py

For clips of 5 s (Common Voice) and 3 s (starter): the share of the conditioning encoder and the perceiver, and how much
more a step computes than with the short voice samples of before 2026-11-26 (half of the clip, or 3 to 6 s of it).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_loader import CollateFunction, Sample
from xtts_ka.core.console import say
from xtts_ka.model.compact_gpt import CompactGPT, voice_latents
from xtts_ka.model.geometry import CODE_STRIDE, FRAMES_PER_SECOND, SAMPLE_RATE
from xtts_ka.model.networks import build_gpt, tiny_config

ROWS = 8
WHOLE = 4.5  # seconds: the middle of 3 and 6


def operations(layers: int, dim: int, seconds: float, voice: float) -> tuple[int, int]:
    """(of a batch's forward pass, of its voice samples alone); 13 characters a second, 2.2 a token."""
    config = tiny_config(layers, dim, dim // 64, 8700)
    with torch.device("meta"):
        gpt = build_gpt(config, 8700)
    codes, text = round(seconds * SAMPLE_RATE / CODE_STRIDE), round(seconds * 13 / 2.2)
    mel = np.zeros((round(voice * FRAMES_PER_SECOND), 80), np.float16)
    sample = Sample(np.full(text, 300), np.zeros(codes, np.uint16), mel, (0, 0))
    batch = CollateFunction(config.model_args)([sample] * ROWS)
    batch = {k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    with FlopCounterMode(display=False) as counted:
        CompactGPT(gpt)(batch)
    whole = counted.get_total_flops()
    with FlopCounterMode(display=False) as counted:
        voice_latents(gpt, batch["cond_mels"])
    return whole, counted.get_total_flops()


def main() -> None:
    for layers, dim in ((4, 256), (30, 1024)):
        for seconds, before in ((5.0, 3.5), (3.0, 1.5)):
            (now, voice), (then, _) = (operations(layers, dim, seconds, length) for length in (WHOLE, before))
            figures = (
                f"voice samples are {100 * voice / now:.0f} % of the operations, all in all {now / then:.2f} times"
            )
            say(f"{layers} × {dim}, clips of {seconds:g} s: {figures} those with {before:g} s")


if __name__ == "__main__":
    main()
