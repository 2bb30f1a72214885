"""A certified upper bound of r for every pair, so that few pairs need their pixels.

Let u be a centred image divided by its norm, so r = <u_x, u_y>. For orthonormal rows Q, with a = Q u and
rho = |u - Q^T a| = sqrt(1 - |a|^2), the inequality of Cauchy and Schwarz on what Q leaves out gives

    r <= <a_x, a_y> + rho_x rho_y                                                             (1)

Brain slices are smooth, so a few hundred directions hold nearly all of |u|: the principal axes (of a sample of the
training images) of the low-frequency coefficients of the 2-D discrete cosine transform on the box of the training
images. Two more kinds of direction, orthogonal to these, hold what the constant leaves behind: per contrast the centred
indicator of the box (where the box is smaller than the image) and, in a rule over several contrasts, their mean levels.

The cascade: (1) for all pairs with a short prefix, as one matrix product; survivors with a longer prefix; what is left
by exact inner products of the pixels, in order of the bound, until the bound falls below the k-th best r found.

Rounding. Coefficients and rho are computed in float64 (errors below 1e-9 of |u| = 1) and rounded to float32 (2^-24
each). A float32 sum of p products, in any order, errs by at most (p + 2) 2^-24 |a_x| |a_y| <= (p + 2) 2^-24 (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.7). ``_slack`` is more than twice the sum of these.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.pixels import CHUNK, Block, Float32, Float64, Int8, Int64, Moments, pearson

#: Low frequencies kept along each side of the box.
FREQUENCIES = 48
#: Lengths of the two prefixes.
SHORT, LONG = 256, 768
#: Training images (evenly spaced) that the principal axes are found from.
AXES_SAMPLE = 1024
#: Queries of one matrix product of the first bound.
QUERIES = 256
#: A pair costs the exact step this many times what it costs a dense product, and the second bound this many times;
#: a query with more survivors than the share these allow is left to the dense way.
EXACT_COST, LONG_COST = 24, 6
#: Images transformed at a time: what fits a cache.
TRANSFORMED = 8
#: Exact inner products taken at a time.
BATCH = 16

_EXCLUDED = np.float32(-4.0)


def _slack(prefix: int) -> float:
    return (prefix + 16) * 2.0**-23


@dataclass(frozen=True)
class Found:
    """Matches of a block of queries within a shard: ``index``, ``r`` as in Matches (-1, -inf where none).

    ``solved`` is False for a query left to the dense way; its row means nothing.
    """

    index: Int64
    r: Float64
    solved: NDArray[np.bool_]


def _n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cosines(n: int, count: int) -> Float64:
    """The first ``count`` rows of the orthonormal DCT-II of length n: ``(count, n)``."""
    frequency, position = np.arange(count)[:, None], np.arange(n)[None, :]
    rows: Float64 = np.sqrt(2.0 / n) * np.cos(np.pi * frequency * (2 * position + 1) / (2 * n))
    rows[0] = np.sqrt(1.0 / n)
    return rows


class Cascade:
    """The index of one rule on one block of training images.

    Parameters
    ----------
    shard : training images.
    contrasts : positions of the contrasts that the rule concatenates.
    moments : sums and variances of the training images under the rule.
    image_pixels : pixels of one whole contrast, D.
    """

    def __init__(self, shard: Block, contrasts: tuple[int, ...], moments: Moments, image_pixels: int) -> None:
        self._shard = shard
        self._contrasts = contrasts
        self._moments = moments
        self._image_pixels = image_pixels
        height, width = shard.box.shape
        self._rows = cosines(height, min(height, FREQUENCIES))
        self._columns = cosines(width, min(width, FREQUENCIES))
        self._axes = self._principal_axes()
        short, long = [], []
        for first in range(0, len(shard), QUERIES):
            part = slice(first, min(first + QUERIES, len(shard)))
            one, two = self._embed(shard, part, moments)
            short.append(one)
            long.append(two)
        self._short: Float32 = np.concatenate(short)
        self._long: Float32 = np.concatenate(long)

    # ------------------------------------------------------------------------------------------------ the bound

    def _coefficients(self, block: Block, part: slice | NDArray[np.integer], moments: Moments) -> Float64:
        """Q u for the directions before rotation, float64 ``(image, direction)``; zero for constant images."""
        box, d = block.box, float(self._image_pixels)
        mean = moments.sums[part] / moments.n_pixels
        columns = []
        for contrast in self._contrasts:
            # All kept cosines but the first are orthogonal to the constant, so the shift by 128 does not matter.
            columns.append(self._cosine_transform(block.pixels[contrast, part, : box.n_pixels])[:, 1:])
            # Indicator of the box minus its mean over the contrast, normalised; orthogonal to the constant.
            share = box.n_pixels / d
            if share < 1:
                sums, inside = block.sums[contrast, part], block.box_sums[contrast, part]
                columns.append(((inside - share * sums) / np.sqrt(box.n_pixels * (1 - share)))[:, None])
            if len(self._contrasts) > 1:
                columns.append((np.sqrt(d) * (block.sums[contrast, part] / d - mean))[:, None])
        coefficients = np.concatenate(columns, axis=1)
        norm = np.sqrt(moments.variance[part] / moments.n_pixels)
        return np.divide(coefficients, norm[:, None], out=np.zeros_like(coefficients), where=norm[:, None] > 0)

    def _cosine_transform(self, pixels: Int8) -> Float64:
        """Low-frequency coefficients ``(image, frequency)`` of int8 ``(image, pixel of the box)``."""
        height, width = self._shard.box.shape
        n_rows, n_columns = len(self._rows), len(self._columns)
        result = np.empty((len(pixels), n_rows, n_columns))
        for first in range(0, len(pixels), TRANSFORMED):
            some = pixels[first : first + TRANSFORMED].astype(np.float64)
            along_x = (some.reshape(-1, width) @ self._columns.T).reshape(len(some), height, n_columns)
            np.matmul(self._rows, along_x, out=result[first : first + TRANSFORMED])
        return result.reshape(len(pixels), -1)

    def _principal_axes(self) -> Float64:
        """Orthonormal columns ``(direction, at most LONG)``, those of largest second moment first."""
        sample = np.unique(np.linspace(0, len(self._shard) - 1, AXES_SAMPLE).astype(np.int64))
        points = np.concatenate(
            [
                self._coefficients(self._shard, part, self._moments)
                for part in np.array_split(sample, -(-len(sample) // QUERIES))
            ]
        )
        _, vectors = np.linalg.eigh(points @ points.T)
        spanning = points.T @ vectors[:, ::-1][:, :LONG]
        # QR keeps the nesting of the prefixes and is orthonormal whatever the rank.
        return np.linalg.qr(spanning)[0]

    def _embed(self, block: Block, part: slice, moments: Moments) -> tuple[Float32, Float32]:
        """``[a, rho]`` for the short and the long prefix, float32 ``(image, prefix + 1)``."""
        a = self._coefficients(block, part, moments) @ self._axes
        result = []
        for prefix in (SHORT, LONG):
            head = a[:, :prefix]
            # The term keeps rho an upper bound where 1 - |a|^2 is lost to rounding.
            rho = np.sqrt(np.maximum(0.0, 1.0 - np.einsum("np,np->n", head, head)) + 1e-12)
            result.append(np.concatenate([head, rho[:, None]], axis=1).astype(np.float32))
        return result[0], result[1]

    # ----------------------------------------------------------------------------------------------- the search

    def search(self, block: Block, k: int, floor: Float64, excluded: NDArray[np.bool_] | None) -> Found:
        """The k best of each query among the shard; ``floor`` is the k-th best r it has from elsewhere."""
        n = len(block)
        found = Found(np.full((n, k), -1, np.int64), np.full((n, k), -np.inf), np.zeros(n, np.bool_))
        moments = Moments.of(block, self._contrasts, self._image_pixels)
        with ThreadPoolExecutor(_n_cores()) as pool:
            for first in range(0, n, QUERIES):
                part = slice(first, min(first + QUERIES, n))
                short, long = self._embed(block, part, moments)
                bounds = short @ self._short.T
                if excluded is not None:
                    bounds[excluded[part]] = _EXCLUDED

                def one(i: int, bounds: Float32 = bounds, long: Float32 = long, first: int = first) -> None:
                    query = _Query(self, block, moments, first + i)
                    query.run(bounds[i], long[i], k, float(floor[first + i]), found)

                list(pool.map(one, range(part.stop - part.start)))
        return found

    def exact(
        self, pieces: list[Float32], offsets: list[int], x_sum: int, x_variance: int, candidates: Int64
    ) -> Float64:
        """r of one query with some images of the shard, from exact integers."""
        dots = np.zeros(len(candidates))
        for contrast, piece, offset in zip(self._contrasts, pieces, offsets, strict=True):
            y = self._shard.pixels[contrast, candidates].astype(np.float32)
            y = y.reshape(len(candidates), y.shape[1] // CHUNK, CHUNK).transpose(1, 0, 2)
            dots += np.matmul(y, piece).sum(axis=0, dtype=np.float64)[:, 0]
            dots += 128 * self._shard.sums[contrast, candidates] + offset
        train = self._moments
        return pearson(
            dots.astype(np.int64),
            np.int64(x_sum),
            train.sums[candidates],
            np.int64(x_variance),
            train.variance[candidates],
            train.n_pixels,
        )

    @property
    def limits(self) -> tuple[int, int]:
        """Survivors of the first and of the second bound beyond which the dense way is cheaper."""
        return max(BATCH, len(self._shard) // LONG_COST), max(BATCH, len(self._shard) // EXACT_COST)

    def long_bounds(self, long: Float32, candidates: Int64) -> Float32:
        return self._long[candidates] @ long


class _Query:
    """One query on its way through the cascade."""

    def __init__(self, cascade: Cascade, block: Block, moments: Moments, i: int) -> None:
        self._cascade = cascade
        self._i = i
        self._sum, self._variance = int(moments.sums[i]), int(moments.variance[i])
        contrasts = cascade._contrasts
        self._pieces = [block.pixels[c, i].astype(np.float32).reshape(-1, CHUNK, 1) for c in contrasts]
        self._offsets = [128 * int(block.box_sums[c, i]) - 128 * 128 * block.box.n_pixels for c in contrasts]

    def _exact(self, candidates: Int64) -> Float64:
        return self._cascade.exact(self._pieces, self._offsets, self._sum, self._variance, candidates)

    def run(self, bounds: Float32, long: Float32, k: int, floor: float, found: Found) -> None:
        """Fill this query's row of ``found``, or leave it unsolved."""
        if self._variance == 0:
            return  # every r is 0: nothing to prune by
        short_limit, long_limit = self._cascade.limits
        seeds = np.argpartition(bounds, -k)[-k:] if k < len(bounds) else np.arange(len(bounds))
        seeds = seeds[bounds[seeds] > _EXCLUDED]
        index, r = seeds, self._exact(seeds)
        bounds[seeds] = _EXCLUDED  # done with
        least = _kth(r, k, floor)
        alive = np.flatnonzero((bounds >= np.float32(least - _slack(SHORT))) & (bounds > _EXCLUDED))
        if len(alive) > short_limit:
            return
        if len(alive):
            longer = self._cascade.long_bounds(long, alive)
            keep = longer >= np.float32(least - _slack(LONG))
            alive, longer = alive[keep], longer[keep]
            if len(alive) > long_limit:
                return
            order = np.argsort(-longer, kind="stable")
            alive, longer = alive[order], longer[order]
        for first in range(0, len(alive), BATCH):
            # Strictly below: a candidate that may tie is still looked at, for the lowest index wins.
            if longer[first] < np.float32(least - _slack(LONG)):
                break
            some = alive[first : first + BATCH]
            index, r = np.concatenate([index, some]), np.concatenate([r, self._exact(some)])
            least = _kth(r, k, floor)
        order = np.lexsort((index, -r))[:k]
        found.index[self._i, : len(order)] = index[order]
        found.r[self._i, : len(order)] = r[order]
        found.solved[self._i] = True


def _kth(r: Float64, k: int, floor: float) -> float:
    """The r that a further candidate must reach: the k-th best so far, here or elsewhere."""
    return max(floor, float(np.partition(r, -k)[-k])) if len(r) >= k else floor
