"""StyleGAN3's filtered non-linearity as one kernel in Triton: imported on a GPU alone.

Its reference is :class:`synthkit_stylegan3.filters.FilteredActivation`. What lies at the higher rate, four to sixteen
times as many values as come in, is never written to memory: a program makes a tile of the result from the part of the
input that it reaches, by products of matrices. For gradients the upsampled input is computed again instead of kept.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


class Way(NamedTuple):
    """From one side of the non-linearity to the other: ``sum of A (s * sum of B v B^T) A^T``.

    ``s`` are the slopes, by the sign of ``U x U^T``. Forward ``v`` is ``x`` and ``B`` is ``U``; backward ``v`` is a
    gradient and both are transposed.

    Attributes
    ----------
    spread, rise, gather : B ``(m, high, v)``, U ``(high, x)``, A ``(m, side, high)``; any strides.
    signs : ``(m,)``, that the products of several B or A come with.
    starts : int32 ``(3, tiles)``, where the windows of a tile begin at the higher rate, in ``v`` and in ``x``.
    sizes : of these windows, powers of two from 16 on.
    """

    spread: Tensor
    rise: Tensor
    gather: Tensor
    signs: Tensor
    starts: Tensor
    sizes: tuple[int, int, int]


@triton.jit
def _filtered(
    v,
    x,
    result,
    spread,
    rise,
    gather,
    signs,
    starts,
    side_v,
    side_x,
    side_high,
    side,
    features,
    tiles,
    spread_each,
    spread_high,
    spread_low,
    rise_high,
    rise_low,
    gather_each,
    gather_low,
    gather_high,
    SPREADS: tl.constexpr,
    GATHERS: tl.constexpr,
    SAME: tl.constexpr,
    TILE: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE_V: tl.constexpr,
    WIDE_X: tl.constexpr,
    SLOPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    place = tl.program_id(0)
    feature = place % features
    tile_x = (place // features) % tiles
    tile_y = (place // features // tiles) % tiles
    n = (place // features // tiles // tiles).to(tl.int64)
    kind = x.dtype.element_ty

    high_y = tl.load(starts + tile_y) + tl.arange(0, HIGH)
    high_x = tl.load(starts + tile_x) + tl.arange(0, HIGH)
    low_y = tl.load(starts + 2 * tiles + tile_y) + tl.arange(0, WIDE_X)
    low_x = tl.load(starts + 2 * tiles + tile_x) + tl.arange(0, WIDE_X)
    inside = (low_y < side_x)[:, None] & (low_x < side_x)[None, :]
    offset = (low_y[:, None] * side_x + low_x[None, :]) * features + feature
    image = tl.load(x + n * side_x * side_x * features + offset, mask=inside, other=0.0)
    inside = (high_y < side_high)[:, None] & (low_y < side_x)[None, :]
    left = tl.load(rise + high_y[:, None] * rise_high + low_y[None, :] * rise_low, mask=inside, other=0.0)
    inside = (low_x < side_x)[:, None] & (high_x < side_high)[None, :]
    right = tl.load(rise + high_x[None, :] * rise_high + low_x[:, None] * rise_low, mask=inside, other=0.0)
    part = tl.dot(left, image, input_precision=PRECISION).to(kind)
    high = tl.dot(part, right, input_precision=PRECISION)

    if SAME:
        carried = high
    else:
        low_y = tl.load(starts + tiles + tile_y) + tl.arange(0, WIDE_V)
        low_x = tl.load(starts + tiles + tile_x) + tl.arange(0, WIDE_V)
        inside = (low_y < side_v)[:, None] & (low_x < side_v)[None, :]
        offset = (low_y[:, None] * side_v + low_x[None, :]) * features + feature
        image = tl.load(v + n * side_v * side_v * features + offset, mask=inside, other=0.0)
        inside_y = (high_y < side_high)[:, None] & (low_y < side_v)[None, :]
        inside_x = (low_x < side_v)[:, None] & (high_x < side_high)[None, :]
        carried = tl.full((HIGH, HIGH), 0.0, tl.float32)
        for each in tl.static_range(SPREADS):
            matrix = spread + each * spread_each
            left = tl.load(matrix + high_y[:, None] * spread_high + low_y[None, :] * spread_low, inside_y, other=0.0)
            right = tl.load(matrix + high_x[None, :] * spread_high + low_x[:, None] * spread_low, inside_x, other=0.0)
            part = tl.dot(left, image, input_precision=PRECISION).to(kind)
            carried += tl.load(signs + each) * tl.dot(part, right, input_precision=PRECISION)
    carried = tl.where(high > 0, carried, carried * SLOPE).to(kind)

    y = tile_y * TILE + tl.arange(0, TILE)
    x_ = tile_x * TILE + tl.arange(0, TILE)
    inside_y = (y < side)[:, None] & (high_y < side_high)[None, :]
    inside_x = (high_x < side_high)[:, None] & (x_ < side)[None, :]
    total = tl.full((TILE, TILE), 0.0, tl.float32)
    for each in tl.static_range(GATHERS):
        matrix = gather + each * gather_each
        left = tl.load(matrix + y[:, None] * gather_low + high_y[None, :] * gather_high, inside_y, other=0.0)
        right = tl.load(matrix + x_[None, :] * gather_low + high_x[:, None] * gather_high, inside_x, other=0.0)
        part = tl.dot(left, carried, input_precision=PRECISION).to(kind)
        total += tl.load(signs + each) * tl.dot(part, right, input_precision=PRECISION)
    offset = (y[:, None] * side + x_[None, :]) * features + feature
    inside = (y < side)[:, None] & (x_ < side)[None, :]
    tl.store(result + n * side * side * features + offset, total.to(kind), mask=inside)


def filtered(v: Tensor, x: Tensor, way: Way, tile: int, slope: float) -> Tensor:
    """What ``v (n, features, v, v)`` becomes by the slopes that ``x (n, features, x, x)`` decides, in tiles."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    same = way.spread.data_ptr() == way.rise.data_ptr() and v.data_ptr() == x.data_ptr()  # one pass up serves both
    x = x.contiguous(memory_format=layout)
    v = x if same else v.to(x.dtype).contiguous(memory_format=layout)
    n, features = x.shape[:2]
    side, side_high = way.gather.shape[1:]
    result = torch.empty((n, features, side, side), dtype=x.dtype, device=x.device, memory_format=layout)
    images, side_by_side = (n, features) if last else (n * features, 1)
    spread, rise, gather = (matrix.to(x.dtype) for matrix in (way.spread, way.rise, way.gather))
    tiles = way.starts.shape[1]
    high, wide_v, wide_x = way.sizes
    with torch.cuda.device_of(x):
        _filtered[(images * tiles * tiles * side_by_side,)](
            v,
            x,
            result,
            spread,
            rise,
            gather,
            way.signs,
            way.starts,
            v.shape[2],
            x.shape[2],
            side_high,
            side,
            side_by_side,
            tiles,
            *spread.stride(),
            *rise.stride(),
            *gather.stride(),
            SPREADS=len(spread),
            GATHERS=len(gather),
            SAME=same,
            TILE=tile,
            HIGH=high,
            WIDE_V=wide_v,
            WIDE_X=wide_x,
            SLOPE=slope,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            num_warps=8 if high > 64 else 4,
        )
    return result
