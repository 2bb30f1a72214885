"""Low-pass filters, and twice and half the size through one: as StyleGAN and StyleGAN2 have them.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (appendix C, the filter [1, 2, 1]); [2] Karras et al. 2020,
arXiv 1912.04958 (the filter [1, 3, 3, 1]).

Images are ``(n, features, y, x)``; outside there are zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from synthkit_torch.fused import is_fused
from torch import Tensor


class Resampling(NamedTuple):
    """A symmetric filter along y and x, between a change of rate before it and one after it.

    Sample ``i`` of the result is the sum over ``k`` of ``taps[k] * u[i * down + k - before]``, where ``u`` has
    ``up - 1`` zeros after each sample of the image, and zeros outside.

    Attributes
    ----------
    taps : the filter along one axis; where a rate changes four or another even number, otherwise two or more.
    up, down : 1 or 2, and not both 2.
    before : zeros before the first sample.
    size : of the result, ``(y, x)``.
    """

    taps: tuple[float, ...]
    up: int
    down: int
    before: int
    size: tuple[int, int]

    def adjoint(self, size: tuple[int, int]) -> Resampling:
        """The transposed operator, back to an image of ``size``: a resampling too, by the same filter."""
        return Resampling(self.taps, self.down, self.up, len(self.taps) - 1 - self.before, size)


def by_convolution(x: Tensor, how: Resampling) -> Tensor:
    """The resampling as a convolution of each feature map by itself, the fastest on a CPU.

    Where the rate stays it is never a transposed one, which takes up to twice the time.
    """
    taps = torch.tensor(how.taps, dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, -1, -1)
    if how.up == 1:
        return F.conv2d(x, kernel, stride=how.down, padding=how.before, groups=x.shape[1])
    padding = len(taps) - 1 - how.before
    return F.conv_transpose2d(x, kernel, stride=how.up, padding=padding, groups=x.shape[1])


def by_shifts(x: Tensor, how: Resampling) -> Tensor:
    """The resampling as sums of shifted images, along y and then along x.

    Convolutions of each feature map by itself, and transposed ones above all, are what libraries for GPUs are slow at.
    """
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    for axis in (2, 3):
        x = _along(x, axis, how, layout)
    return x


def _along(x: Tensor, axis: int, how: Resampling, layout: torch.memory_format) -> Tensor:
    """One axis of a resampling."""
    taps, up, down, before, size = how
    length = size[axis - 2]
    # Samples of the input that the first and the last of the result reach for.
    low = before // up
    high = ((length - 1) * down + len(taps) - 1 - before) // up - (x.shape[axis] - 1)
    padding = (0, 0, low, high) if axis == 2 else (low, high)
    # Scaled by the outermost tap, the others become its multiples.
    x = F.pad(x * taps[0], padding).contiguous(memory_format=layout)
    shape = list(x.shape)
    shape[axis] = length
    result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    for phase in range(up):
        part = _every(result, axis, phase, up, len(range(phase, length, up)))
        terms = [
            (_every(x, axis, low + (phase + k - before) // up, down, part.shape[axis]), tap / taps[0])
            for k, tap in enumerate(taps)
            if (phase + k - before) % up == 0
        ]
        # The outermost tap, now 1, comes first: each phase has it, as the filter is symmetric.
        terms.sort(key=lambda term: term[1])
        (first, _), (second, factor), *others = terms
        torch.add(first, second, alpha=factor, out=part)
        for shifted, factor in others:
            part.add_(shifted, alpha=factor)
    return result


def _every(x: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    """``count`` samples of an axis from ``start`` on, each ``step``-th."""
    index = [slice(None)] * x.dim()
    index[axis] = slice(start, start + (count - 1) * step + 1, step)
    return x[tuple(index)]


class _Resampled(torch.autograd.Function):
    """The derivative of a resampling is its adjoint, a resampling too: so is each further order.

    R1 and path length need the second; the generic rule is ten times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, how: Resampling) -> Tensor:
        ctx.how = how.adjoint((x.shape[2], x.shape[3]))
        if is_fused(x):
            from synthkit_generative import kernels

            return kernels.resample(x, *how)
        return by_convolution(x, how) if x.device.type == "cpu" else by_shifts(x, how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return resample(gradients[0], ctx.how), None


def resample(x: Tensor, how: Resampling) -> Tensor:
    """The result ``(n, features, *how.size)`` of a resampling, with derivatives of every order."""
    result: Tensor = _Resampled.apply(x, how)  # type: ignore[no-untyped-call]
    return result


_STYLEGAN2 = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
#: Zeros between the pixels take three of four, which a gain of 2 along each axis makes good.
_STYLEGAN2_TWICE = (1 / 4, 3 / 4, 3 / 4, 1 / 4)
_BINOMIAL = (1 / 4, 1 / 2, 1 / 4)


def smooth(x: Tensor, padding: int) -> Tensor:
    """Low-pass filter of [2]; each side grows by ``2 * padding - 3`` pixels."""
    grown = 2 * padding - 3
    return resample(x, Resampling(_STYLEGAN2, 1, 1, padding, (x.shape[2] + grown, x.shape[3] + grown)))


def upsample(x: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then the low-pass filter of [2] with gain 4."""
    return resample(x, Resampling(_STYLEGAN2_TWICE, 2, 1, 2, (2 * x.shape[2], 2 * x.shape[3])))


def downsample(x: Tensor) -> Tensor:
    """Half the size: low-pass filter of [2], then every second pixel. ``x`` has even sides."""
    return resample(x, Resampling(_STYLEGAN2, 1, 2, 1, (x.shape[2] // 2, x.shape[3] // 2)))


def binomial(x: Tensor) -> Tensor:
    """Low-pass filter of [1]; the size stays."""
    return resample(x, Resampling(_BINOMIAL, 1, 1, 1, (x.shape[2], x.shape[3])))
