"""Puts a network with few channels into the released geometry: zeros around it, and the same output.

Training a narrow network takes a fraction of the time and its weights a fraction of the space, and stock coqui, which
builds the released geometry only, can run it once it is expanded. Why the output is the same:

- A convolution's or matrix's new rows are zero, so a new channel is 0 (ReLU, leaky ReLU, residual sums and BatchNorm
  with a zero mean keep it 0); its new columns are zero, so nothing reads what a new channel holds.
- weight_norm divides each row of `original1` by its length and multiplies it by `original0`. Zeros do not change a
  row's length; a row that is all new gets `original0` zero and any direction, since a length of 0 would give NaN.
- The speaker encoder's statistics are [means | deviations] of its channels: each half is expanded by itself. In a new
  channel the deviation is the square root of coqui's lower bound 1e-5, which the last matrix's zeros ignore.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from xtts_ka.core.errors import UserError

_NORM, _DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
_HALVES = ("fc.weight",)  # of the speaker encoder: inputs are two halves


def expanded(narrow: Mapping[str, Tensor], wide: nn.Module) -> dict[str, Tensor]:
    """The narrow network's weights in the shapes of `wide`'s, as a state dict for it; float32.

    narrow: state dict of a network of the same kind with fewer channels; weights that it lacks (a residual block that
    passes its input through) become zero. `wide` is not changed. UserError where a weight does not fit into `wide`.
    """
    wanted = wide.state_dict()
    if foreign := sorted(narrow.keys() - wanted.keys()):
        raise UserError(f"narrow weights hold {foreign[0]}, which the wide network lacks: they are of another network")
    return {name: _grown(name, narrow.get(name), like) for name, like in wanted.items()}


def _grown(name: str, small: Tensor | None, like: Tensor) -> Tensor:
    if not like.is_floating_point():  # BatchNorm's counter
        return like.clone() if small is None else small.clone()
    grown = torch.zeros_like(like)
    if name.endswith(_DIRECTION):
        grown.flatten(1)[:, 0] = 1.0  # any direction; in the narrow network's rows it is overwritten
    if name.endswith("running_var"):
        grown.fill_(1.0)
    if small is None:
        return grown
    if small.ndim != like.ndim or any(few > many for few, many in zip(small.shape, like.shape)):
        shapes = f"{tuple(small.shape)} does not fit into {tuple(like.shape)}"
        raise UserError(f"narrow weight {name}: {shapes}: it is of another geometry")
    halves = 2 if name in _HALVES else 1
    for new, old in zip(grown.chunk(halves, dim=-1), small.to(like).chunk(halves, dim=-1)):
        new[tuple(slice(0, count) for count in old.shape)] = old
    return grown
