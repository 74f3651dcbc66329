"""How much memory a training step will take, before it takes it.

Weights, gradients and moments are counted; what the step keeps for its backward pass is estimated from the bytes that
autograd saves per position, layer and channel, counted once with `torch.autograd.graph.saved_tensors_hooks`
(tests/test_memory_estimate.py counts again).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xtts_ka.model.geometry import COND_POSITIONS

if TYPE_CHECKING:
    from xtts_ka.model.compact_gpt import CompactGPT

# Bytes saved per position and channel, (float32, bf16 autocast).
_BLOCK = (72, 40)  # of one transformer block
_VOICE = (186, 105)  # of the conditioning encoder and the perceiver together, per mel frame
_LOGIT = (8, 10)  # per score of a head: what cross-entropy keeps, and its gradient


@dataclass(frozen=True)
class StepShape:
    """A batch as the step sees it: text tokens and audio codes a row, mel frames of the voice sample."""

    rows: float
    text: float
    codes: float
    frames: float

    @property
    def positions(self) -> float:
        """Positions of the whole grid, those of the voice included."""
        return self.rows * (COND_POSITIONS + self.text + self.codes)


@dataclass(frozen=True)
class StepMemory:
    """Bytes: `states` stay (weights, gradients, moments, average), `step` comes and goes with each batch."""

    states: float
    step: float

    def __str__(self) -> str:
        return (
            f"about {(self.states + self.step) / 2**30:.2g} GiB: {self.states / 2**30:.2g} for weights, gradients and moments, "
            f"{self.step / 2**30:.2g} for a batch (estimate)"
        )


def estimate_memory(
    model: CompactGPT, shape: StepShape, *, bf16: bool, average: bool = False, shards: int = 1
) -> StepMemory:
    """Memory of one process. average: a running average is kept. shards: processes that share the states."""
    gpt = model.gpt
    dim, layers = gpt.text_embedding.embedding_dim, len(gpt.gpt.h)
    weights = 4 * sum(p.numel() for p in model.parameters())
    states = weights * (5 if average else 4) / shards
    gathered = weights if shards > 1 else 0
    copies = weights / 2 if bf16 else 0  # autocast's half-width weights
    kept_layers = 1 + layers * 4 / _BLOCK[bf16] if model.gradient_checkpointing else layers
    blocks = _BLOCK[bf16] * shape.positions * dim * kept_layers
    voice = _VOICE[bf16] * shape.rows * shape.frames * dim
    logits = (
        _LOGIT[bf16] * shape.rows * (shape.text * gpt.text_head.out_features + shape.codes * gpt.mel_head.out_features)
    )
    return StepMemory(states, gathered + copies + blocks + voice + logits)
