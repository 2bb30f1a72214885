"""For every query image the training images of largest Pearson r: exact, in bounded memory.

Two ways lead to the same answer. The *dense* way takes all inner products by matrix multiplication in float32, in
pieces short enough that every partial sum is an exactly represented integer (see ``pixels.CHUNK``), and adds the pieces
in float64, where they are exact too. The *cascade* (``cascade.py``) takes inner products only of pairs whose certified
upper bound allows them to win. A probe of the queries decides, rule by rule, and a query that the cascade cannot prune
goes the dense way on its own.

Both give the integers of ``pixels.pearson``, so the winner is that of a brute force in float64 and r agrees with it to
1e-14. Ties (equal r) go to the lowest training index.

Memory: the training images are held as one byte a pixel of the box that contains their non-zero pixels, at most
``memory_mb`` at a time (more images: more passes over the queries), plus about 4 KB an image and rule for the cascade,
plus about 0.5 GB of workspace. Queries are read in blocks and never held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthkit.errors import PluginError
from synthkit_memorization.bound import Directions
from synthkit_memorization.cascade import Cascade
from synthkit_memorization.pixels import (
    CHUNK,
    Block,
    Float64,
    Images,
    Int64,
    Moments,
    check_size,
    make_block,
    pearson,
    shards,
)

#: Queries and training images of one matrix multiplication.
QUERY_BLOCK = 1024
TRAIN_TILE = 2048

#: Below this many queries or training images an index costs more than it saves.
MINIMUM_FOR_CASCADE = 512

#: Queries and training images, evenly spaced, on which the cascade is tried; it must prune this share of the queries.
PROBE_QUERIES, PROBE_TRAIN = 64, 2048
PROBE_SHARE = 0.5

_NOBODY = np.iinfo(np.int64).max

Method = Literal["auto", "dense", "cascade"]


@dataclass(frozen=True)
class Matches:
    """The k best training images of each query, best first.

    ``index`` int64 ``(query, k)``, -1 where there are fewer than k candidates; ``r`` float64 ``(query, k)`` in -1..1,
    NaN there.
    """

    index: Int64
    r: Float64


@dataclass(frozen=True)
class Groups:
    """Group (subject) of each query and training image; a query is not compared with its own group.

    Integers, ``(query,)`` and ``(training image,)``; a negative group shares nothing with anybody.
    """

    queries: Int64
    train: Int64

    def excluded(self, rows: slice | Int64, columns: slice | Int64) -> NDArray[np.bool_]:
        """Boolean ``(query, training image)``: pairs that must not be compared."""
        queries = self.queries[rows][:, None]
        result: NDArray[np.bool_] = (queries == self.train[columns][None, :]) & (queries >= 0)
        return result


def no_matches(rules: Iterable[str], n: int, k: int) -> dict[str, Matches]:
    """The state that a search starts from, for n queries by each rule."""
    return {rule: _nothing(n, k) for rule in rules}


def every_rule(contrasts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Each contrast on its own and, if there are several, "joint": all of them as one long image."""
    rules: dict[str, tuple[int, ...]] = {name: (position,) for position, name in enumerate(contrasts)}
    return {**rules, "joint": tuple(range(len(contrasts)))} if len(contrasts) > 1 else rules


def best_matches(
    queries: Images,
    train: Images,
    *,
    rules: Mapping[str, tuple[int, ...]] | None = None,
    k: int = 1,
    exclude: Groups | None = None,
    memory_mb: float = 2048,
    method: Method = "auto",
    report: Callable[[float], None] | None = None,
) -> dict[str, Matches]:
    """The k training images of largest Pearson r for every query, by each rule.

    Parameters
    ----------
    queries, train : datasets of equal contrasts and size; images uint8 ``(contrast, y, x)``.
    rules : contrasts (positions) that a rule concatenates; all rules of :func:`every_rule` by default.
    k : matches to keep, at least 1.
    exclude : pairs of the same group are not compared (leave-subject-out).
    memory_mb : training pixels held at a time, in MB.
    method : "auto" decides by a probe; "dense" and "cascade" force one. The answer is the same.
    report : called with the share done, 0..1.

    Raises
    ------
    ValueError : contrasts or sizes differ, or images too large for exact sums (11.9 million pixels).
    PluginError : the linear algebra of this machine rounds float32 products (a reduced-precision mode).
    """
    if queries.contrasts != train.contrasts or queries.size != train.size:
        raise ValueError(
            f"queries are {queries.contrasts} {queries.size}, training images {train.contrasts} {train.size}"
        )
    _require_exact_products()
    rules = every_rule(train.contrasts) if rules is None else rules
    image_pixels = train.size[0] * train.size[1]
    check_size(image_pixels * len(train.contrasts))
    best = no_matches(rules, len(queries), k)
    for shard in shards(train, int(memory_mb * 1e6)):
        searcher = ShardSearch(shard, image_pixels, rules, k, exclude)
        large = min(len(shard), len(queries)) >= MINIMUM_FOR_CASCADE
        if method == "cascade" or (method == "auto" and large):
            searcher.build_cascades(None if method == "cascade" else queries, best)
        for block in _blocks(queries, shard):
            rows = np.arange(block.start, block.stop)
            for rule, found in searcher.search(block, rows, best).items():
                best[rule] = found
            if report is not None:
                done = shard.start + len(shard) * block.stop / len(queries)
                report(done / len(train))
    return {rule: _finished(found) for rule, found in best.items()}


