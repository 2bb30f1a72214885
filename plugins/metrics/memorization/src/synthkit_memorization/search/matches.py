"""The best training images of each query so far: order, ties, exclusions, whose they are, merging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.pixels import Float64, Int64, Rows

#: Index of a place that nobody has taken: behind every image in a tie.
NOBODY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Matches:
    """The k best training images of each query, best first, no two of one person where people are told apart.

    ``index`` int64 ``(query, k)``, -1 where there are fewer than k candidates; ``r`` float64 ``(query, k)`` in -1..1,
    NaN there.
    """

    index: Int64
    r: Float64

    def finished(self) -> Matches:
        """As promised to the caller; before, free places hold NOBODY and the r that a match must reach."""
        free = self.index == NOBODY
        return Matches(np.where(free, -1, self.index), np.where(free, np.nan, self.r))

    def update(self, rows: Int64, found: Matches, people: Int64 | None) -> None:
        """Merge what was found for some queries (in place); of one image, or person, found twice the larger r counts.

        ``people`` is the person of each training image, ``(image,)``, or None if every image stands for itself.
        """
        k = self.r.shape[1]
        index = np.concatenate([self.index[rows], found.index], axis=1)
        r = np.concatenate([self.r[rows], found.r], axis=1)
        index, r = _sorted(index, r, _who(index, people))
        who = _who(index, people)
        again = np.zeros(index.shape, np.bool_)
        again[:, 1:] = (who[:, 1:] == who[:, :-1]) & (who[:, 1:] != NOBODY)
        r[again], index[again] = -np.inf, NOBODY
        index, r = _sorted(index, r, -r)
        self.index[rows], self.r[rows] = index[:, :k], r[:, :k]


def _who(index: Int64, people: Int64 | None) -> Int64:
    """The person of each image; of a free place NOBODY."""
    if people is None:
        return index
    free = index == NOBODY
    return np.where(free, NOBODY, people[np.where(free, 0, index)])


def _sorted(index: Int64, r: Float64, key: NDArray[np.generic]) -> tuple[Int64, Float64]:
    """Rows ordered by ``key``, among equals by largest r, then by lowest index."""
    order = np.lexsort((index, -r, key), axis=1)
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(r, order, axis=1)


@dataclass(frozen=True)
class Groups:
    """Group (subject) of each query and training image; a query is not compared with its own group.

    Integers, ``(query,)`` and ``(training image,)``; a negative group shares nothing with anybody.
    """

    queries: Int64
    train: Int64

    def excluded(self, rows: Rows, columns: Rows) -> NDArray[np.bool_]:
        """Boolean ``(query, training image)``: pairs that must not be compared."""
        queries = self.queries[rows][:, None]
        result: NDArray[np.bool_] = (queries == self.train[columns][None, :]) & (queries >= 0)
        return result


def nothing(n: int, k: int, above: float | None = None) -> Matches:
    """The state that a search of n queries starts from."""
    least = -np.inf if above is None else np.nextafter(above, np.inf)
    return Matches(np.full((n, k), NOBODY), np.full((n, k), least))


def each_its_own(groups: Int64) -> Int64:
    """The same groups numbered from 0, those that are negative, which share nothing with anybody, each as its own."""
    number = np.unique(groups, return_inverse=True)[1]
    numbers: Int64 = np.where(groups < 0, len(groups) + np.arange(len(groups)), number)
    return numbers


def best_of(rows: Int64, columns: Int64, r: Float64, n: int, k: int, people: Int64 | None) -> Matches:
    """The k best of each of n rows from pairs ``(row, column, r)`` in any order, of k people (as in ``update``)."""
    order = np.lexsort((columns, -r, rows))
    rows, columns, r = rows[order], columns[order], r[order]
    if people is not None:
        pair = rows * (people.max(initial=0) + 1) + people[columns]
        first = np.sort(np.unique(pair, return_index=True)[1])
        rows, columns, r = rows[first], columns[first], r[first]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    keep = rank < k
    top = nothing(n, k)
    top.index[rows[keep], rank[keep]] = columns[keep]
    top.r[rows[keep], rank[keep]] = r[keep]
    return top
