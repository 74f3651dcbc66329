"""Estimates the memory of a training step before it runs.

Weights, gradients and moments are counted. What the step keeps for its backward pass is estimated from the bytes that
autograd saves per position, layer and channel, which were counted with `torch.autograd.graph.saved_tensors_hooks`
(tests/training/test_memory_estimate.py counts them again).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xtts_ka.model.geometry import COND_POSITIONS
from xtts_ka.training.batch_plan import Room

if TYPE_CHECKING:
    from xtts_ka.model.compact_gpt import CompactGPT

# Bytes saved per position and channel, (float32, bf16 autocast).
_BLOCK = (72, 40)  # of one transformer block
_VOICE = (186, 105)  # of the conditioning encoder and the perceiver together, per mel frame
_LOGIT = (8, 10)  # per score of a head: what cross-entropy keeps, and its gradient

USED = 0.8  # share of the GPU's memory to plan for: the estimate is within 25 %, and torch's blocks have gaps
# A pass forward and back through 30 layers is 13,500 calls of torch in bf16 (10,100 in float32), 85 ms of a CPU core
# whatever the size; on an H200 whose CPU was busy, 4,096 positions took 266 ms, at a thirtieth of the card's speed.
# Larger micro-batches have more padding: 6 % of 1,260 s of clips with 4,096 positions, 11 % with 8,192, 20 % with
# 16,384 (docs/experiments.md).
ROOM_ON_GPU = Room(8192)
ROOM_ON_CPU = Room(2048)  # about nine clips of 7 s: bench_training.py's batch


class StepShape(NamedTuple):
    """A batch of `rows`; text tokens, audio codes and mel frames of the voice sample per row."""

    rows: float
    text: float
    codes: float
    frames: float


class StepMemory(NamedTuple):
    """Bytes. states: kept all the time (weights, gradients, moments, average); step: taken and freed by each batch."""

    states: float
    step: float

    def __str__(self) -> str:
        states, step = self.states / 2**30, self.step / 2**30
        parts = f"{states:.2g} for weights, gradients and moments, {step:.2g} for a batch"
        return f"about {states + step:.2g} GiB: {parts} (estimate)"


def estimate_memory(
    model: CompactGPT, shape: StepShape, *, bf16: bool, average: bool = False, shards: int = 1
) -> StepMemory:
    """Memory of one process. average: a running average is kept; shards: processes that share the states."""
    text_rows, dim = model.gpt.get_parameter("text_embedding.weight").shape
    codes = model.gpt.get_parameter("mel_embedding.weight").shape[0]
    layers = len(model.gpt.get_submodule("gpt.h")._modules)
    weights = 4 * sum(p.numel() for p in model.parameters())
    gathered = weights if shards > 1 else 0
    copies = weights / 2 if bf16 else 0  # autocast's half-width weights
    kept_layers = 1 + layers * 4 / _BLOCK[bf16] if model.gradient_checkpointing else layers
    positions = shape.rows * (COND_POSITIONS + shape.text + shape.codes)
    blocks = _BLOCK[bf16] * positions * dim * kept_layers
    voice = _VOICE[bf16] * shape.rows * shape.frames * dim
    logits = _LOGIT[bf16] * shape.rows * (shape.text * text_rows + shape.codes * codes)
    return StepMemory(weights * (5 if average else 4) / shards, gathered + copies + blocks + voice + logits)


def room_for(
    model: CompactGPT, clip: StepShape, memory: float, *, bf16: bool, average: bool = False, shards: int = 1
) -> Room:
    """How large a micro-batch a GPU of `memory` bytes should take: what fits, ROOM_ON_GPU at most.

    None fit where the weights alone are too much; a single clip is tried all the same.

    clip: one row of typical length.
    """

    def estimate(rows: float, frames: float = 0) -> StepMemory:
        shape = clip._replace(rows=rows, frames=frames)
        return estimate_memory(model, shape, bf16=bf16, average=average, shards=shards)

    always = estimate(0)
    position = (estimate(1).step - always.step) / (COND_POSITIONS + clip.text + clip.codes)
    voice = estimate(1, clip.frames).step - estimate(1).step
    free = USED * memory - always.states - always.step
    return Room(min(max(0, int(free / position)), ROOM_ON_GPU.positions), round(voice / position))
