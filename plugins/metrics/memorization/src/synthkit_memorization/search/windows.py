"""Parts of images at one resolution, whatever the size of the images: what label maps and tumours are seen through.

Images are reduced to at most SIDE pixels a side by means over cells of whole pixels. So what was measured on images of
64 pixels (least sizes, cuts) means the same on larger ones. A window is a square of half the longer side, its middle at
the corner of pixels nearest to the centroid of what it shows; the part of it that lies outside the image is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit_memorization.search.pixels import Float64

#: Pixels of the longer side of a reduced image, at most; a window has half of them.
SIDE = 64

Mask = NDArray[np.bool_]


def cell_of(size: tuple[int, int]) -> int:
    """Pixels of a side of the cells that images of this size are reduced by."""
    return -(-max(size) // SIDE)


def in_pixels(area: int, size: tuple[int, int]) -> int:
    """An area in pixels of a reduced image, in pixels of images of this size."""
    return area * cell_of(size) ** 2


def reduced_size(size: tuple[int, int]) -> tuple[int, int]:
    """Size of an image when it is reduced; cells at the end may reach beyond it."""
    cell = cell_of(size)
    return -(-size[0] // cell), -(-size[1] // cell)


def window_side(size: tuple[int, int]) -> int:
    """Side of a reduced window, an even number of pixels."""
    return 2 * -(-max(size) // (4 * cell_of(size)))


def means(values: NDArray[Any], cell: int) -> Float64:
    """Means over cells of ``(..., y, x)``; sides that are no multiple of ``cell`` are filled up with 0."""
    *rest, height, width = values.shape
    rows, columns = -(-height // cell), -(-width // cell)
    filled = np.pad(values, [(0, 0)] * len(rest) + [(0, rows * cell - height), (0, columns * cell - width)])
    cells: Float64 = filled.reshape(*rest, rows, cell, columns, cell).mean(axis=(-3, -1), dtype=np.float64)
    return cells


def window(values: NDArray[Any], region: Mask) -> NDArray[Any]:
    """The part of ``(..., y, x)`` in the window around a region ``(y, x)`` that is not empty, not reduced."""
    half = window_side(region.shape) * cell_of(region.shape) // 2
    result = np.zeros((*values.shape[:-2], 2 * half, 2 * half), values.dtype)
    into, of = [], []
    for middle, length in zip(_middle(region), region.shape, strict=True):
        first, last = max(0, middle - half), min(length, middle + half)
        of.append(slice(first, last))
        into.append(slice(first - middle + half, last - middle + half))
    result[..., into[0], into[1]] = values[..., of[0], of[1]]
    return result


def _middle(region: Mask) -> list[int]:
    """The corner of pixels, in pixels from the first, nearest to the centroid: the same whichever way it is turned."""
    return [int(np.floor(np.flatnonzero(n) @ n[n > 0] / n.sum() + 1)) for n in (region.sum(axis=1), region.sum(axis=0))]


def parts(labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Connected parts of what is labelled, numbered from 1, 0 elsewhere; int32 ``(y, x)``.

    Pixels are connected across corners, and across gaps of less than a cell, which would close when reduced.
    """
    reach = 2 * (cell_of(labels.shape) // 2) + 1
    joined, _ = ndimage.label(ndimage.maximum_filter(labels > 0, reach), np.ones((3, 3)))
    numbers: NDArray[np.int32] = np.where(labels > 0, joined, 0).astype(np.int32)
    return numbers


def largest_part(labels: NDArray[np.uint8]) -> int:
    """Pixels of the largest of the :func:`parts`; 0 where nothing is labelled."""
    return int(np.bincount(parts(labels).ravel())[1:].max(initial=0))
