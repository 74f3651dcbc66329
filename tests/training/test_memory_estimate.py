"""The estimate against what autograd really keeps."""

import contextlib

import numpy as np
import pytest
import torch

from data_loader import CollateFunction, Sample
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.networks import build_gpt, tiny_config
from xtts_ka.training.clip_index import AUDIO_STOPS
from xtts_ka.training.memory_estimate import ROOM_ON_GPU, StepShape, estimate_memory, room_for


def saved_bytes(model: CompactGPT, batch: dict, bf16: bool) -> int:
    """Bytes of all tensors that the step keeps for its backward pass, weights aside, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext(),
    ):
        model(batch)
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for pointer, size in sizes.items() if pointer not in weights)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("layers, dim, checkpointing", [(4, 128, False), (8, 256, False), (12, 256, True)])
def test_the_estimate_is_near_what_autograd_keeps(layers, dim, checkpointing, bf16):
    config = tiny_config(layers, dim, dim // 64, 400)
    model = CompactGPT(build_gpt(config, 400), 0.1, checkpointing).train()
    rows, text, codes, frames = 3, 40, 70, 160
    sample = Sample(np.arange(1, text + 1), np.zeros(codes, np.uint16), np.zeros((frames, 80), np.float16), (0, 0))
    batch = CollateFunction(config.model_args)([sample] * rows)
    estimate = estimate_memory(model, StepShape(rows, text + 1, codes + AUDIO_STOPS, frames), bf16=bf16)
    kept = saved_bytes(model, batch, bf16)
    if bf16 and checkpointing:  # autograd recomputes from autocast's copies of the weights, which stay all the same
        kept += 2 * sum(p.numel() for p in model.parameters())
    assert estimate.step == pytest.approx(kept, rel=0.25)
    assert estimate.states == 16 * sum(p.numel() for p in model.parameters())


def test_shards_share_the_states_and_an_average_adds_to_them():
    model = CompactGPT(build_gpt(tiny_config(1, 64, 1, 300), 300))
    shape = StepShape(2, 10, 20, 100)
    plain = estimate_memory(model, shape, bf16=False)
    assert estimate_memory(model, shape, bf16=False, shards=4).states == plain.states / 4
    assert estimate_memory(model, shape, bf16=False, average=True).states == plain.states * 1.25
    assert "GiB" in str(plain)


@pytest.mark.parametrize(
    "bf16, average, shards, gibibytes", [(True, False, 1, 12), (False, True, 1, 13), (True, False, 4, 9)]
)
def test_the_room_fills_four_fifths_of_the_memory_and_no_more_than_is_of_use(bf16, average, shards, gibibytes):
    with torch.device("meta"):
        model = CompactGPT(build_gpt(tiny_config(30, 1024, 16, 6681), 8681))
    clip, facts = StepShape(1, 36, 108, 517), {"bf16": bf16, "average": average, "shards": shards}
    assert room_for(model, clip, 200 * 2**30, **facts).positions == ROOM_ON_GPU.positions
    assert room_for(model, clip, 2 * 2**30, **facts).positions == 0
    memory = gibibytes * 2**30
    room = room_for(model, clip, memory, **facts)
    assert 100 < room.positions < ROOM_ON_GPU.positions and room.per_row > 10
    rows = room.positions / (32 + 36 + 108 + room.per_row)
    full = estimate_memory(model, clip._replace(rows=rows), **facts)
    assert full.states + full.step == pytest.approx(0.8 * memory, rel=0.01)
