"""Slices of smaller sizes: blocks of a whole number of pixels become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array


def reduce_image(image: UInt8Array, factor: int) -> UInt8Array:
    """Mean of each ``factor`` x ``factor`` block of (y, x), rounded half up."""
    height, width = image.shape
    rows = image.reshape(height // factor, factor, width).sum(axis=1, dtype=np.uint16)
    total = rows.reshape(height // factor, width // factor, factor).sum(axis=2, dtype=np.uint16)
    n = factor * factor
    reduced: UInt8Array = ((total + n // 2) // n).astype(np.uint8)
    return reduced


def reduce_labels(labels: UInt8Array, factor: int) -> UInt8Array:
    """Most frequent value of each ``factor`` x ``factor`` block of (y, x); the largest of equally frequent ones."""
    values = np.flatnonzero(np.bincount(labels.ravel()))[::-1].astype(np.uint8)
    if len(values) == 1:
        return np.full_like(labels[::factor, ::factor], values[0])
    height, width = (n // factor for n in labels.shape)
    blocks = labels.reshape(height, factor, width, factor)
    counts = np.stack([np.count_nonzero(blocks == value, axis=(1, 3)) for value in values])
    reduced: UInt8Array = values[counts.argmax(axis=0)]
    return reduced
