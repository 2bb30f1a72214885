"""Slices of smaller sizes: blocks of a whole number of pixels become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


def reduce_image(image: UInt8Array, factor: int) -> UInt8Array:
    """Mean of each ``factor`` x ``factor`` block of (y, x), rounded half up."""
    n = factor * factor
    reduced: UInt8Array = ((_sums(image, factor) + np.uint16(n // 2)) // np.uint16(n)).astype(np.uint8)
    return reduced


def reduce_labels(labels: UInt8Array, factor: int) -> UInt8Array:
    """Most frequent value of each ``factor`` x ``factor`` block of (y, x); the largest of equally frequent ones."""
    values = np.flatnonzero(np.bincount(labels.ravel()))[::-1].astype(np.uint8)
    if len(values) < 2:
        return labels[::factor, ::factor].copy()
    counts = np.stack([_sums((labels == value).view(np.uint8), factor) for value in values])
    reduced: UInt8Array = values[counts.argmax(axis=0)]
    return reduced


def _sums(image: UInt8Array, factor: int) -> NDArray[np.uint16]:
    """Sum of each block, at most 16 x 16 pixels; a few additions of whole images, not many sums of a few numbers."""
    rows = image[::factor].astype(np.uint16)
    for k in range(1, factor):
        rows += image[k::factor]
    total = rows[:, ::factor].copy()
    for k in range(1, factor):
        total += rows[:, k::factor]
    return total
