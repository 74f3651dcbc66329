"""What the training loop knows of samples: somebody who speaks from the present weights, and how he gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.optimizer import RunningAverage


class Sampler(Protocol):
    """Speaks samples, on the main process. It must leave no trace in the training."""

    def due(self, step: int) -> bool:
        """Whether samples of this step are wanted now."""
        ...

    def speak(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Speak from the GPT's weights after `step`, named without prefix, which it must not keep or change."""
        ...


def present_weights(model: CompactGPT, average: RunningAverage | None, sharded: bool) -> Mapping[str, Tensor]:
    """The GPT's weights as they would be exported now, named without prefix.

    sharded: all processes must call this together, and the main one alone gets the weights, on the CPU.
    """
    if average:
        return average.weights
    if not sharded:
        return {name: weight.detach() for name, weight in model.gpt.named_parameters()}
    gathered = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name.removeprefix("gpt."): cast(Tensor, weight) for name, weight in gathered.items()}
