"""The residual discriminator of StyleGAN2, which StyleGAN3 keeps.

Sources: [2] Karras et al. 2020, arXiv 1912.04958 (section 4.1, figure 7c); [3] Karras et al. 2020, arXiv 2006.06676
(mixed precision); [4] Karras et al. 2018, arXiv 1710.10196 (minibatch standard deviation).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synthkit_generative.batches import group_size
from synthkit_generative.layers import Conv, Linear, activate
from synthkit_generative.resampling import downsample, smooth


@dataclass(frozen=True)
class Pyramid:
    """Resolutions of a network and their feature maps. ``channels`` counts the label channel; ``size`` is in pixels."""

    size: int
    channels: int
    channel_base: int = 16384
    channel_max: int = 512

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... size."""
        return [2**level for level in range(2, self.size.bit_length())]

    def features(self, side: int) -> int:
        """Feature maps at this resolution."""
        return max(1, min(self.channel_base // side, self.channel_max))


class ResidualBlock(nn.Module):
    """Residual block to half the resolution ([2] section 4.1, figure 7c)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3)
        self.skip = Conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (skip + residual) / sqrt(2): the gain of conv1's activation and the division cancel.
        residual = self.conv0.activated(x, padding=1)
        residual = activate(self.conv1(smooth(residual, padding=2), stride=2))
        halved: Tensor = self.skip(downsample(x), gain=math.sqrt(0.5)) + residual
        return halved


def minibatch_stddev(x: Tensor) -> Tensor:
    """Append a feature map that holds the mean standard deviation within groups of up to 4 samples ([4] section 3)."""
    n = x.shape[0]
    group = group_size(n)
    grouped = x.view(group, n // group, -1)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    return torch.cat([x, deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


class Discriminator(nn.Module):
    """Scores ``(n,)`` of images ``(n, channels, size, size)``; high means real."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        features = [pyramid.features(side) for side in reversed(pyramid.resolutions)]
        self.from_image = Conv(pyramid.channels, features[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise(features))
        self.conv = Conv(features[-1] + 1, features[-1], 3)
        self.dense = Linear(features[-1] * 16, features[-1])
        self.score = Linear(features[-1], 1)

    @property
    def first_layers(self) -> list[nn.Module]:
        """Those that see an image piece by piece, from its pixels on, in the order in which FreezeD counts them."""
        return [self.from_image, *(layer for block in self.blocks for layer in block.children())]

    def forward(self, image: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        """``precision`` is that of the four finest resolutions ([3] appendix D)."""
        x = image.contiguous(memory_format=torch.channels_last).to(precision)
        x = self.from_image.activated(x)
        for number, block in enumerate(self.blocks):
            x = block(x if number < 4 else x.float())
        x = minibatch_stddev(x.float().contiguous())
        x = self.conv.activated(x, padding=1)
        x = activate(self.dense(x.flatten(1)) * math.sqrt(2))
        scores: Tensor = self.score(x)[:, 0]
        return scores
