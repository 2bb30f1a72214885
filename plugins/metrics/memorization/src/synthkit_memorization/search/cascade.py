"""Exact best matches from few pairs: a certified bound rules out the others.

The bound of ``bound.py`` is taken for all pairs with a short prefix, as one matrix product; for the survivors with
longer ones; what is left is decided by exact inner products of the pixels, in order of the bound, until the bound falls
below the k-th best r found (of the k-th person, where people are told apart: the seeds, too, are of k people, and an
image of a person who is among the k already must beat what that person has). A query with too many survivors is left
to the dense way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.bound import LEVELS, Directions, Embedding, slack
from synthkit_memorization.search.kernels import Answer, Side, Task, search
from synthkit_memorization.search.matches import NOBODY, Matches
from synthkit_memorization.search.pixels import Block, Float64, Int64
from synthkit_memorization.search.rules import Key, View
from synthkit_memorization.search.threads import for_each

#: Queries of one matrix product of the first bound.
QUERIES = 128
#: Survivors of the first and of the last bound, as shares of the training images, beyond which a query is left to the
#: dense way: more longer bounds, or exact steps, cost more than that.
MOST_SURVIVORS = {"pearson": (1 / 4, 1 / 8), "brain": (1.0, 1 / 3)}
#: Survivors that are never too many.
FEW = 64


class Cascade:
    """The index of some views of one measure on a block of training images (in the box of the directions).

    ``groups`` of the training images, int64 ``(image,)``, or None if every pair is compared; ``people`` likewise, no
    two matches of a query being of one, or None if every image stands for itself.
    """

    def __init__(
        self,
        directions: Directions,
        shard: Block,
        views: Mapping[Key, View],
        groups: Int64 | None,
        people: Int64 | None = None,
    ) -> None:
        self._directions = directions
        self.views = dict(views)
        self._shard = shard
        self._embeddings = directions.embed(shard, self.views)
        self._people = np.arange(len(shard)) if people is None else people
        self._sides = {key: _side(shard, view, self._embeddings[key], groups) for key, view in self.views.items()}

    def search(
        self, block: Block, floors: Mapping[Key, Float64], k: int, groups: Int64 | None
    ) -> dict[Key, tuple[Matches, NDArray[np.bool_]]]:
        """By each view with a floor (a value a query): the k best that reach it, as positions in the shard, and which
        queries are solved; the rows of the others mean nothing."""
        embeddings = self._directions.embed(block, floors)
        return {key: self._one(block, key, embeddings[key], floors[key], k, groups) for key in floors}

    def _one(
        self, block: Block, key: Key, embedding: Embedding, floor: Float64, k: int, groups: Int64 | None
    ) -> tuple[Matches, NDArray[np.bool_]]:
        n, m, view = len(block), len(self._shard), self.views[key]
        task = Task(
            np.array(view.contrasts, np.int64),
            view.measure == "brain",
            view.n_pixels,
            k,
            np.ascontiguousarray(floor),
            np.array([slack(prefix) for prefix in LEVELS]),
            np.array([max(FEW, int(share * m)) for share in MOST_SURVIVORS[view.measure]]),
            self._people,
        )
        x, y = _side(block, view, embedding, groups), self._sides[key]
        answer = Answer(np.full((n, k), NOBODY), np.full((n, k), -np.inf), np.zeros(n, np.bool_))
        theirs = self._embeddings[key].short

        def solve(part: slice) -> None:
            search(embedding.short[part] @ theirs.T, part.start, part.stop, task, x, y, answer)

        for_each(solve, n, QUERIES)
        return Matches(answer.index, answer.r), answer.solved


def _side(block: Block, view: View, embedding: Embedding, groups: Int64 | None) -> Side:
    moments = view.moments(block)
    return Side(
        block.pixels,
        np.zeros((1, 1), np.int8) if view.measure == "pearson" or block.brain is None else block.brain.mask,
        embedding.tail,
        embedding.rho,
        moments.variance,
        moments.sums,
        moments.offsets,
        moments.nearest,
        moments.rest,
        np.full(len(block), -1) if groups is None else groups,
    )
