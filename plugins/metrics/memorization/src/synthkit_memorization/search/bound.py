"""A certified upper bound of r for every pair of images, from a few hundred numbers an image.

Let u be what a view compares of an image, centred and of norm 1, so r = <u_x, u_y>. For orthonormal rows Q, with
a = Q u and rho = |u - Q^T a| = sqrt(1 - |a|^2), the inequality of Cauchy and Schwarz on what Q leaves out gives

    r <= <a_x, a_y> + rho_x rho_y                                                             (1)

Brain slices are smooth, so a few hundred directions hold nearly all of |u|: the principal axes (of a sample of the
training images) of the low-frequency coefficients of the 2-D discrete cosine transform on the box of the training
images. In views that count the background two more kinds of direction, orthogonal to these, hold what the constant
leaves behind: per contrast the centred indicator of the box (where the box is smaller than the image) and, in a view
over several contrasts, their mean levels.

Any prefix of the axes gives a bound; LEVELS are those that the search uses, one after the other.

Rounding. Coefficients and rho are computed in float64 (errors below 1e-9 of |u| = 1) and rounded to float32 (2^-24
each). A float32 sum of p products, in any order, errs by at most (p + 2) 2^-24 |a_x| |a_y| <= (p + 2) 2^-24 (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.7). :func:`slack` is more than the sum of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.pixels import Block, Float32, Float64, Int8
from synthkit_memorization.search.rules import Key, Measure, Moments, View
from synthkit_memorization.search.threads import for_each, one_thread

#: Low frequencies kept along each side of the box.
FREQUENCIES = 40
#: Lengths of the prefixes of the principal axes.
LEVELS = (256, 512, 768, 1024)
#: Training images (evenly spaced) that the principal axes are found from: a quarter of them, within these limits.
AXES_SAMPLE = 1024, 1536
#: Smallest second moment of an axis, as a share of the largest; below it is rounding.
SMALLEST = 1e-9
#: Images embedded at a time, and transformed at a time (what fits a cache).
EMBEDDED, TRANSFORMED = 128, 4


def slack(prefix: int) -> float:
    """What (1) may fall short by when its right side is computed in float32 with this prefix."""
    return (prefix + 16) * 2.0**-23


def cosines(n: int, count: int) -> Float64:
    """The first ``count`` rows of the orthonormal DCT-II of length n: ``(count, n)``."""
    frequency, position = np.arange(count)[:, None], np.arange(n)[None, :]
    rows: Float64 = np.sqrt(2.0 / n) * np.cos(np.pi * frequency * (2 * position + 1) / (2 * n))
    rows[0] = np.sqrt(1.0 / n)
    return rows


def whole_cosines(n: int, count: int) -> tuple[Float64, Float64]:
    """The same rows times a power of two and rounded, and what makes them orthonormal: ``(count, n), (count, count)``.

    For ``rows, triangle`` the rows of ``triangle.T @ rows`` are orthonormal, the first of them constant. By Cauchy and
    Schwarz every partial sum of products of a row with n integers up to 255 is at most 255 |row| sqrt(n) < 2^24, so
    float32 has them all exactly, at twice the speed of float64.
    """
    scale = 2.0 ** np.floor(np.log2(2**15 / np.sqrt(n)))
    rows = np.rint(scale * cosines(n, count))
    rows[0] = 1
    return rows, np.linalg.inv(np.linalg.qr(rows.T)[1])


def low_frequencies(n_rows: int, n_columns: int) -> NDArray[np.bool_]:
    """Which of the frequencies ``(y, x)`` are kept: those within an ellipse, but the constant."""
    y, x = np.arange(n_rows)[:, None] / n_rows, np.arange(n_columns) / n_columns
    kept: NDArray[np.bool_] = y**2 + x**2 < 1
    kept[0, 0] = False
    return kept


@dataclass(frozen=True)
class Embedding:
    """The right side of (1) for the images of a block, float32.

    ``short`` is ``[a, rho]`` of the first level, ``(image, LEVELS[0] + 1)``, so that one inner product is the bound;
    ``tail`` the coefficients after it, ``(image, LEVELS[-1] - LEVELS[0])``; ``rho`` that of each level.
    """

    short: Float32
    tail: Float32
    rho: Float32

    @staticmethod
    def empty(n: int) -> Embedding:
        shapes = (n, LEVELS[0] + 1), (n, LEVELS[-1] - LEVELS[0]), (n, len(LEVELS))
        return Embedding(*(np.empty(shape, np.float32) for shape in shapes))

    def write(self, part: slice, a: Float64) -> None:
        for level, prefix in enumerate(LEVELS):
            head = a[:, :prefix]
            # The term keeps rho an upper bound where 1 - |a|^2 is lost to rounding.
            self.rho[part, level] = np.sqrt(np.maximum(0.0, 1.0 - np.einsum("np,np->n", head, head)) + 1e-12)
        self.short[part, :-1], self.short[part, -1] = a[:, : LEVELS[0]], self.rho[part, 0]
        self.tail[part] = a[:, LEVELS[0] :]


class Directions:
    """Orthonormal directions of some views of one measure, fitted to a block of training images."""

    def __init__(self, shard: Block, views: Mapping[Key, View]) -> None:
        self._views = dict(views)
        self._measure: Measure = next(iter(views.values())).measure
        height, width = shard.box.shape
        self._rows = cosines(height, min(height, FREQUENCIES))
        self._columns, self._triangle = whole_cosines(width, min(width, FREQUENCIES))
        self._kept = low_frequencies(len(self._rows), len(self._columns))
        n_sample = np.clip(len(shard) // 4, *AXES_SAMPLE)
        sample = shard.take(np.unique(np.linspace(0, len(shard) - 1, n_sample).astype(np.int64)))
        parts = for_each(lambda part: self._coefficients(sample.take(part), views), len(sample), EMBEDDED)
        self._points = {key: np.concatenate([part[key] for part in parts]) for key in views}
        self._axes: dict[Key, Float64] = {}

    def held(self, key: Key) -> float:
        """Mean share of |u|^2 that the low frequencies hold: without them no bound prunes."""
        return float(np.einsum("nd,nd->n", self._points[key], self._points[key]).mean())

    def _find_axes(self, views: Iterable[Key]) -> None:
        with one_thread():
            for key in set(views) - set(self._axes):
                self._axes[key] = _principal_axes(self._points[key])

    def embed(self, block: Block, views: Iterable[Key]) -> dict[Key, Embedding]:
        """All images of a block by these views; constant images are 0."""
        result = {key: Embedding.empty(len(block)) for key in views}
        self._find_axes(result)

        def embed(part: slice) -> None:
            for key, coefficients in self._coefficients(block.take(part), result).items():
                result[key].write(part, coefficients @ self._axes[key])

        for_each(embed, len(block), EMBEDDED)
        return result

    def _coefficients(self, block: Block, views: Iterable[Key]) -> dict[Key, Float64]:
        """Q u of some views before the rotation to principal axes, ``(image, direction)``."""
        used = {contrast for key in views for contrast in self._views[key].contrasts}
        single = {c: self._cosine_transform(self._pixels(block, c)) for c in used}
        result = {}
        for key in views:
            view = self._views[key]
            moments = view.moments(block)
            columns = [single[c] for c in view.contrasts]
            if view.measure == "pearson":
                columns += self._levels(block, view, moments)
            norm = np.sqrt(moments.variance / (view.n_pixels if view.measure == "pearson" else 1))[:, None]
            whole = np.concatenate(columns, axis=1)
            result[key] = np.divide(whole, norm, out=np.zeros_like(whole), where=norm > 0)
        return result

    def _pixels(self, block: Block, contrast: int) -> Float64 | Int8:
        """What is transformed, ``(image, pixel of the box)``, up to a constant in views that count the background."""
        pixels = slice(block.box.n_pixels)
        if self._measure == "pearson":
            return block.plane(("pixels", contrast), slice(None), pixels)
        moments = View("brain", (contrast,), 0).moments(block)
        mean = (moments.nearest[0] + moments.rest[0])[:, None]
        assert block.brain is not None
        inside = block.brain.mask[:, pixels] != 0
        return np.where(inside, block.pixels[contrast, :, pixels] - mean, 0.0)

    @staticmethod
    def _levels(block: Block, view: View, moments: Moments) -> list[Float64]:
        """Coefficients of the directions that hold mean levels."""
        d, p = float(view.image_pixels), block.box.n_pixels
        share, columns = p / d, []
        for contrast in view.contrasts:
            sums, inside = block.sums[contrast], block.box_sums[contrast]
            # Indicator of the box minus its mean over the contrast, normalised; orthogonal to the constant.
            if share < 1:
                columns.append(((inside - share * sums) / np.sqrt(p * (1 - share)))[:, None])
            if len(view.contrasts) > 1:
                columns.append((np.sqrt(d) * (sums / d - moments.sums / view.n_pixels))[:, None])
        return columns

    def _cosine_transform(self, pixels: Float64 | Int8) -> Float64:
        """Low-frequency coefficients ``(image, frequency)``."""
        height, width = self._rows.shape[1], self._columns.shape[1]
        columns = self._columns.T.astype(np.float64 if pixels.dtype == np.float64 else np.float32)
        result = np.empty((len(pixels), np.count_nonzero(self._kept)))
        for first in range(0, len(pixels), TRANSFORMED):
            some = pixels[first : first + TRANSFORMED].astype(columns.dtype)
            along_x = (some.reshape(-1, width) @ columns).reshape(len(some), height, -1).astype(np.float64)
            result[first : first + TRANSFORMED] = (self._rows @ along_x @ self._triangle)[:, self._kept]
        return result


def _principal_axes(points: Float64) -> Float64:
    """Orthonormal columns ``(direction, LEVELS[-1])``, those of largest second moment first; then columns of zeros."""
    values, vectors = np.linalg.eigh(points @ points.T)
    first = slice(None, -LEVELS[-1] - 1, -1)
    values, vectors = values[first], vectors[:, first]
    held = values > SMALLEST * values[0]
    axes = (points.T @ vectors[:, held]) / np.sqrt(values[held])
    # Orthogonal but for rounding, which tells in the smallest; this keeps the nesting of the prefixes.
    axes = axes @ np.linalg.inv(np.linalg.cholesky(axes.T @ axes)).T
    return np.pad(axes, ((0, 0), (0, LEVELS[-1] - axes.shape[1])))
