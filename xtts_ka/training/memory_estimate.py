"""Estimates the memory of a training step before it runs.

Weights, gradients and moments are counted. What the step keeps for its backward pass is estimated from the bytes that
autograd saves per position, layer and channel, which were counted with `torch.autograd.graph.saved_tensors_hooks`
(tests/training/test_memory_estimate.py counts them again).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xtts_ka.model.geometry import COND_POSITIONS

if TYPE_CHECKING:
    from xtts_ka.model.compact_gpt import CompactGPT

# Bytes saved per position and channel, (float32, bf16 autocast).
_BLOCK = (72, 40)  # of one transformer block
_VOICE = (186, 105)  # of the conditioning encoder and the perceiver together, per mel frame
_LOGIT = (8, 10)  # per score of a head: what cross-entropy keeps, and its gradient


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
