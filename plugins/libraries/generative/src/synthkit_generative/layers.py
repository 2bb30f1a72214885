"""Layers that the style-based generators and their discriminator share.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (mapping network); [4] Karras et al. 2018, arXiv 1710.10196
(equalised learning rate).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from synthkit_torch.fused import is_fused
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

    def activated(self, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        """The convolution, scaled to keep the variance, and :func:`activate`."""
        root = math.sqrt(2)
        if self.bias is None or not is_fused(x):
            return activate(self(x, stride=stride, padding=padding, gain=root))
        weight = (self.weight * (self.gain * root)).to(x.dtype)
        return activate(F.conv2d(x, weight, stride=stride, padding=padding), bias=self.bias * root)


SLOPE = 0.2


def activate(
    x: Tensor, *, scale: Tensor | None = None, noise: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Leaky ReLU, slope 0.2, of ``x * scale + noise + bias``.

    Its gain of sqrt(2), which keeps the variance, is folded into what comes before.

    Parameters
    ----------
    x : (n, features, y, x), or any shape if it is alone.
    scale : (n, features). noise : (n, 1, y, x). bias : (features,).
    """
    given = (scale, noise, bias)
    if any(one is not None for one in given) and is_fused(x):
        fused: Tensor = _Activated.apply(x, *given)  # type: ignore[no-untyped-call]
        return fused
    if scale is not None:
        x = x * scale[:, :, None, None].to(x.dtype)
    if noise is not None:
        x = x + noise.to(x.dtype)
    if bias is not None:
        x = x + bias[:, None, None].to(x.dtype)
    return F.leaky_relu(x, SLOPE)


class _Activated(torch.autograd.Function):
    """:func:`activate` in one pass. The sign of its result tells the slope, so that what it was made of is not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor | None) -> Tensor:
        from synthkit_generative import kernels

        result = kernels.activate(x, scale, noise, bias, SLOPE)
        ctx.types = [None if one is None else one.dtype for one in (x, noise, bias)]
        ctx.save_for_backward(result, *(() if scale is None else (x, scale)))
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        result, *scaled = ctx.saved_tensors
        type_x, type_noise, type_bias = ctx.types
        by_x: Tensor = _Slopes.apply(gradients[0], result)  # type: ignore[no-untyped-call]
        by_noise = None if type_noise is None else by_x.sum(dim=1, keepdim=True, dtype=torch.float32).to(type_noise)
        by_bias = None if type_bias is None else by_x.sum(dim=(0, 2, 3), dtype=torch.float32).to(type_bias)
        by_scale = None
        if scaled:
            x, scale = scaled
            by_scale = (by_x * x).sum(dim=(2, 3), dtype=torch.float32).to(scale.dtype)
            by_x = by_x * scale[:, :, None, None].to(by_x.dtype)
        return by_x.to(type_x), by_scale, by_noise, by_bias


class _Slopes(torch.autograd.Function):
    """A gradient times the slopes of the leaky ReLU that gave ``result``. So is its derivative, of every order."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, result: Tensor) -> Tensor:
        from synthkit_generative import kernels

        ctx.save_for_backward(result)
        return kernels.slopes(gradient, result, SLOPE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return _Slopes.apply(gradients[0], result), None  # type: ignore[no-untyped-call]


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
