"""How a step changes the weights: the optimizer, its learning rate over the steps, and their running average."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xtts_ka.core.config import PretrainConfig


def build_optimizer(model: torch.nn.Module, config: PretrainConfig) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices only (not on embeddings, biases and norms)."""
    tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in tables]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in tables]
    decayed = {"params": matrices, "weight_decay": config.training.weight_decay}
    groups = [decayed, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.96), eps=1e-8, fused=True)


def learning_rate(step: int, total: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine from the peak to `final_learning_rate` of it (Loshchilov & Hutter 2017, eq. 5)."""
    training = config.training
    warmup = min(training.warmup_steps, total // 10)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share, floor = (step - warmup) / max(1, total - warmup), training.final_learning_rate
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


class RunningAverage:
    """An exponential moving average of a module's parameters, `weights` by their names.

    The decay grows from nothing as (1 + n) / (10 + n) after n updates, so that the first weights do not linger
    (as `tf.train.ExponentialMovingAverage` does with num_updates).
    """

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self._live = dict(module.named_parameters())
        self.weights = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [p.detach() for p in self._live.values()], 1 - decay)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Carry on from saved averages."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
