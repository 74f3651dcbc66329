"""The loss of a batch without training on it: of validation, and of the languages that the base model spoke before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.out_of_memory import in_pieces
from xtts_ka.training.batch_plan import Batch

Loaded = dict[str, Any]


def summed_losses(
    forward: Callable[[Loaded], tuple[Tensor, Tensor]],
    load: Callable[[Batch], Loaded],
    batch: Batch,
    *,
    may_cut: bool = True,
) -> Tensor:
    """[text nats, text tokens, audio nats, audio tokens], float64.

    Where memory runs out, the batch is measured in smaller ones, which gives the same sums: no row depends on another.
    may_cut=False: it must be measured at once (in FSDP every process takes part in the others' forward passes).
    """

    def sums(clips: Sequence[int]) -> Tensor:
        loaded = load(batch._replace(clips=np.asarray(clips)))
        text, audio = forward(loaded)
        counts = len(loaded["text_target"]), len(loaded["audio_target"])
        return torch.tensor([float(text), counts[0], float(audio), counts[1]], dtype=torch.float64)

    clips = batch.clips.tolist()
    if not may_cut:
        remedy = "set training.precision to bf16 or use more processes"
        return in_pieces(lambda whole: sums(whole[0]), [clips], "out of memory in validation", remedy)[0]
    remedy = "close other programs that use memory, or set training.precision to bf16"
    return torch.stack(in_pieces(sums, clips, "out of memory while a single clip is measured", remedy)).sum(dim=0)
