"""All pairs by matrix multiplication on the CPU, exact.

Inner products are taken of bytes, with sums of 32 bits, where that is faster (``products.py``). Else they are taken in
float32, in pieces of pixels short enough that every partial sum is an exactly represented integer, and the pieces are
added in float64, where they are exact too. Such a piece is one chunk of CHUNK pixels, or several where the images at
hand are weak enough: no partial sum exceeds |x| |y| over the piece (Cauchy and Schwarz).

Where people are told apart, a tile of training images is reduced to the best r with each of its people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthkit.errors import PluginError
from synthkit_memorization.search.matches import Matches, best_of
from synthkit_memorization.search.pixels import CHUNK, Block, Float64, Int64, Plane, at_a_time
from synthkit_memorization.search.products import PIECE, WORTH_IT, Multiply, multiply_bytes
from synthkit_memorization.search.rules import ROUNDING, Key, Moments, View, inverse_norm, normalised
from synthkit_memorization.search.threads import for_each

#: Training images of one matrix multiplication, and chunks of its longest piece.
TRAIN_TILE, CHUNKS = 2048, 4
#: Queries from which on it pays to look for longer pieces.
QUERIES_FOR_PIECES = 256
#: Integers up to this are exact in float32.
LARGEST = 2.0**24

#: Some pairs that may be among the best: queries, training images (positions in the shard), numerators of r.
Pairs = tuple[Int64, Int64, NDArray[Any]]


@cache
def require_exact_products() -> None:
    """Some BLAS libraries can be told, by the environment, to multiply float32 in fewer bits: then nothing is exact."""
    values = np.random.default_rng(0).integers(-128, 128, (2, 64, CHUNK))
    values[:, 0] = -128  # the largest sum, 2**24
    x, y = values.astype(np.float32)
    if not np.array_equal(x @ y.T, values[0] @ values[1].T):
        raise PluginError(
            "The exact search cannot run here.",
            "Matrix products of float32 are computed in reduced precision by the linear algebra library of NumPy.",
            "Unset the environment variable that asks for it (a bfloat16 or TF32 mode of MKL, oneDNN or OpenBLAS).",
        )


class AllPairs(Protocol):
    """All pairs of some queries with a shard: by NumPy below, by PyTorch in ``device.py``."""

    def search(
        self, block: Block, floors: Mapping[Key, Float64], k: int, excluded: NDArray[np.bool_] | None
    ) -> dict[Key, Matches]:
        """By each view with a floor (a value a query): the k best that reach it, as positions in the shard."""
        ...


class Dense:
    """Every view of one shard of training images, all pairs; inner products are taken once and shared by the views.

    ``people`` is the person of each image of the shard, ``(image,)``, or None if every image stands for itself.
    """

    def __init__(self, shard: Block, views: Mapping[Key, View], people: Int64 | None) -> None:
        require_exact_products()
        self._shard = shard
        self._people = people
        self._moments = {name: view.moments(shard) for name, view in views.items()}
        self._views = views
        self._energies = cache(partial(energies, shard))

    def search(
        self, block: Block, floors: Mapping[Key, Float64], k: int, excluded: NDArray[np.bool_] | None
    ) -> dict[Key, Matches]:
        x = {key: self._views[key].moments(block) for key in floors}
        columns = {key: moments.mapped(lambda array: array[..., None]) for key, moments in x.items()}
        least = {key: np.maximum(floor, -1.0) for key, floor in floors.items()}

        n_pixels = block.pixels.shape[2]
        in_bytes = multiply_bytes() if len(block) * len(self._shard) * n_pixels >= WORTH_IT else None

        @cache
        def pieces(p: Plane, q: Plane) -> list[slice]:
            if len(block) < QUERIES_FOR_PIECES or n_pixels == block.chunk:
                return _pieces(np.full(n_pixels // block.chunk, LARGEST), block.chunk)
            return _pieces(np.sqrt(energies(block, p) * self._energies(q)), block.chunk)

        def compare(tile: slice) -> dict[Key, Pairs]:
            @cache
            def product(p: Plane, q: Plane) -> Int64:
                if in_bytes is not None:
                    return products_of_bytes(in_bytes, block, p, self._shard, q, tile)
                return inner_products(block, p, self._shard, q, tile, pieces(p, q))

            whose = None if self._people is None else Runs.of(self._people[tile])
            found: dict[Key, Pairs] = {}
            in_brains: dict[int, Any] = {}
            for key in floors:
                y = self._moments[key].mapped(lambda array: array[..., tile])
                numerator = self._views[key].numerator(product, columns[key], y, in_brains)
                r = numerator * inverse_norm(x[key].variance)[:, None]
                r *= inverse_norm(y.variance)
                if excluded is not None:
                    r[excluded[:, tile]] = -np.inf
                best = r if whose is None else whose.best(r)
                m = best.shape[1]
                if k <= m:
                    # What is not among the k best of a tile is not among the k best of all. (If two threads do this at
                    # once, one result is lost, which leaves more pairs to decide and no fewer.)
                    kth = best.max(axis=1) if k == 1 else np.partition(best, m - k, axis=1)[:, m - k]
                    least[key] = np.maximum(least[key], kth)
                rows, images = np.nonzero(r >= least[key][:, None] - ROUNDING)
                if whose is not None:
                    may_be_best = r[rows, images] >= best[rows, whose.column[images]] - ROUNDING
                    rows, images = rows[may_be_best], images[may_be_best]
                found[key] = rows, images + tile.start, numerator[rows, images]
            return found

        tiles = for_each(compare, len(self._shard), TRAIN_TILE, parts_a_core=1)
        pairs = {key: [found[key] for found in tiles] for key in floors}
        return {key: decided(pairs[key], x[key], self._moments[key], k, self._people) for key in floors}


@dataclass(frozen=True)
class Runs:
    """Some training images in the order of their people.

    ``order`` int64 ``(image,)``, or None if they lie so already; ``starts`` of each person's run, ``(person,)``;
    ``column`` of each image's person among these, ``(image,)``.
    """

    order: Int64 | None
    starts: Int64
    column: Int64

    @staticmethod
    def of(people: Int64) -> Runs:
        order = np.argsort(people, kind="stable")
        starts, column = np.unique(people[order], return_index=True)[1], np.unique(people, return_inverse=True)[1]
        return Runs(None if (order[1:] > order[:-1]).all() else order, starts, column)

    def best(self, r: Float64) -> Float64:
        """The largest r with an image of each person, ``(query, person)``."""
        best: Float64 = np.maximum.reduceat(r if self.order is None else r[:, self.order], self.starts, axis=1)
        return best


def decided(pairs: Sequence[Pairs], x: Moments, y: Moments, k: int, people: Int64 | None) -> Matches:
    """The k best of each query, from pairs that include them; ``people`` as in :class:`Dense`."""
    rows, columns, numerator = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    r = normalised(numerator, x.variance[rows], y.variance[columns])
    return best_of(rows, columns, r, len(x.variance), k, people)


def inner_products(queries: Block, p: Plane, train: Block, q: Plane, tile: slice, pieces: Sequence[slice]) -> Int64:
    """Inner products of a plane of all queries with one of a tile of training images, int64, exact."""
    total = np.zeros((len(queries), tile.stop - tile.start))
    piece = np.empty(total.shape, np.float32)
    for pixels in pieces:
        x, y = queries.plane(p, slice(None), pixels), train.plane(q, tile, pixels)
        np.matmul(x.astype(np.float32), y.astype(np.float32).T, out=piece)
        total += piece
    return total.astype(np.int64)


def products_of_bytes(multiply: Multiply, queries: Block, p: Plane, train: Block, q: Plane, tile: slice) -> Int64:
    """The same as :func:`inner_products`, by a product of bytes."""
    total: Int64 | None = None
    for first in range(0, queries.pixels.shape[2], PIECE):
        pixels = slice(first, first + PIECE)
        piece = multiply(queries.plane(p, slice(None), pixels), train.plane(q, tile, pixels))
        total = piece.astype(np.int64) if total is None else total + piece
    assert total is not None
    return total


def energies(block: Block, plane: Plane) -> Float64:
    """The largest sum of squares that an image has in each chunk of pixels, ``(chunk,)``."""
    largest = np.zeros(block.pixels.shape[2] // block.chunk)
    step = at_a_time(block.pixels.shape[2])
    for first in range(0, len(block), step):
        pixels = block.plane(plane, slice(first, first + step), slice(None)).astype(np.float32)
        chunks = pixels.reshape(len(pixels), -1, block.chunk)
        np.maximum(largest, np.einsum("ncp,ncp->nc", chunks, chunks).max(axis=0), out=largest)
    return largest


def _pieces(bounds: Float64, size: int) -> list[slice]:
    """Runs of at most CHUNKS chunks of ``size`` pixels whose bounds, of any partial sum, add up to at most LARGEST."""
    result, first, total = [], 0, 0.0
    for chunk, bound in enumerate(bounds):
        if chunk > first and (total + bound > LARGEST or chunk - first == CHUNKS):
            result.append(slice(first * size, chunk * size))
            first, total = chunk, 0.0
        total += bound
    return [*result, slice(first * size, len(bounds) * size)]
