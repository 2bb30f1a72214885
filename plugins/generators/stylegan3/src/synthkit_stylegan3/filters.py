"""Low-pass filters of StyleGAN3, and the non-linearity between two of them.

Source: Karras et al. 2021, arXiv 2106.12423, section 3.1 and appendix C; Kaiser's windows as in scipy.signal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from scipy.special import j1
from synthkit_torch.fused import is_fused
from torch import Tensor, nn

from synthkit_stylegan3.schedule import Maps

#: Taps of a filter for each sample of the lower rate (appendix C).
TAPS = 6
#: The non-linearity acts at this multiple of the higher of the two rates (section 3.2).
OVERSAMPLING = 2
#: Rows of a filter's matrix that are multiplied at once: few enough to leave most zeros out, enough for one product.
BLOCK = 64

Floats = NDArray[np.float64]
Sizes = tuple[int, int, int]
#: Rows of a result that a kernel makes at once.
TILE = 16
SLOPE = 0.2


def lowpass(taps: int, cutoff: float, width: float, rate: float) -> Floats:
    """Kaiser-windowed ideal low-pass ``(taps,)`` with sum 1 (appendix C). ``width`` is that of the transition band."""
    return np.asarray(firwin(taps, cutoff, width=width, fs=rate), dtype=np.float64)


def radial_lowpass(taps: int, cutoff: float, width: float, rate: float) -> Floats:
    """Its radially symmetric form ``(taps, taps)``, a windowed jinc (appendix C)."""
    position = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(position[:, None], position)
    ideal = j1(2 * np.pi * cutoff * radius) / radius  # taps are even: no radius is 0
    window = np.kaiser(taps, kaiser_beta(kaiser_atten(taps, width / (rate / 2))))
    kernel: Floats = ideal * np.outer(window, window)
    kernel /= kernel.sum()
    return kernel


def separate(kernel: Floats) -> tuple[Floats, Floats]:
    """A symmetric kernel ``(taps, taps)`` as the sum of few separable ones: its eigenvectors.

    Returns
    -------
    their taps ``(n, taps)``, and the sign ``(n,)`` that each one's product with itself comes with, that of the first 1.
    What is left out is below 1e-8 of the largest.
    """
    values, vectors = (part[..., ::-1] for part in np.linalg.eigh(kernel))
    kept = np.abs(values) > 1e-8 * values[0]
    return (vectors[:, kept] * np.sqrt(np.abs(values[kept]))).T, np.sign(values[kept])


def resampling_matrix(taps: Floats, n: int, shift: int, factor: int, length: int) -> Floats:
    """Matrix ``(length, n)`` that upsamples by ``factor``: zeros between samples, ``shift`` before them, filter."""
    matrix = np.zeros((length, n))
    for column in range(n):
        # Output i holds the samples at i ... i + taps - 1 of what is padded with zeros.
        position = shift + column * factor
        for tap, value in enumerate(taps[::-1]):
            if 0 <= position - tap < length:
                matrix[position - tap, column] = value
    return matrix


#: Rows of a band ``start, stop``, and the columns ``first, last`` outside which they are zero.
Blocks = list[tuple[int, int, int, int]]


def find_blocks(matrix: Floats) -> Blocks:
    """The rows of a band matrix in blocks, with the columns that each needs."""
    blocks = []
    for start in range(0, len(matrix), BLOCK):
        columns = np.flatnonzero(matrix[start : start + BLOCK].any(axis=0))
        blocks.append((start, min(start + BLOCK, len(matrix)), int(columns[0]), int(columns[-1]) + 1))
    return blocks


class _Banded(torch.autograd.Function):
    """``M X M^T`` of each map X for a band matrix M. Its derivative is the same with the transposed matrix.

    Saying so spares the generic rule, which would fill and add a whole map for each block.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, blocks: Blocks, transposed: Blocks) -> Tensor:
        ctx.how = (matrix, blocks, transposed)
        x = torch.cat([x[..., c0:c1] @ matrix[r0:r1, c0:c1].T for r0, r1, c0, c1 in blocks], dim=-1)
        return torch.cat([matrix[r0:r1, c0:c1] @ x[..., c0:c1, :] for r0, r1, c0, c1 in blocks], dim=-2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        matrix, blocks, transposed = ctx.how
        return _banded(gradients[0], matrix.T, transposed, blocks), None, None, None


def _banded(x: Tensor, matrix: Tensor, blocks: Blocks, transposed: Blocks) -> Tensor:
    result: Tensor = _Banded.apply(x, matrix, blocks, transposed)  # type: ignore[no-untyped-call]
    return result


def find_windows(gather: Floats, spread: Floats, rise: Floats, tile: int) -> tuple[NDArray[np.int32], Sizes]:
    """What a tile of a result needs of the bands that lead to it.

    Parameters
    ----------
    gather : (side, high), from the higher rate to the result. spread, rise : (high, v), (high, x), to the higher rate.
    tile : rows of the result that are made at once.

    Returns
    -------
    the first sample that each tile needs at the higher rate, of v and of x, ``(3, tiles)``; and how many, rounded up to
    a power of two, at least 16.
    """
    spans = []
    for start in range(0, len(gather), tile):
        high = _span(gather[start : start + tile])
        spans.append([high, _span(spread[slice(*high)]), _span(rise[slice(*high)])])
    found = np.array(spans)
    most = (found[..., 1] - found[..., 0]).max(axis=0)
    sizes = tuple(max(16, 1 << int(size - 1).bit_length()) for size in most)
    return np.ascontiguousarray(found[..., 0].T, dtype=np.int32), (sizes[0], sizes[1], sizes[2])


def _span(rows: Floats) -> tuple[int, int]:
    """From the first to behind the last column that is not zero."""
    columns = np.flatnonzero(rows.any(axis=0))
    return (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)


class _Slopes(torch.autograd.Function):
    """Leaky ReLU, slope 0.2. It keeps a byte a value, which side of zero it was on, instead of the value.

    Of all that a step keeps for its gradients, maps at the higher rate are most.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x > 0)
        return F.leaky_relu(x, SLOPE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        return torch.where(above, gradients[0], gradients[0] * SLOPE)


class _Fused(torch.autograd.Function):
    """The whole of :class:`FilteredActivation` in one pass, or its derivative at ``x``, which is linear in ``v``.

    Derivative of the derivative is the first again, with the same slopes. Of all that lies between only ``x`` is kept.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor, activation: FilteredActivation, backward: bool) -> Tensor:
        from synthkit_stylegan3 import kernels

        ctx.save_for_backward(x)
        ctx.how = (activation, not backward)
        up, down = activation.up, activation.down
        if backward:
            matrices = (down.transpose(1, 2), up, up.T[None])
            starts, sizes = activation.starts_back, activation.sizes_back
        else:
            matrices = (up[None], up, down)
            starts, sizes = activation.starts, activation.sizes
        return kernels.filtered(v, x, kernels.Way(*matrices, activation.sign, starts, sizes), TILE, SLOPE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return _fused(gradients[0], x, *ctx.how), None, None, None


def _fused(v: Tensor, x: Tensor, activation: FilteredActivation, backward: bool) -> Tensor:
    result: Tensor = _Fused.apply(v, x, activation, backward)  # type: ignore[no-untyped-call]
    return result


class FilteredActivation(nn.Module):
    """Leaky ReLU that creates no frequencies its output cannot hold (section 3.1).

    Upsampled to a higher rate, through the non-linearity, low-pass filtered, sampled down. A separable filter with its
    padding and its change of rate is one band matrix along each axis, so that it runs as products of matrices.

    Parameters
    ----------
    before, after : the feature maps that come in and go out. ``side`` is that of the input in samples, which the
        convolution has changed; input and output have their centres in one point.
    radial : whether the filter after the non-linearity is radially symmetric. A CPU convolves each feature map with it,
        which GPUs are slow at: there it is the sum of the separable filters that it consists of.
    """

    up: Tensor
    down: Tensor
    kernel: Tensor
    sign: Tensor
    starts: Tensor
    starts_back: Tensor

    def __init__(self, before: Maps, after: Maps, side: int, *, radial: bool) -> None:
        super().__init__()
        rate = OVERSAMPLING * max(before.rate, after.rate)
        up, self.stride = rate // before.rate, rate // after.rate
        up_taps, down_taps = TAPS * up, TAPS * self.stride
        # Samples of the higher rate that the output is filtered from.
        length = (after.side - 1) * self.stride + down_taps
        # The centre of the input, (side - 1) / 2 samples from its first, comes to lie on that of the output.
        shift = (length - 1 + up_taps - 1 - (side - 1) * up) // 2
        design = lowpass(up_taps, before.cutoff, 2 * before.half_width, rate) * up
        rise = resampling_matrix(design, side, shift, up, length)
        self._keep("up", rise)
        self.up_blocks = find_blocks(rise), find_blocks(rise.T)
        if radial:
            kernel = radial_lowpass(down_taps, after.cutoff, 2 * after.half_width, rate)
            self._keep("kernel", kernel)
            designs, self.signs = separate(kernel)
        else:
            designs, self.signs = lowpass(down_taps, after.cutoff, 2 * after.half_width, rate)[None], np.ones(1)
        places = [i * self.stride for i in range(after.side)]
        falls = np.stack([[np.pad(taps, (place, length - down_taps - place)) for place in places] for taps in designs])
        self._keep("down", falls)
        band = np.abs(falls).sum(axis=0)
        self.down_blocks = find_blocks(band), find_blocks(band.T)
        self.radial = radial
        self._keep("sign", self.signs)
        starts, self.sizes = find_windows(band, rise, rise, TILE)
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        starts, self.sizes_back = find_windows(rise.T, band.T, rise, TILE)
        self.register_buffer("starts_back", torch.tensor(starts), persistent=False)

    def _keep(self, name: str, values: Floats) -> None:
        # Not in the checkpoint: they follow from the architecture.
        self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x (n, features, side, side)``; the gain of sqrt(2) that keeps the variance is the caller's."""
        if is_fused(x):
            return _fused(x, x.detach(), self, False)
        up, down = self.up.to(x.dtype), self.down.to(x.dtype)
        x = _Slopes.apply(_banded(x, up, *self.up_blocks))  # type: ignore[no-untyped-call]
        if self.radial and x.device.type == "cpu":
            kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
            return F.conv2d(x, kernel, stride=self.stride, groups=x.shape[1])
        result = _banded(x, down[0], *self.down_blocks)
        for sign, fall in zip(self.signs[1:], down[1:], strict=True):
            result = result.add(_banded(x, fall, *self.down_blocks), alpha=float(sign))
        return result
