"""Kernels in Triton for what the generators do to every pixel: imported on a GPU alone.

Their references are :func:`synthkit_generative.resampling.by_shifts` and :func:`synthkit_generative.layers.activate`. A
kernel reads and writes each value once, in whichever order the features of a pixel lie; it computes in float32.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def dense(x: Tensor) -> tuple[Tensor, bool]:
    """``x (n, features, y, x)`` without gaps, and whether the features of a pixel lie side by side."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return (x, True) if last else (x.contiguous(), False)


@triton.jit
def _resample(
    x,
    result,
    height,
    width,
    features,
    rows,
    columns,
    UP: tl.constexpr,
    DOWN: tl.constexpr,
    BEFORE: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program makes a part of one row of a result; all it reads again lies in the cache."""
    row = tl.program_id(0)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = place // features
    feature = place % features
    y = row % rows
    x += (row // rows).to(tl.int64) * height * width * features
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for i in tl.static_range(len(TAPS)):
        high_y = y * DOWN + i - BEFORE
        low_y = high_y // UP
        is_y = (high_y >= 0) & (high_y % UP == 0) & (low_y < height)
        for j in tl.static_range(len(TAPS)):
            high_x = column * DOWN + j - BEFORE
            low_x = high_x // UP
            is_x = (high_x >= 0) & (high_x % UP == 0) & (low_x < width) & (column < columns)
            value = tl.load(x + (low_y * width + low_x) * features + feature, mask=is_y & is_x, other=0.0)
            total += (TAPS[i] * TAPS[j]) * value.to(tl.float32)
    result += row.to(tl.int64) * columns * features
    tl.store(result + place, total.to(result.dtype.element_ty), mask=column < columns)


def resample(x: Tensor, taps: tuple[float, ...], up: int, down: int, before: int, size: tuple[int, int]) -> Tensor:
    """A :class:`synthkit_generative.resampling.Resampling` in one pass."""
    x, last = dense(x)
    n, features, height, width = x.shape
    rows, columns = size
    layout = torch.channels_last if last else torch.contiguous_format
    result = torch.empty((n, features, rows, columns), dtype=x.dtype, device=x.device, memory_format=layout)
    images, side_by_side = (n, features) if last else (n * features, 1)
    block = min(BLOCK, triton.next_power_of_2(columns * side_by_side))
    grid = (images * rows, triton.cdiv(columns * side_by_side, block))
    with torch.cuda.device_of(x):
        _resample[grid](
            x,
            result,
            height,
            width,
            side_by_side,
            rows,
            columns,
            UP=up,
            DOWN=down,
            BEFORE=before,
            TAPS=taps,
            BLOCK=block,
        )
    return result


@triton.jit
def _activate(
    x, scale, noise, bias, result, pixels, features, SLOPE: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr
):
    """A program makes a part of one image. ``scale``, ``noise`` and ``bias`` may be None."""
    n = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    size = pixels * features
    inside = place < size
    if LAST:
        pixel, feature = place // features, place % features
    else:
        pixel, feature = place % pixels, place // pixels
    start = n.to(tl.int64) * size
    value = tl.load(x + start + place, mask=inside).to(tl.float32)
    if scale is not None:
        value *= tl.load(scale + n * features + feature, mask=inside).to(tl.float32)
    if noise is not None:
        value += tl.load(noise + n * pixels + pixel, mask=inside).to(tl.float32)
    if bias is not None:
        value += tl.load(bias + feature, mask=inside).to(tl.float32)
    value = tl.where(value > 0, value, value * SLOPE)
    tl.store(result + start + place, value.to(result.dtype.element_ty), mask=inside)


def activate(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor | None, slope: float) -> Tensor:
    """Leaky ReLU of ``x * scale + noise + bias`` in one pass: ``(n, features)``, ``(n, 1, y, x)``, ``(features,)``."""
    x, last = dense(x)
    result = torch.empty_like(x)
    n, features, height, width = x.shape
    grid = (triton.cdiv(features * height * width, BLOCK), n)
    shapes = ((n, features), (n, 1, height, width), (features,))
    beside = [
        None if given is None else given.expand(shape).contiguous()
        for given, shape in zip((scale, noise, bias), shapes, strict=True)
    ]
    with torch.cuda.device_of(x):
        _activate[grid](x, *beside, result, height * width, features, SLOPE=slope, LAST=last, BLOCK=BLOCK)
    return result


@triton.jit
def _slopes(gradient, activated, result, size, SLOPE: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    value = tl.load(gradient + place, mask=inside).to(tl.float32)
    above = tl.load(activated + place, mask=inside).to(tl.float32) > 0
    tl.store(result + place, tl.where(above, value, value * SLOPE).to(result.dtype.element_ty), mask=inside)


def slopes(gradient: Tensor, activated: Tensor, slope: float) -> Tensor:
    """``gradient`` times the slope of the leaky ReLU whose result is ``activated``."""
    layout = torch.channels_last if dense(activated)[1] else torch.contiguous_format
    gradient = gradient.to(activated.dtype).contiguous(memory_format=layout)
    result = torch.empty_like(activated)
    size = math.prod(activated.shape)
    with torch.cuda.device_of(activated):
        _slopes[(triton.cdiv(size, BLOCK),)](gradient, activated, result, size, SLOPE=slope, BLOCK=BLOCK)
    return result
