"""Twice and half the size through the low-pass filter of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Fir(torch.autograd.Function):
    """The separable low-pass filter [1, 3, 3, 1] / 8 of the paper, at every ``stride``-th pixel, or its adjoint.

    Filter and adjoint are each other's derivative. Saying so keeps every order of derivative (R1 and path length need
    the second) a plain depthwise convolution; the generic rule is ten times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, padding: int, adjoint: bool) -> Tensor:
        ctx.how = (stride, padding, adjoint)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
        convolve = F.conv_transpose2d if adjoint else F.conv2d
        return convolve(x, kernel, stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        stride, padding, adjoint = ctx.how
        return _fir(gradients[0], stride, padding, not adjoint), None, None, None


def _fir(x: Tensor, stride: int, padding: int, adjoint: bool) -> Tensor:
    result: Tensor = _Fir.apply(x, stride, padding, adjoint)  # type: ignore[no-untyped-call]
    return result


def smooth(x: Tensor, padding: int) -> Tensor:
    """Low-pass filter; each side grows by ``2 * padding - 3`` pixels. Zeros outside the image."""
    return _fir(x, 1, padding, adjoint=False)


def upsample(x: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then the low-pass filter with gain 4."""
    return 4 * _fir(x, 2, 1, adjoint=True)


def downsample(x: Tensor) -> Tensor:
    """Half the size: low-pass filter, then every second pixel. ``x`` has even sides."""
    return _fir(x, 2, 1, adjoint=False)
