"""Smooth random fields in space, on knots that do not depend on the voxels: the same field at every voxel size.

Arrays are ``(z, y, x)``, lengths mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

FloatArray = NDArray[np.float32]
#: Positions of the voxels along each axis.
Axes = tuple[FloatArray, FloatArray, FloatArray]

#: Half the side of the box that holds every head, and of the box that knots cover, (z, y, x).
HALF_MM = np.array([80.0, 102.0, 82.0])


def _basis(positions_mm: FloatArray, knot_mm: float, start_mm: float, count: int) -> Any:
    """Cubic B-spline weights ``(positions, count)`` as a sparse matrix with four entries a row."""
    u = (positions_mm - start_mm) / knot_mm
    first = np.clip(np.floor(u).astype(np.int64), 1, count - 3)
    t = (u - first).astype(np.float32)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    columns = first[:, None] + np.arange(-1, 3)
    rows = np.repeat(np.arange(len(u)), 4)
    return sparse.csr_array((weights.ravel(), (rows, columns.ravel())), shape=(len(u), count), dtype=np.float32)


def spline(control: FloatArray, axes: Axes, knot_mm: float, start_mm: Sequence[float]) -> FloatArray:
    """Tensor-product cubic B-spline with these control points at every voxel of ``axes``, ``(z, y, x)``.

    Sparse products rather than BLAS: four terms a voxel, and sums that do not depend on the number of threads.
    """
    values = control
    for axis in (2, 1, 0):  # the longest product last: then no large array is ever transposed
        moved = np.ascontiguousarray(np.moveaxis(values, axis, 0))
        matrix = _basis(axes[axis], knot_mm, start_mm[axis], moved.shape[0])
        product = (matrix @ moved.reshape(moved.shape[0], -1)).reshape(-1, *moved.shape[1:])
        values = np.moveaxis(product, 0, axis)
    return values


def noise(rng: np.random.Generator, axes: Axes, knot_mm: float) -> FloatArray:
    """A smooth Gaussian random field of about unit variance with details of ``knot_mm``."""
    counts = np.ceil(2 * HALF_MM / knot_mm).astype(int) + 7
    start = -(counts - 1) / 2 * knot_mm
    control = rng.standard_normal(counts, dtype=np.float32)
    # The squares of the four weights add up to 151/315 on average along each axis.
    return spline(control * np.float32((315 / 151) ** 1.5), axes, knot_mm, start.tolist())
