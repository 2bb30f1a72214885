"""Layers that the style-based generators and their discriminator share.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (mapping network); [4] Karras et al. 2018, arXiv 1710.10196
(equalised learning rate).
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate ([4] section 4.1): the weight is scaled when it is used."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.gain = multiplier / math.sqrt(inputs)
        self.multiplier = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.multiplier)


class Conv(nn.Module):
    """Convolution with equalised learning rate. ``gain`` scales the output, so that it costs no pass over the image."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, *, stride: int = 1, padding: int = 0, gain: float = 1.0) -> Tensor:
        weight = (self.weight * (self.gain * gain)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, slope 0.2. Its gain of sqrt(2), which keeps the variance, is folded into what comes before."""
    return F.leaky_relu(x, 0.2)


class Mapping(nn.Module):
    """z to w ``(n, latent)``: normalised, through fully connected layers of 1/100 the learning rate ([1] section 2).

    z has ``inputs`` numbers, as many as w if that is 0.
    """

    def __init__(self, latent: int, layers: int, *, inputs: int = 0) -> None:
        super().__init__()
        lengths = [inputs or latent, *[latent] * layers]
        self.layers = nn.ModuleList(Linear(a, b, multiplier=0.01) for a, b in itertools.pairwise(lengths))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = activate(layer(x) * math.sqrt(2))
        return x


@torch.no_grad()
def mean_w(mapping: nn.Module, latent: int, random: torch.Generator) -> Tensor:
    """The mean w ``(latent,)`` over 10,000 latents: the centre of truncation ([1] appendix B)."""
    mean: Tensor = mapping(torch.randn(10_000, latent, device=random.device, generator=random)).mean(dim=0)
    return mean
