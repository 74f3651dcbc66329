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
from typing import TypeVar

import torch
from torch import Tensor, nn
from TTS.encoder.models.resnet import ResNetSpeakerEncoder
from TTS.tts.layers.xtts.dvae import DiscreteVAE
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from xtts_ka.core.errors import UserError
from xtts_ka.model.networks import DECODER_KERNELS, build_dvae, build_speaker_encoder, build_vocoder

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


# ── and back: a wide network whose outer channels are zero runs narrow ───────────────────────────────────────────────

_Network = TypeVar("_Network", bound=nn.Module)


def slim_vocoder(vocoder: HifiganGenerator) -> HifiganGenerator:
    """The narrowest HiFi-GAN that gives the same waves, or `vocoder` itself where all of its channels are in use."""
    state = vocoder.state_dict()
    widths = [_used(state["conv_pre.weight"])]
    widths += [_used(state[f"ups.{place}.bias"], state[f"conds.{place}.weight"]) for place in range(len(vocoder.ups))]
    gains = {name: gain for name, gain in state.items() if name.startswith("resblocks.") and name.endswith(_NORM)}
    used = [
        any(gain.any() for name, gain in gains.items() if int(name.split(".")[1]) % len(DECODER_KERNELS) == block)
        for block in range(len(DECODER_KERNELS))
    ]
    kernels = DECODER_KERNELS[: sum(used)]
    return _slim(vocoder, build_vocoder(state["conv_pre.weight"].shape[1], widths, kernels))


def slim_dvae(dvae: DiscreteVAE) -> DiscreteVAE:
    """The narrowest DVAE with the same codes and mels, or `dvae` itself where all of its channels are in use."""
    state = dvae.state_dict()
    hidden, width = _used(state["encoder.0.0.weight"], state["encoder.0.0.bias"]), _used(state["codebook.embed"])
    return _slim(dvae, build_dvae(dvae.num_tokens, hidden, width))


def slim_speaker_encoder(encoder: ResNetSpeakerEncoder) -> ResNetSpeakerEncoder:
    """The narrowest speaker encoder with the same embeddings, or `encoder` itself where all its channels are in use."""
    state = encoder.state_dict()
    filters = [_used(state[name]) for name in ("conv1.weight", *(f"layer{i}.0.conv1.weight" for i in (2, 3, 4)))]
    return _slim(encoder, build_speaker_encoder(filters))


def _used(*weights: Tensor) -> int:
    """How many rows there are up to the last that is not zero in one of the weights; at least one."""
    used = torch.stack([weight.reshape(len(weight), -1).any(1) for weight in weights]).any(0)
    return int(used.nonzero().max()) + 1 if used.any() else 1


def _slim(wide: _Network, narrow: _Network) -> _Network:
    """`narrow` with the inner weights of `wide`, if these are all that `wide` has; else `wide`."""
    whole, shapes = wide.state_dict(), narrow.state_dict()
    if all(whole[name].shape == weight.shape for name, weight in shapes.items()):
        return wide
    inner = {name: _cut(name, whole[name], weight) for name, weight in shapes.items()}
    if any(not torch.equal(grown, whole[name]) for name, grown in expanded(inner, wide).items()):
        return wide
    narrow.load_state_dict(inner)
    narrow.train(wide.training)
    return narrow.to(next(wide.parameters()).device)


def _cut(name: str, large: Tensor, like: Tensor) -> Tensor:
    """The part of `large` that `_grown` puts a weight of the shape of `like` into."""
    halves = large.chunk(2, dim=-1) if name in _HALVES else [large]
    count = like.shape[-1:].numel() // len(halves)
    shape = (*like.shape[:-1], count) if like.ndim else ()
    return torch.cat([half[tuple(slice(0, size) for size in shape)] for half in halves], dim=-1) if shape else large
