"""HiFi-GAN's discriminators (Kong et al. 2020), of any width: those of periods and those of scales.

At width 32 they are coqui's `HifiganDiscriminator`: the same names, shapes and outputs, as the tests compare. A small
machine wants fewer channels: at width 32 they have 70.7 M weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PERIODS = (2, 3, 5, 7, 11)
FULL_WIDTH = 32
_SLOPE = 0.1  # of the leaky ReLU
Judged = tuple[list[Tensor], list[list[Tensor]]]  # scores, and the features of every layer, by discriminator


class _Judge(nn.Module):
    """Convolutions whose last one scores; `forward` returns the flattened scores and every layer's output."""

    def __init__(self, layers: Sequence[nn.Module], last: nn.Module):
        super().__init__()
        self.convs, self.conv_post = nn.ModuleList(layers), last

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.convs:
            x = F.leaky_relu(layer(x), _SLOPE)
            features.append(x)
        features.append(self.conv_post(x))
        return features[-1].flatten(1), features


class PeriodDiscriminator(_Judge):
    """Judges the wave as an image of `period` columns: every period-th sample stands in one column."""

    def __init__(self, period: int, width: int):
        norm = nn.utils.parametrizations.weight_norm
        channels, strides = (1, width, 4 * width, 16 * width, 32 * width, 32 * width), (3, 3, 3, 3, 1)
        layers = [
            norm(nn.Conv2d(few, many, (5, 1), (stride, 1), padding=(2, 0)))
            for few, many, stride in zip(channels, channels[1:], strides)
        ]
        super().__init__(layers, norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0))))
        self.period = period

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.pad(x, (0, -x.shape[-1] % self.period), mode="reflect")
        return super().forward(x.unflatten(-1, (-1, self.period)))


class ScaleDiscriminator(_Judge):
    """Judges the wave itself, with long kernels."""

    def __init__(self, width: int, spectral: bool):
        norm = nn.utils.spectral_norm if spectral else nn.utils.parametrizations.weight_norm
        channels = [1, *(width * many for many in (4, 4, 8, 16, 32, 32, 32))]
        kernels, strides, groups = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1)
        layers = [
            norm(nn.Conv1d(few, many, kernel, stride, padding=kernel // 2, groups=group))
            for few, many, kernel, stride, group in zip(channels, channels[1:], kernels, strides, groups)
        ]
        super().__init__(layers, norm(nn.Conv1d(channels[-1], 1, 3, padding=1)))


class PeriodDiscriminators(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, width) for period in PERIODS)

    def forward(self, wave: Tensor) -> Judged:
        scores, features = zip(*(judge(wave) for judge in self.discriminators))
        return list(scores), list(features)


class ScaleDiscriminators(nn.Module):
    """The wave, and the wave averaged to half and to a quarter of its rate."""

    def __init__(self, width: int):
        super().__init__()
        self.discriminators = nn.ModuleList(ScaleDiscriminator(width, spectral=i == 0) for i in range(3))

    def forward(self, wave: Tensor) -> Judged:
        scores, features = [], []
        for place, judge in enumerate(self.discriminators):
            wave = F.avg_pool1d(wave, 4, 2, padding=2) if place else wave
            score, layers = judge(wave)
            scores.append(score)
            features.append(layers)
        return scores, features


class Discriminators(nn.Module):
    """All of them on a wave (batch, 1, samples). width: channels of the first period layer, a multiple of 4."""

    def __init__(self, width: int = FULL_WIDTH):
        super().__init__()
        self.mpd, self.msd = PeriodDiscriminators(width), ScaleDiscriminators(width)

    def forward(self, wave: Tensor) -> Judged:
        (scores, features), (more_scores, more_features) = self.mpd(wave), self.msd(wave)
        return scores + more_scores, features + more_features


def discriminator_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """Least squares (Mao et al. 2017): real scores towards 1, those of made waves towards 0; summed over all."""
    return torch.stack([(1 - r).square().mean() + m.square().mean() for r, m in zip(real, made)]).sum()


def adversarial_loss(made: Sequence[Tensor]) -> Tensor:
    """Least squares: the scores of made waves towards 1."""
    return torch.stack([(1 - score).square().mean() for score in made]).sum()


def feature_loss(real: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]]) -> Tensor:
    """Feature matching (Larsen et al. 2016, as in HiFi-GAN): mean absolute difference of every layer, summed."""
    pairs = ((r, m) for reals, mades in zip(real, made) for r, m in zip(reals, mades))
    return torch.stack([F.l1_loss(m, r.detach()) for r, m in pairs]).sum()
