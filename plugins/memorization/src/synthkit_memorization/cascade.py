"""Exact best matches from few pairs: a certified bound rules out the others.

The bound of ``bound.py`` is taken for all pairs with a short prefix, as one matrix product; the survivors again with a
longer prefix; what is left by exact inner products of the pixels, in order of the bound, until the bound falls below
the k-th best r found. A query with too many survivors is left to the dense way.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.bound import LONG, SHORT, Directions, slack
from synthkit_memorization.pixels import CHUNK, Block, Float32, Float64, Int64, Moments, pearson

#: Queries of one matrix product of the first bound.
QUERIES = 256
#: A pair costs the exact step this many times what it costs a dense product, and the second bound this many times;
#: a query with more survivors than the share these allow is left to the dense way.
EXACT_COST, LONG_COST = 24, 6
#: Exact inner products taken at a time.
BATCH = 16

_EXCLUDED = np.float32(-4.0)


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


class Cascade:
    """The index of one rule on a block of training images (``shard``, cropped to the box of the directions)."""

    def __init__(self, directions: Directions, shard: Block) -> None:
        self.directions = directions
        self._shard = shard
        self._moments = directions.moments(shard)
        self._short, self._long = directions.embed(shard, self._moments)

    def search(self, block: Block, k: int, floor: Float64, excluded: NDArray[np.bool_] | None) -> Found:
        """The k best of each query among the shard; ``floor`` is the k-th best r it has from elsewhere."""
        n = len(block)
        found = Found(np.full((n, k), -1, np.int64), np.full((n, k), -np.inf), np.zeros(n, np.bool_))
        moments = self.directions.moments(block)
        short, long = self.directions.embed(block, moments)
        with ThreadPoolExecutor(_n_cores()) as pool:
            for first in range(0, n, QUERIES):
                part = slice(first, min(first + QUERIES, n))
                bounds = short[part] @ self._short.T
                if excluded is not None:
                    bounds[excluded[part]] = _EXCLUDED

                def one(i: int, bounds: Float32 = bounds, first: int = first) -> None:
                    query = _Query(self, block, moments, first + i)
                    query.run(bounds[i], long[first + i], k, float(floor[first + i]), found)

                list(pool.map(one, range(part.stop - part.start)))
        return found

    def exact(
        self, pieces: list[Float32], offsets: list[int], x_sum: int, x_variance: int, candidates: Int64
    ) -> Float64:
        """r of one query with some images of the shard, from exact integers."""
        dots = np.zeros(len(candidates))
        for contrast, piece, offset in zip(self.directions.contrasts, pieces, offsets, strict=True):
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
        contrasts = cascade.directions.contrasts
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
        alive = np.flatnonzero((bounds >= np.float32(least - slack(SHORT))) & (bounds > _EXCLUDED))
        if len(alive) > short_limit:
            return
        if len(alive):
            longer = self._cascade.long_bounds(long, alive)
            keep = longer >= np.float32(least - slack(LONG))
            alive, longer = alive[keep], longer[keep]
            if len(alive) > long_limit:
                return
            order = np.argsort(-longer, kind="stable")
            alive, longer = alive[order], longer[order]
        for first in range(0, len(alive), BATCH):
            # Strictly below: a candidate that may tie is still looked at, for the lowest index wins.
            if longer[first] < np.float32(least - slack(LONG)):
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