@cache
def _require_exact_products() -> None:
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


class ShardSearch:
    """All rules of one block of training images, each by its cascade if it has one, else densely."""

    def __init__(
        self, shard: Block, image_pixels: int, rules: Mapping[str, tuple[int, ...]], k: int, exclude: Groups | None
    ) -> None:
        self.shard = shard
        self.image_pixels = image_pixels
        self.rules = dict(rules)
        self.k = k
        self.exclude = exclude
        self.moments = {rule: Moments.of(shard, contrasts, image_pixels) for rule, contrasts in rules.items()}
        self.cascades: dict[str, Cascade] = {}

    def build_cascades(self, queries: Images | None, best: Mapping[str, Matches]) -> None:
        """Index the shard for each rule; with ``queries``, only where a trial shows that most of them are pruned."""
        for rule, contrasts in self.rules.items():
            directions = Directions(self.shard, contrasts, self.image_pixels)
            if queries is None or self._pays(directions, queries, best[rule]):
                self.cascades[rule] = Cascade(directions, self.shard)
        # Inner products of single contrasts come for free with those of a rule that needs them densely.
        dense = {c for rule, contrasts in self.rules.items() if rule not in self.cascades for c in contrasts}
        for rule, contrasts in self.rules.items():
            if rule in self.cascades and set(contrasts) <= dense:
                del self.cascades[rule]

    def _pays(self, directions: Directions, queries: Images, best: Matches) -> bool:
        """Whether the cascade solves enough of some queries on a part of the shard."""
        rows, columns = _evenly(len(queries), PROBE_QUERIES), _evenly(len(self.shard), PROBE_TRAIN)
        trial = Cascade(directions, self.shard.take(columns))
        excluded = None if self.exclude is None else self.exclude.excluded(rows, self.shard.start + columns)
        found = trial.search(_read(queries, rows, self.shard), self.k, best.r[rows, -1], excluded)
        return bool(found.solved.mean() >= PROBE_SHARE)

    def search(self, block: Block, rows: Int64, best: Mapping[str, Matches]) -> dict[str, Matches]:
        """Merge the matches of a block of queries (positions ``rows`` of their dataset) into ``best``."""
        result: dict[str, Matches] = {}
        for rule, cascade in self.cascades.items():
            found = cascade.search(block, self.k, best[rule].r[rows, -1], self._excluded(rows))
            index = np.where(found.index >= 0, found.index + self.shard.start, _NOBODY)
            result[rule] = _merged_rows(best[rule], rows[found.solved], Matches(index, found.r), found.solved)
            hard = np.flatnonzero(~found.solved)
            if hard.size:
                dense = self._dense(block.take(hard), rows[hard], {rule: self.rules[rule]})
                result[rule] = _merged_rows(result[rule], rows[hard], dense[rule], None)
        rest = {rule: contrasts for rule, contrasts in self.rules.items() if rule not in self.cascades}
        if rest:
            for rule, found_dense in self._dense(block, rows, rest).items():
                result[rule] = _merged_rows(best[rule], rows, found_dense, None)
        return result

    def _excluded(self, rows: Int64) -> NDArray[np.bool_] | None:
        return None if self.exclude is None else self.exclude.excluded(rows, slice(self.shard.start, self.shard.stop))

    def _dense(self, block: Block, rows: Int64, rules: Mapping[str, tuple[int, ...]]) -> dict[str, Matches]:
        """All pairs, tile by tile; each contrast's inner products are taken once and shared by the rules."""
        query_moments = {rule: Moments.of(block, contrasts, self.image_pixels) for rule, contrasts in rules.items()}
        best = no_matches(rules, len(block), self.k)
        used = sorted({c for contrasts in rules.values() for c in contrasts})
        for first in range(0, len(self.shard), TRAIN_TILE):
            tile = slice(first, min(first + TRAIN_TILE, len(self.shard)))
            dots = {contrast: inner_products(block, self.shard, contrast, tile) for contrast in used}
            excluded = None
            if self.exclude is not None:
                excluded = self.exclude.excluded(
                    rows, slice(self.shard.start + tile.start, self.shard.start + tile.stop)
                )
            for rule, contrasts in rules.items():
                x, y = query_moments[rule], self.moments[rule]
                total = reduce(np.add, (dots[contrast] for contrast in contrasts))
                r = pearson(
                    total, x.sums[:, None], y.sums[None, tile], x.variance[:, None], y.variance[None, tile], x.n_pixels
                )
                if excluded is not None:
                    r[excluded] = -np.inf
                best[rule] = _merge(best[rule], _top(r, self.k, self.shard.start + first))
        return best


