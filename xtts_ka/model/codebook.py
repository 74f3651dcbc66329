"""The codebook of XTTS's DVAE in training: nearest entries, k-means start, moving averages, revival of dead entries.

coqui's own update divides by a smoothed count, which pulls entries that the data never use to zero. Here an entry that
is not used stays as it is: the GPT of a base model knows all of them by number.

All functions take coqui's `Quantize`, whose buffers are `embed` (dim, codes), `embed_avg` and `cluster_size`; sums are
over all processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from TTS.tts.layers.xtts.dvae import DiscreteVAE, Quantize

LEAST_SIZE = 1e-3  # moving average of uses a step, below which an entry's average says nothing


class Reconstruction(NamedTuple):
    """What a DVAE makes of mels: mels (batch, 80, frames), codes (batch, frames / 4), points (batch, frames / 4, dim).

    commitment: mean squared distance of the encoder's points to their entries.
    """

    mels: Tensor
    codes: Tensor
    points: Tensor
    commitment: Tensor


def reconstruct(dvae: DiscreteVAE, mels: Tensor) -> Reconstruction:
    """Encode, quantise with the straight-through gradient (van den Oord et al. 2017), decode.

    mels: (batch, 80, frames), frames a multiple of 4. Distances are computed in float32 whatever the autocast: in bf16
    many entries would be equally near.
    """
    points = dvae.encoder(mels).transpose(1, 2)
    with torch.autocast(mels.device.type, enabled=False):
        exact = points.float()
        codes = nearest(dvae.codebook, exact.detach())
        entries = F.embedding(codes, dvae.codebook.embed.T)
        commitment = F.mse_loss(exact, entries)
        through = exact + (entries - exact).detach()
    return Reconstruction(dvae.decoder(through.transpose(1, 2)), codes, exact.detach(), commitment)


def nearest(codebook: Quantize, points: Tensor) -> Tensor:
    """(…, dim) → the number of the nearest entry, (…), int64."""
    flat, entries = points.reshape(-1, points.shape[-1]), codebook.embed
    distances = entries.pow(2).sum(0) - 2 * flat @ entries  # less the points' own length, which is equal for all
    return distances.argmin(1).view(points.shape[:-1])


@torch.no_grad()
def follow(codebook: Quantize, points: Tensor, codes: Tensor, decay: float) -> None:
    """Move the used entries to the exponential moving average of the points that chose them (ibid., appendix A.1)."""
    flat, chosen = points.reshape(-1, points.shape[-1]), codes.reshape(-1)
    counts = torch.bincount(chosen, minlength=codebook.embed.shape[1]).to(flat.dtype)
    sums = torch.zeros_like(codebook.embed).T.contiguous().index_add_(0, chosen, flat).T.contiguous()
    _over_all(counts, sums)
    codebook.cluster_size.lerp_(counts, 1 - decay)
    codebook.embed_avg.lerp_(sums, 1 - decay)
    used = codebook.cluster_size > LEAST_SIZE
    codebook.embed.copy_(
        torch.where(used, codebook.embed_avg / codebook.cluster_size.clamp(min=LEAST_SIZE), codebook.embed)
    )


@torch.no_grad()
def settle(codebook: Quantize, uses: Tensor) -> None:
    """Make the moving averages agree with the entries. uses: of each entry in an average step, (codes,)."""
    codebook.cluster_size.copy_(uses)
    codebook.embed_avg.copy_(codebook.embed * codebook.cluster_size)


@torch.no_grad()
def revive(codebook: Quantize, points: Tensor, share: float) -> int:
    """Put entries that are used less than `share` of the average on random points; returns how many.

    Every process gets the same entries: those of the first.
    """
    flat = points.reshape(-1, points.shape[-1])
    mean = codebook.cluster_size.mean()
    dead = (codebook.cluster_size < share * mean).nonzero()[:, 0]
    places = torch.randint(len(flat), (len(dead),), device="cpu").to(flat.device)
    codebook.embed[:, dead] = flat[places].T
    codebook.cluster_size[dead] = mean
    codebook.embed_avg[:, dead] = codebook.embed[:, dead] * mean
    if dist.is_initialized():
        for buffer in (codebook.embed, codebook.cluster_size, codebook.embed_avg):
            dist.broadcast(buffer, 0)
    return len(dead)


def k_means(points: Tensor, count: int, rounds: int = 8) -> Tensor:
    """`count` centres of points (n, dim) by Lloyd's algorithm, (count, dim); random numbers are torch's.

    Where there are fewer points, the other centres are points with some noise.
    """
    centres = points[torch.randperm(len(points))[:count]].clone()
    if len(centres) < count:
        extra = points[torch.randint(len(points), (count - len(centres),))]
        centres = torch.cat([centres, extra + 0.1 * points.std() * torch.randn_like(extra)])
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(part, centres).argmin(dim=1) for part in points.split(8192)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres


def codebook_use(codes: Tensor, count: int) -> dict[str, float]:
    """How many of `count` entries `codes` use, and their perplexity: exp of the entropy of their frequencies."""
    shares = torch.bincount(codes.reshape(-1).cpu(), minlength=count).double()
    shares = shares / shares.sum().clamp(min=1)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    return {"codes_used": float((shares > 0).sum()), "perplexity": float(entropy.exp())}


def _over_all(*sums: Tensor) -> None:
    if dist.is_initialized():
        for tensor in sums:
            dist.all_reduce(tensor)
