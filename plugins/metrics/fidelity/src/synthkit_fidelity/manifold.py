"""Precision, recall, density and coverage by k nearest neighbours (Kynkaanniemi et al. 2019; Naeem et al. 2020).

The neighbourhood of an image reaches to its k-th nearest other image of its own set. With real images x, synthetic
images y, their neighbourhoods B and all distances Euclidean between features:

    precision  share of y in some B(x)              recall    share of x in some B(y)
    density    mean over y of |{x: y in B(x)}| / k    coverage  share of B(x) with some y

Exact, in float64: blocks of a matrix product, a partial sort for the radii, and counts; nothing of size n m is kept.
An image as far away as the radius is not within it, by definition and however rounding falls.

For floors each synthetic image is left out in turn, with the radii as they are: counts know which real image is reached
by a single one only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_fidelity.sets import FeatureSet, Float64, Indices

#: Distances that are held at a time: between two sets, and on a side of a tile of those within one.
BLOCK_ELEMENTS, TILE = 8 * 2**20, 1024

NAMES = ("precision", "recall", "density", "coverage")


def prdc(real: FeatureSet, synthetic: FeatureSet, k: int = 5) -> dict[str, float]:
    """The four scores by name. Each set has more than ``k`` images."""
    return {name: left.value for name, left in Neighbourhoods.of(real, k).compare(synthetic.values).items()}


@dataclass(frozen=True)
class LeftOut:
    """A score, and the same without each synthetic image."""

    value: float
    images: Float64


@dataclass(frozen=True)
class Neighbourhoods:
    """Real images, and how far their neighbourhoods reach: found once, used often."""

    x: Float64
    radii: Float64
    centre: Float64
    k: int

    @classmethod
    def of(cls, real: FeatureSet, k: int) -> Neighbourhoods:
        # Distances do not see the centre; taking it off saves digits of |x|^2 + |y|^2 - 2 x.y.
        centre = real.values.mean(axis=0, dtype=np.float64)
        x = real.values - centre
        return cls(x, squared_radii(x, k), centre, k)

    def compare(self, images: NDArray[np.float32]) -> dict[str, LeftOut]:
        """The four scores of synthetic ``images (m, d)``, more than ``k`` of them."""
        y = images - self.centre
        # As far as the radius is not within it, however the distance is rounded.
        rounding = _rounding(self.x, y)
        radii_x, radii_y = self.radii - rounding, squared_radii(y, self.k) - rounding
        return _shares(_count(self.x, y, radii_x, radii_y), self.k)


def squared_radii(x: Float64, k: int) -> Float64:
    """Squared distance of each of ``x (n, d)`` to its k-th nearest other, n > k; -inf where that is the same image.

    A neighbourhood without a radius holds nothing. Rounding of distances is not a radius.
    """
    left, right = _factors(x, x)
    nearest = np.full((len(x), k), np.inf)
    for first in range(0, len(x), TILE):
        rows = slice(first, first + TILE)
        for second in range(first, len(x), TILE):  # the distance there is the distance back: half of them are computed
            columns = slice(second, second + TILE)
            distances = left[rows] @ right[columns].T
            if first == second:
                np.fill_diagonal(distances, np.inf)
            else:
                nearest[columns] = _smallest(nearest[columns], np.ascontiguousarray(distances.T))
            nearest[rows] = _smallest(nearest[rows], distances)
    radii = nearest.max(axis=1)
    return np.where(radii > _rounding(x), radii, -np.inf)


def _smallest(nearest: Float64, distances: Float64) -> Float64:
    """The k smallest of each row of ``nearest (n, k)`` and of more distances."""
    k = nearest.shape[1]
    if distances.shape[1] > k:
        distances = np.partition(distances, k - 1, axis=1)[:, :k]
    return np.partition(np.hstack([nearest, distances]), k - 1, axis=1)[:, :k]


def _rounding(*sets: Float64) -> float:
    """What squared distances between images of these sets err by, at most."""
    return 64 * float(np.finfo(float).eps) * max(float(np.max(np.sum(x**2, axis=1))) for x in sets)


@dataclass(frozen=True)
class _Counts:
    """What the scores need, also those without an image.

    ``in_real`` is of synthetic images: neighbourhoods of real images that hold it. The others are of real images:
    ``holds``, synthetic images in its neighbourhood, ``inside``, synthetic neighbourhoods that hold it; ``only_held``
    and ``only_holder``, the one synthetic image in question, or -1.
    """

    in_real: Indices
    holds: Indices
    inside: Indices
    only_held: Indices
    only_holder: Indices


def _count(x: Float64, y: Float64, radii_x: Float64, radii_y: Float64) -> _Counts:
    n, m = len(x), len(y)
    left, right = _factors(x, y)
    in_real, holds, inside = (np.zeros(size, np.int64) for size in (m, n, n))
    only_held, only_holder = np.full(n, -1), np.full(n, -1)
    for block in _blocks(n, m):
        distances = left[block] @ right.T
        row, image = _hits(distances < radii_x[block][:, None])
        row += block.start
        in_real += np.bincount(image, minlength=m)
        holds += np.bincount(row, minlength=n)
        only_held[row] = image
        row, image = _hits(distances < radii_y)
        row += block.start
        inside += np.bincount(row, minlength=n)
        only_holder[row] = image
    only_held[holds != 1] = -1
    only_holder[inside != 1] = -1
    return _Counts(in_real, holds, inside, only_held, only_holder)


def _hits(hit: NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Row and column of every hit; of all pairs, few are."""
    row, column = np.divmod(np.flatnonzero(hit), hit.shape[1])
    return row, column


def _shares(c: _Counts, k: int) -> dict[str, LeftOut]:
    n, m = len(c.holds), len(c.in_real)

    def without_image(values: NDArray[np.generic]) -> Float64:
        left: Float64 = (values.sum() - values) / max(m - 1, 1)
        return left

    def lost(only: Indices) -> Float64:
        return np.bincount(only[only >= 0], minlength=m) / n

    precise, recalled, covered = c.in_real > 0, c.inside > 0, c.holds > 0
    precision, recall, coverage = (float(hits.mean()) for hits in (precise, recalled, covered))
    return {
        "precision": LeftOut(precision, without_image(precise)),
        "recall": LeftOut(recall, recall - lost(c.only_holder)),
        "density": LeftOut(float(c.in_real.sum() / (k * m)), without_image(c.in_real) / k),
        "coverage": LeftOut(coverage, coverage - lost(c.only_held)),
    }


def _factors(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Two matrices with ``|x_i - y_j|^2`` as the inner product of rows i and j: [-2 x, |x|^2, 1] and [y, 1, |y|^2]."""
    ones_x, ones_y = np.ones((len(x), 1)), np.ones((len(y), 1))
    squares_x, squares_y = (np.sum(z**2, axis=1, keepdims=True) for z in (x, y))
    return np.hstack([-2 * x, squares_x, ones_x]), np.hstack([y, ones_y, squares_y])


def _blocks(n: int, m: int) -> list[slice]:
    """Rows of a matrix ``(n, m)`` in blocks of limited size."""
    rows = max(1, min(2048, BLOCK_ELEMENTS // max(m, 1)))
    return [slice(first, min(first + rows, n)) for first in range(0, n, rows)]