def inner_products(queries: Block, train: Block, contrast: int, tile: slice) -> Int64:
    """<x, y> of all queries with a tile of training images, int64 ``(query, training image)``, exact.

    With x = x' + 128 on the P pixels of the box and y = 0 outside it:
    <x, y> = <x', y'> + 128 (sum of x over the box + sum of y) - 128^2 P.
    """
    x, y = queries.pixels[contrast], train.pixels[contrast, tile]
    total = np.zeros((len(x), len(y)))
    piece = np.empty((len(x), len(y)), np.float32)
    for first in range(0, x.shape[1], CHUNK):
        columns = slice(first, first + CHUNK)
        np.matmul(x[:, columns].astype(np.float32), y[:, columns].astype(np.float32).T, out=piece)
        total += piece
    offset = 128 * queries.box_sums[contrast][:, None] + 128 * train.sums[contrast, tile][None, :]
    result: Int64 = total.astype(np.int64) + offset - 128 * 128 * train.box.n_pixels
    return result


def _blocks(queries: Images, shard: Block) -> Iterator[Block]:
    for start in range(0, len(queries), QUERY_BLOCK):
        yield _read(queries, np.arange(start, min(start + QUERY_BLOCK, len(queries))), shard)


def _read(queries: Images, rows: Int64, shard: Block) -> Block:
    """Queries cropped as the shard is; read in small batches, so that whole images are never held for long."""
    parts = [
        make_block(queries.read(part)[0], shard.box, int(rows[0]))
        for part in np.array_split(rows, -(-len(rows) // 128))
    ]
    return Block(
        int(rows[0]),
        shard.box,
        np.concatenate([part.pixels for part in parts], axis=1),
        np.concatenate([part.sums for part in parts], axis=1),
        np.concatenate([part.squares for part in parts], axis=1),
        np.concatenate([part.box_sums for part in parts], axis=1),
    )


def _evenly(n: int, count: int) -> Int64:
    """``count`` positions evenly spaced in ``range(n)``, without repetition."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).astype(np.int64))


# ------------------------------------------------------------------------------------- the k best, ties by index


def _nothing(n: int, k: int) -> Matches:
    return Matches(np.full((n, k), _NOBODY), np.full((n, k), -np.inf))


def _ordered(index: Int64, r: Float64, k: int) -> Matches:
    """The k best of each row: largest r first, then lowest index."""
    order = np.lexsort((index, -r), axis=1)[:, :k]
    return Matches(np.take_along_axis(index, order, axis=1), np.take_along_axis(r, order, axis=1))


def _merge(a: Matches, b: Matches) -> Matches:
    k = a.r.shape[1]
    return _ordered(np.concatenate([a.index, b.index], axis=1), np.concatenate([a.r, b.r], axis=1), k)


def _merged_rows(best: Matches, rows: Int64, found: Matches, which: NDArray[np.bool_] | None) -> Matches:
    """``best`` with ``found`` (its rows ``which``, or all) merged into ``rows``."""
    if which is not None:
        found = Matches(found.index[which], found.r[which])
    merged = _merge(Matches(best.index[rows], best.r[rows]), found)
    best.index[rows], best.r[rows] = merged.index, merged.r
    return best


def _top(r: Float64, k: int, offset: int) -> Matches:
    """The k best columns of each row of ``r``; excluded pairs hold -inf. Lowest column first among equals."""
    n, m = r.shape
    k_here = min(k, m)
    threshold = r.max(axis=1) if k_here == 1 else np.partition(r, m - k_here, axis=1)[:, m - k_here]
    rows, columns = np.nonzero(r >= threshold[:, None])
    order = np.lexsort((columns, -r[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    keep = (rank < k_here) & np.isfinite(r[rows, columns])
    rows, columns, rank = rows[keep], columns[keep], rank[keep]
    top = _nothing(n, k)
    top.index[rows, rank] = columns + offset
    top.r[rows, rank] = r[rows, columns]
    return top


def _finished(found: Matches) -> Matches:
    nobody = found.index == _NOBODY
    return Matches(np.where(nobody, -1, found.index), np.where(nobody, np.nan, found.r))
