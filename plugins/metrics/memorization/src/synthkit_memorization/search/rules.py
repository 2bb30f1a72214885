"""The rules by which two images are compared, each an exact Pearson r of something done to the images.

A rule transforms the query (``transformations.py``), measures it against a training image, and keeps the largest r over
its transformations:

- ``pearson``: all pixels, in place.
- ``flip``: the same for the query mirrored left to right (its last axis reversed).
- ``shift``: the same for the query moved by each (dy, dx) of {-s, 0, s}^2 but (0, 0). Pixels moved out are lost and
  zeros come in.
- ``inverted``: the same for the query's negative, 255 - x, whose r is that of the query with the other sign.
- ``turned``: the same for the query in its 8 orientations (mirrored, turned by quarters; 4 if it is not square), each
  turned about the centre by -14, -7, 0, 7 and 14 degrees.
- ``brain``: in place, but inside the brain alone, so that agreement of heads in size and background counts nothing.
- ``brain-inverted``: the same for the query's negative inside its brain, which stays the same (no value falls to the
  background).
- ``turned-inside``: the same for the query in its 8 (4) orientations, each moved by -1, 0 and 1 pixel along both axes.

**Pearson** (pearson, flip, shift, inverted, turned). Over all their D pixels, a view of several contrasts as one long
image,

    r = (D <x, y> - S_x S_y) / sqrt(v_x v_y),    v_x = D <x, x> - S_x^2,                                      (1)

and for 8-bit pixels everything but the last division is an integer.

**Brain** (brain, brain-inverted, turned-inside). A pixel is brain where any contrast of the image (also one that the
view leaves out) exceeds the background; m_x is 1 there and 0 elsewhere. Outside it each contrast is filled with the
mean of its own brain, mu_x, and that mean is taken from it, so in a view of several contrasts each is centred in itself
and levels of contrasts count nothing:

    r = <T(x), T(y)>,   T(x) = z_x / |z_x|,   z_x = m_x (x - mu_x) for each contrast, one after the other          (2)

With integers a, b next to mu_x, mu_y, and what is left, d_x = mu_x - a and d_y = mu_y - b (at most 1/2 in size),

    <z_x, z_y> = P - d_x A - d_y B + d_x d_y C,   P = sum m_x m_y (x - a)(y - b),  A = sum m_x m_y (y - b),
                                                  B = sum m_x m_y (x - a),         C = sum m_x m_y                  (3)

where all sums are integers from exact inner products; only (3) and the division are in float64, free of cancellation.

So r does not depend on block sizes, threads, devices or the order of summation, is exactly 1 for identical images, and
errs by a few 1e-16. An image without variance (or without a brain) has no r. Here it is 0, with every image, identical
ones included: a blank image carries nothing of anybody, so it is never a match worth reporting (and equals what a
correlation with added infinitesimal noise gives on average).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.pixels import MASK, SHIFT, Block, Float64, Int64, Plane

Measure = Literal["pearson", "brain"]

#: How each rule compares the transformed query: rules of one measure share everything that training images need.
MEASURES: dict[str, Measure] = {
    "pearson": "pearson",
    "brain": "brain",
    "flip": "pearson",
    "shift": "pearson",
    "inverted": "pearson",
    "brain-inverted": "brain",
    "turned": "pearson",
    "turned-inside": "brain",
}
RULES = tuple(MEASURES)

#: Rules that leave the query as it is.
IN_PLACE = ("pearson", "brain")

#: Queries that a rule makes of one (of a square one).
N_TRANSFORMATIONS = {
    "pearson": 1,
    "brain": 1,
    "flip": 1,
    "shift": 8,
    "inverted": 1,
    "brain-inverted": 1,
    "turned": 40,
    "turned-inside": 72,
}

#: Inner products of planes that a pair of images and a contrast take.
N_PRODUCTS: dict[Measure, int] = {"pearson": 1, "brain": 4}

#: More than r by one multiplication with each :func:`inverse_norm` may differ from r.
ROUNDING = 1e-12

#: A view by a measure: what the rules that differ only in what they do to the query share.
Key = tuple[str, Measure]


@dataclass(frozen=True)
class Moments:
    """What the rules need of each image besides inner products; ``(n,)`` or ``(contrast of the view, n)``.

    Attributes
    ----------
    variance : float64 ``(n,)``, v of (1), or the squared norm of z of (2).
    sums : int64 ``(n,)``, S of (1); zeros for the brain.
    offsets : int64 ``(n,)``, what <x', y'> over the box lacks of <x, y> on behalf of a query; zeros for the brain.
    nearest : int64 ``(contrast, n)``, a - 128 of (3). rest : float64 ``(contrast, n)``, d of (3). Zeros for Pearson.
    """

    variance: Float64
    sums: Int64
    offsets: Int64
    nearest: Int64
    rest: Float64

    def mapped(self, function: Callable[[Any], Any]) -> Moments:
        """The same of every array: a selection, another axis, another device."""
        arrays = (self.variance, self.sums, self.offsets, self.nearest, self.rest)
        return Moments(*(function(array) for array in arrays))


def covariance(n_pixels: Any, dots: Any, x_offset: Any, x_sum: Any, y_sum: Any) -> Any:
    """Numerator of (1) from <x', y'> over the box: integers of any kind (numba compiles this too)."""
    return n_pixels * (dots + x_offset + SHIFT * y_sum) - x_sum * y_sum


def brain_covariance(dots: Any, x_in_both: Any, y_in_both: Any, both: Any, a: Any, b: Any, d_x: Any, d_y: Any) -> Any:
    """(3) of one contrast, from sums of x'y', x', y' and 1 over the pixels in both brains."""
    p = dots - b * x_in_both - a * y_in_both + a * b * both
    return p - d_x * (y_in_both - b * both) - d_y * (x_in_both - a * both) + d_x * d_y * both


@dataclass(frozen=True)
class View:
    """Contrasts (positions) compared together by one measure; ``image_pixels`` of one whole contrast, D."""

    measure: Measure
    contrasts: tuple[int, ...]
    image_pixels: int

    @property
    def n_pixels(self) -> int:
        return self.image_pixels * len(self.contrasts)

    def moments(self, block: Block) -> Moments:
        rows, none = list(self.contrasts), np.zeros(len(block), np.int64)
        if self.measure == "pearson":
            sums, squares = block.sums[rows].sum(axis=0), block.squares[rows].sum(axis=0)
            # <x, y> = <x', y'> + 128 (sum of x over the box + sum of y) - 128^2 P, for y is 0 outside the box.
            offsets = SHIFT * block.box_sums[rows].sum(axis=0) - SHIFT**2 * block.box.n_pixels * len(rows)
            variance = self.n_pixels * squares - sums * sums
            empty = np.zeros((len(rows), len(block)), np.int64)
            return Moments(variance.astype(np.float64), sums, offsets, empty, empty.astype(np.float64))
        assert block.brain is not None
        counts, sums, squares = block.brain.counts, block.brain.sums[rows], block.brain.squares[rows]
        some = np.maximum(counts, 1)
        a = (2 * sums + some) // (2 * some)
        rest = (sums - a * some) / some
        variance = np.zeros(len(block))
        for c in range(len(rows)):
            variance += brain_covariance(squares[c], sums[c], sums[c], counts, a[c], a[c], rest[c], rest[c])
        return Moments(variance, none, none, a, rest)

    def numerator(
        self, product: Callable[[Plane, Plane], Any], x: Moments, y: Moments, in_brains: dict[int, Any]
    ) -> Any:
        """Numerator of r of all pairs, ``(query, training image)``, exact or in float64; NumPy's or PyTorch's.

        ``product(p, q)`` gives the exact inner products of plane p of the queries with plane q of the training images,
        int64; x and y come with a new last and first axis. ``in_brains`` keeps (3) of each contrast, of the same pairs,
        from view to view.
        """
        if self.measure == "pearson":
            dots = sum(product(("pixels", c), ("pixels", c)) for c in self.contrasts)
            return covariance(self.n_pixels, dots, x.offsets, x.sums, y.sums)
        for i, c in enumerate(self.contrasts):
            if c not in in_brains:
                in_brains[c] = brain_covariance(
                    product(("brain", c), ("brain", c)),
                    -product(("brain", c), MASK),
                    -product(MASK, ("brain", c)),
                    product(MASK, MASK),
                    *(x.nearest[i], y.nearest[i], x.rest[i], y.rest[i]),
                )
        return sum(in_brains[c] for c in self.contrasts)


def inverse_norm(variance: Float64) -> Float64:
    """What the numerator is multiplied by, once for each image, to be r but for rounding (ROUNDING)."""
    return np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)


def normalised(numerator: NDArray[Any], x_variance: Float64, y_variance: Float64) -> Float64:
    """r of single pairs, all ``(pair,)``."""
    # One square root of the product: sqrt(v * v) is exactly v, so identical images have r = 1 and not 1 - 1e-16.
    scale = np.sqrt(x_variance * y_variance)
    r = np.divide(numerator.astype(np.float64), scale, out=np.zeros_like(scale), where=scale > 0)
    return np.clip(r, -1.0, 1.0, out=r)


def check_size(n_pixels: int) -> None:
    """The integers above fit 64 bits up to images of this many pixels, all contrasts together."""
    if n_pixels * n_pixels * 255 * 255 >= 2**63:
        raise ValueError(f"images of {n_pixels} pixels are too large for exact 64-bit sums (limit 11.9 million)")
