"""Sums of losses; that validation and old languages are measured by them is tested with those."""

import numpy as np
import pytest
import torch

from xtts_ka.core.errors import RunError
from xtts_ka.training.batch_plan import Batch
from xtts_ka.training.measuring import summed_losses

BATCH = Batch(np.array([4, 2, 7]), 0, 10)


def load(batch):
    """Clip n has n text tokens and 10 n codes."""
    total = int(batch.clips.sum())
    return {"clips": batch.clips, "text_target": torch.zeros(total), "audio_target": torch.zeros(10 * total)}


def forward(most):
    """A model that holds `most` clips at a time; a clip's number is its text loss, twice that its audio loss."""

    def losses(batch):
        if len(batch["clips"]) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
        return torch.tensor(float(batch["clips"].sum())), torch.tensor(2.0 * batch["clips"].sum())

    return losses


@pytest.mark.parametrize("most", [3, 2, 1])
def test_losses_and_tokens_are_summed_whatever_memory_holds(most):
    assert summed_losses(forward(most), load, BATCH).tolist() == [13, 13, 26, 130]


def test_what_no_memory_holds_is_one_sentence():
    with pytest.raises(RunError, match="while a single clip is measured: close other programs"):
        summed_losses(forward(0), load, BATCH)


def test_processes_that_share_the_weights_measure_the_batch_at_once_or_not_at_all():
    assert summed_losses(forward(3), load, BATCH, may_cut=False).tolist() == [13, 13, 26, 130]
    with pytest.raises(RunError, match="out of memory in validation: set training.precision to bf16 or use more"):
        summed_losses(forward(2), load, BATCH, may_cut=False)
