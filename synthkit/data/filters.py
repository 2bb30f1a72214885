"""Filters of small volumes, a few ten voxels along each side, in NumPy alone.

``scipy.ndimage`` has them all and takes longer to import than a subject takes to prepare. Values agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    BoolArray = NDArray[np.bool_]


def summed(volume: FloatArray, weights: Sequence[float], edge: Any = "constant") -> FloatArray:
    """Weighted sums of neighbours along each of three axes in turn; an odd number of symmetric ``weights``.

    ``edge`` is NumPy's mode of padding: zeros ("constant"), the outermost voxel ("edge") or a mirror ("symmetric").
    """
    reach = len(weights) // 2
    wide = np.pad(volume, reach, mode=edge)
    for axis, length in enumerate(volume.shape):
        parts = [wide[(slice(None),) * axis + (slice(k, k + length),)] for k in range(len(weights))]
        wide = parts[0] * np.float32(weights[0])
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            wide += part * np.float32(weight)
    return wide


def box_mean(volume: FloatArray, side: int, edge: Any = "constant") -> FloatArray:
    """Mean of the cube of an odd ``side`` from 3 around each voxel; see :func:`summed` for ``edge``."""
    wide = np.pad(volume, side // 2, mode=edge)
    for axis, length in enumerate(volume.shape):
        first, second, *others = (wide[(slice(None),) * axis + (slice(k, k + length),)] for k in range(side))
        wide = first + second
        for part in others:
            wide += part
    wide *= np.float32(1 / side**3)
    return wide


def blurred(volume: FloatArray, deviation: float, reach: int) -> FloatArray:
    """Gaussian of a standard deviation in voxels, cut off after ``reach`` voxels; mirrored at the edge."""
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return summed(volume, (bell / bell.sum()).tolist(), "symmetric")


def eroded(mask: BoolArray, times: int) -> BoolArray:
    """The mask without voxels that have a face in common with what is outside of it, or with the edge."""
    for _ in range(times):
        wide = np.pad(mask, 1)
        kept = mask.copy()
        for axis in range(3):
            for side in (slice(0, -2), slice(2, None)):
                kept &= wide[tuple(side if k == axis else slice(1, -1) for k in range(3))]
        mask = kept
    return mask


def with_holes_filled(mask: BoolArray) -> BoolArray:
    """The mask and what it encloses: what no path over faces of voxels leads to from outside."""
    wide = tuple(n + 2 for n in mask.shape)
    inner = (slice(1, -1),) * 3
    border = np.ones(wide, dtype=bool)
    border[inner] = False
    voxels = border.copy()
    voxels[inner] = ~mask
    # A volume is one number of a bit a voxel, and a step along an axis is a shift. What a shift carries over the end of
    # a row comes from the border and goes to the border, which is outside anyway.
    free, outside, reached = _as_bits(voxels), _as_bits(border), 0
    while outside != reached:
        reached = outside
        for step in (1, wide[2], wide[1] * wide[2]):
            outside |= (outside << step | outside >> step) & free
    found = np.frombuffer(outside.to_bytes(-(-border.size // 8), "little"), dtype=np.uint8)
    filled: BoolArray = np.unpackbits(found, count=border.size, bitorder="little").reshape(wide)[inner] == 0
    return filled


def _as_bits(mask: BoolArray) -> int:
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")


class Nearby:
    """The eight voxels around each of some points of a volume, for values between voxels (trilinear).

    Parameters
    ----------
    there : (3, point), in voxels.
    shape : of the volume. Points beyond its outermost voxels have the value 0.
    """

    def __init__(self, there: NDArray[np.float64], shape: Sequence[int]) -> None:
        last = np.array(shape)[:, None] - 1
        first = np.clip(np.floor(there).astype(np.intp), 0, last - 1)
        part = (there - first).astype(np.float32)
        inside = np.all((there >= 0) & (there <= last), axis=0)
        self._voxels, self._shares = [], []
        for corner in product((0, 1), repeat=3):
            share = inside.astype(np.float32)
            for axis, end in enumerate(corner):
                share *= part[axis] if end else 1 - part[axis]
            self._shares.append(share)
            self._voxels.append(np.ravel_multi_index(tuple(first + np.array(corner)[:, None]), tuple(shape)))

    def seen(self, volumes: FloatArray) -> FloatArray:
        """Values of several volumes at the points, (volume, point); ``volumes``: (voxel in C order, volume)."""
        found = np.zeros((len(self._shares[0]), volumes.shape[1]), dtype=np.float32)
        for voxels, share in zip(self._voxels, self._shares, strict=True):
            found += volumes.take(voxels, axis=0) * share[:, None]
        return np.ascontiguousarray(found.T)
