"""How a step changes the weights: the optimizer, its learning rate over the steps, and their running average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.errors import UserError

TEXT_TABLES = ("gpt.text_embedding.weight", "gpt.text_head.weight", "gpt.text_head.bias")  # a row for each text token
LINEAR, CUBIC, QUINTIC = 3.4445, -4.775, 2.0315  # coefficients of x, x³ and x⁵ in Jordan et al.'s iteration


def build_optimizer(model: torch.nn.Module, config: PretrainConfig) -> torch.optim.AdamW:
    """Fused AdamW, or Muon beside it; weight decay on matrices only (not on embeddings, biases and norms)."""
    tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in tables]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in tables]
    decay = config.training.weight_decay
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    facts: dict[str, Any] = {"lr": config.learning_rate, "betas": (0.9, 0.96), "eps": 1e-8, "fused": True}
    if config.training.optimizer == "adamw":
        return torch.optim.AdamW(groups, **facts)
    if config.training.sharding:
        raise UserError("training.optimizer muon needs whole matrices: set training.sharding to false")
    inner = _inner_matrices(model)
    groups[0]["params"] = [p for p in matrices if id(p) not in inner]
    return Muon([{"params": list(inner.values()), "weight_decay": decay, "muon": True}, *groups], **facts)


def _inner_matrices(model: torch.nn.Module) -> dict[int, torch.nn.Parameter]:
    """The matrices between layers, by id: all but the embeddings and the heads."""
    found = {}
    for name, module in model.named_modules():
        # "Conv1D" is the linear layer of transformers' GPT-2.
        linear = isinstance(module, torch.nn.Linear | torch.nn.Conv1d) or type(module).__name__ == "Conv1D"
        if linear and not name.endswith("_head"):
            found[id(module.weight)] = module.weight
    return found


class Muon(torch.optim.AdamW):
    """AdamW, except for groups with `muon`: their matrices are changed by an orthogonalised momentum.

    Jordan et al. 2024, with the scale of Liu et al. 2025 (eq. 4), by which the entries of a step are as large as
    AdamW's and one learning rate serves both. torch.optim.Muon takes the matrices one by one, which on a GPU means some
    thousand kernels a step; here those of one shape are orthogonalised together.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                self._step_of(group)

    def _step_of(self, group: dict[str, Any]) -> None:
        shapes: dict[torch.Size, list[Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                shapes.setdefault(weight.shape, []).append(weight)
        for shape, weights in shapes.items():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            momenta = [self._momentum(weight) for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - self.MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, self.MOMENTUM)  # Nesterov's
            steps = _orthogonalised(torch.stack(ahead).flatten(2)).to(weights[0].dtype).view(-1, *shape)
            rows, columns = shape[0], math.prod(shape[1:])
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, list(steps), alpha=-0.2 * math.sqrt(max(rows, columns)) * group["lr"])

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["step"] = torch.zeros(())  # which AdamW looks for when a state is loaded
            state["momentum"] = torch.zeros_like(weight)
        return state["momentum"]


def _orthogonalised(matrices: Tensor) -> Tensor:
    """(n, rows, columns) with singular values near 1: five Newton-Schulz iterations, in bf16 on a GPU."""
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    # Rounding errors grow in the products of `_factor_of_five`: they stay small in float32, not in bf16.
    if x.dtype == torch.float32 and x.shape[2] >= 2 * x.shape[1]:
        x = _factor_of_five(x @ x.mT) @ x
    else:
        for _ in range(5):
            x = torch.baddbmm(x, _polynomial(x @ x.mT), x, beta=LINEAR)
    return x.mT if tall else x


def _polynomial(square: Tensor) -> Tensor:
    """(n, rows, rows) of square = x·xᵀ; an iteration turns x into LINEAR·x + polynomial·x."""
    return torch.baddbmm(square, square, square, beta=CUBIC, alpha=QUINTIC)


def _factor(square: Tensor) -> Tensor:
    """(n, rows, rows) by which an iteration multiplies x."""
    factor = _polynomial(square)
    factor.diagonal(dim1=1, dim2=2).add_(LINEAR)
    return factor


def _factor_of_five(square: Tensor) -> Tensor:
    """All five factors in one, without x: the next x·xᵀ is factor·square·factor. Cheaper where x is wide."""
    factor = product = _factor(square)
    for _ in range(4):
        square = factor @ square @ factor
        factor = _factor(square)
        product = factor @ product
    return product


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step.

    Linear warm-up, then a cosine from `peak` to `floor` of it (Loshchilov & Hutter 2017, eq. 5) that ends at step
    `total`. Where a run goes on with other settings, the rate would jump, for a longer training from near the floor to
    near the peak. So it climbs from `share` of the new schedule's rate at step `since` to all of it in as many steps
    as a warm-up takes. A checkpoint holds these values.
    """

    total: int
    peak: float
    floor: float
    warmup: int  # steps, a tenth of all at most
    since: int = 0
    share: float = 1.0

    @classmethod
    def of(cls, config: PretrainConfig, total: int) -> Schedule:
        training = config.training
        return cls(total, config.learning_rate, training.final_learning_rate, training.warmup_steps)

    def rate(self, step: int) -> float:
        """The learning rate of the step after `step` steps."""
        climb = max(1, self._warmup(self.total - self.since))
        return self._planned(step) * min(1.0, self.share + (1 - self.share) * (step - self.since) / climb)

    def _planned(self, step: int) -> float:
        warmup = self._warmup(self.total)
        if step < warmup:
            return self.peak * (step + 1) / warmup
        done = (step - warmup) / max(1, self.total - warmup)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def _warmup(self, steps: int) -> int:
        return min(self.warmup, steps // 10)

    def after(self, earlier: Schedule | None, step: int, rate: float) -> Schedule:
        """This schedule for a run that stands at `step` and whose last step had `rate`.

        earlier: the schedule up to there, None where it is not known. A fall of the rate is taken at once.
        """
        if earlier and replace(earlier, since=self.since, share=self.share) == self:
            return earlier
        return replace(self, since=step, share=min(1.0, rate / self._planned(step)))


class NewRows:
    """Lets the rows from `first` on in the text tables learn at `rate` × the others' learning rate.

    AdamW's change of a weight is proportional to the learning rate, its decay too, so that of these rows is multiplied.
    """

    def __init__(self, model: torch.nn.Module, first: int, rate: float):
        tables = [model.get_parameter(name) for name in TEXT_TABLES] if rate != 1 else []
        self.rate, self._rows = rate, [_local_rows(table, first) for table in tables]

    @contextlib.contextmanager
    def faster(self) -> Iterator[None]:
        """Around the optimizer's step."""
        before = [rows.clone() for rows in self._rows]
        yield
        for rows, old in zip(self._rows, before):
            rows.copy_(old + self.rate * (rows - old))


def _local_rows(table: torch.nn.Parameter, first: int) -> Tensor:
    """This process's part of the rows from `first` on: FSDP gives every process an equal part, the last the rest."""
    data = table.data
    if not isinstance(data, DTensor):
        return data[first:]
    mesh = data.device_mesh
    begin = mesh.get_local_rank() * -(-len(data) // mesh.size())
    return data.to_local()[max(0, first - begin) :]


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
