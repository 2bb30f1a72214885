"""For every query image the training images of largest r by some rules: exact, in bounded memory.

They may be asked for by person: the best image of each of the nearest people. The rules, and what r is, are in
``rules.py``. Three ways lead to the same answer, to the last bit. The *dense* way (``dense.py``) takes all inner
products by matrix multiplication in float32, in pieces short enough that every partial sum is an exactly represented
integer (see ``pixels.CHUNK``), and adds the pieces in float64, where they are exact too.
The *cascade* (``cascade.py``) takes inner products, in integers, only of pairs whose certified upper bound allows them
to win. A probe of the queries decides, view by view, and a query that the cascade cannot prune goes the dense way on
its own. On a GPU (``device.py``) all inner products are taken in int8 with 32-bit sums.

The winner is that of a brute force in float64 and r agrees with it to 1e-14. Ties (equal r) go to the lowest training
index.

Memory: the training images are held as one byte a pixel of the box that contains their non-zero pixels (and one more
for the brain), at most ``memory_mb`` at a time (more images: more passes over the queries), plus about 5 KB an image,
view and measure for the cascade, plus about 1 GB of workspace. Queries are read in blocks and never held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.dense import AllPairs, Dense
from synthkit_memorization.search.matches import NOBODY, Groups, Matches, each_its_own, nothing
from synthkit_memorization.search.pixels import Block, Images, Int64, make_block, shards
from synthkit_memorization.search.products import multiply_bytes
from synthkit_memorization.search.rules import (
    IN_PLACE,
    MEASURES,
    N_PRODUCTS,
    N_TRANSFORMATIONS,
    RULES,
    Key,
    Measure,
    View,
    check_size,
)
from synthkit_memorization.search.transformations import transformed

if TYPE_CHECKING:  # compiled code and PyTorch are loaded where they are used
    from synthkit_memorization.search.bound import Directions
    from synthkit_memorization.search.cascade import Cascade

__all__ = ["RULES", "Groups", "Matches", "best_matches", "every_view"]

#: Queries of one block, and the bytes that their images may take.
QUERY_BLOCK, QUERY_BYTES = 1024, 2**28
QUERY_BATCH = 128

#: Below this many queries or training images an index costs more than it saves, and below this many products of two
#: pixels, in all (a few seconds of matrix multiplication) or of a contrast of one query, so does compiling and running
#: the code that uses it. Where bytes are multiplied (``products.py``), it takes so many times as many.
MINIMUM_FOR_CASCADE, MINIMUM_PRODUCTS, MINIMUM_OF_ONE = 512, 4 * 10**11, 10**7
TIMES_IN_BYTES = 8

#: Queries and training images, evenly spaced, on which the cascade is tried; it must prune this share of the queries.
PROBE_QUERIES, PROBE_TRAIN = 64, 2048
PROBE_SHARE = 0.5

#: It is not even tried where low frequencies hold less than this share of the training images: on white noise.
MINIMUM_HELD = 0.5

Method = Literal["auto", "dense", "cascade", "torch"]

#: The best so far, by view and rule.
State = dict[tuple[str, str], Matches]


def every_view(contrasts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Each contrast on its own and, if there are several, "joint": all of them as one long image."""
    views: dict[str, tuple[int, ...]] = {name: (position,) for position, name in enumerate(contrasts)}
    return {**views, "joint": tuple(range(len(contrasts)))} if len(contrasts) > 1 else views


def best_matches(
    queries: Images,
    train: Images,
    *,
    views: Mapping[str, tuple[int, ...]] | None = None,
    rules: Sequence[str] = ("pearson",),
    k: int = 1,
    distinct: Int64 | None = None,
    exclude: Groups | None = None,
    above: Mapping[tuple[str, str], float] | None = None,
    background: int = 8,
    shift_px: int = 2,
    memory_mb: float = 2048,
    method: Method = "auto",
    device: str = "cpu",
    report: Callable[[float], None] | None = None,
) -> State:
    """The k training images of largest r for every query, by each view and rule: a dictionary keyed (view, rule).

    Parameters
    ----------
    queries, train : datasets of equal contrasts and size; images uint8 ``(contrast, y, x)``.
    views : contrasts (positions) that are compared together; all of :func:`every_view` by default.
    rules : some of RULES (``rules.py``).
    k : matches to keep, at least 1.
    distinct : person of each training image, int64 ``(training image,)``: the k matches of a query are then the best
        images of the k people it is nearest to. An image with a negative number is a person of its own.
    exclude : pairs of the same group are not compared (leave-subject-out).
    above : only matches with r greater than this are asked for, by (view, rule); others are as if absent. Much faster.
    background : grey value, 0..254, that a pixel of the brain exceeds in some contrast (rules that look at the brain).
    shift_px : how far the rule "shift" moves the query, in pixels.
    memory_mb : training pixels held at a time, in MB.
    method : "auto" decides by a probe; "dense", "cascade" and "torch" force one. The answer is the same.
    device : "cpu", or a device of PyTorch such as "cuda", where all pairs are then compared.
    report : called with the share done, 0..1.

    Raises
    ------
    ValueError : contrasts or sizes differ, an unknown rule, people of another number of images than there are, or
        images too large for exact sums (11.9 million pixels).
    PluginError : the linear algebra of this machine rounds float32 products (a reduced-precision mode), or PyTorch
        cannot use the device.
    """
    if queries.contrasts != train.contrasts or queries.size != train.size:
        raise ValueError(
            f"queries are {queries.contrasts} {queries.size}, training images {train.contrasts} {train.size}"
        )
    if unknown := sorted(set(rules) - set(RULES)):
        raise ValueError(f"unknown rules {', '.join(unknown)}; there are {', '.join(RULES)}")
    if distinct is not None and len(distinct) != len(train):
        raise ValueError(f"people of {len(distinct)} images are given for {len(train)} training images")
    people = None if distinct is None or k == 1 else each_its_own(np.asarray(distinct, np.int64))
    views = every_view(train.contrasts) if views is None else views
    image_pixels = train.size[0] * train.size[1]
    check_size(image_pixels * len(train.contrasts))
    measured: dict[Key, View] = {}
    for rule in rules:
        for name, contrasts in views.items():
            measured[name, MEASURES[rule]] = View(MEASURES[rule], contrasts, image_pixels)
    above = above or {}
    best: State = {(v, rule): nothing(len(queries), k, above.get((v, rule))) for v in views for rule in rules}
    for shard in shards(train, int(memory_mb * 1e6), _background(rules, background)):
        on = device if device != "cpu" or method == "torch" else None
        search = ShardSearch(shard, measured, k, exclude, on, people)
        large = method == "auto" and _is_large(shard, len(queries), _contrasts_compared(views, rules))
        if device == "cpu" and (method == "cascade" or large):
            search.build_cascades(None if method == "cascade" else queries, rules, best, background, shift_px)
        for rows in _blocks(queries):
            images = _read(queries, rows)
            for together in _by_transformation(rules):
                inside = _background(together, background)
                for changed in transformed(images, together[0], shift_px, background):
                    search.update(best, make_block(changed, shard.box, int(rows[0]), inside), rows, together)
            if report is not None:
                done = shard.start + len(shard) * (int(rows[-1]) + 1) / len(queries)
                report(done / len(train))
    return {key: found.finished() for key, found in best.items()}


def _contrasts_compared(views: Mapping[str, tuple[int, ...]], rules: Sequence[str]) -> int:
    """Contrasts whose products all pairs need: each once a transformation, however many views share it."""
    used = {contrast for contrasts in views.values() for contrast in contrasts}
    return len(used) * sum(N_TRANSFORMATIONS[rule] * N_PRODUCTS[MEASURES[rule]] for rule in rules)


def _is_large(shard: Block, n_queries: int, n_contrasts: int) -> bool:
    """Whether there is so much to compare that a cascade may pay."""
    of_one = len(shard) * shard.box.n_pixels
    in_all = of_one * n_queries * n_contrasts
    if min(len(shard), n_queries) < MINIMUM_FOR_CASCADE or in_all < MINIMUM_PRODUCTS or of_one < MINIMUM_OF_ONE:
        return False
    times = TIMES_IN_BYTES if multiply_bytes() is not None else 1
    return in_all >= times * MINIMUM_PRODUCTS and of_one >= times * MINIMUM_OF_ONE


def _background(rules: Sequence[str], background: int) -> int | None:
    """The background, if any of the rules needs to know the brain."""
    return background if any(MEASURES[rule] == "brain" for rule in rules) else None


def _by_transformation(rules: Sequence[str]) -> list[tuple[str, ...]]:
    """The rules, those together that leave the query as it is."""
    in_place = tuple(rule for rule in rules if rule in IN_PLACE)
    return [group for group in (in_place, *((rule,) for rule in rules if rule not in in_place)) if group]


class ShardSearch:
    """All views of one block of training images, each by its cascade if it has one, else all pairs.

    ``device`` is one of PyTorch, or None to take all pairs by NumPy; ``people`` the person (0 or more) of each training
    image, not of those of the shard alone, or None.
    """

    def __init__(
        self,
        shard: Block,
        views: Mapping[Key, View],
        k: int,
        exclude: Groups | None,
        device: str | None = None,
        people: Int64 | None = None,
    ) -> None:
        self.shard = shard
        self.views = dict(views)
        self.k = k
        self.exclude = exclude
        self.people = people
        self._people_here = None if people is None else people[shard.start : shard.stop]
        self.cascades: dict[Measure, Cascade] = {}
        self.dense: AllPairs
        if device is None:
            self.dense = Dense(shard, self.views, self._people_here)
        else:
            from synthkit_memorization.search.device import OnDevice

            self.dense = OnDevice(shard, self.views, self._people_here, device)

    def build_cascades(
        self, queries: Images | None, rules: Sequence[str], best: State, background: int, shift_px: int
    ) -> None:
        """Index the shard; with ``queries``, only the views where a trial shows that most of them are pruned."""
        from synthkit_memorization.search.bound import Directions

        for measure in {key[1] for key in self.views}:
            views = {key: view for key, view in self.views.items() if key[1] == measure}
            directions = Directions(self.shard, views)
            if queries is not None:
                views = {key: view for key, view in views.items() if directions.held(key) >= MINIMUM_HELD}
            if queries is not None and views:
                rule = next(rule for rule in rules if MEASURES[rule] == measure)
                rows = _evenly(len(queries), PROBE_QUERIES)
                images = next(transformed(_read(queries, rows), rule, shift_px, background))
                block = make_block(images, self.shard.box, 0, _background((rule,), background))
                views = self._that_pay(directions, block, rows, views, {key: best[key[0], rule] for key in views})
            if views:
                from synthkit_memorization.search.cascade import Cascade

                groups = None if self.exclude is None else self.exclude.train[self.shard.start : self.shard.stop]
                self.cascades[measure] = Cascade(directions, self.shard, views, groups, self._people_here)

    def _that_pay(
        self, directions: Directions, block: Block, rows: Int64, views: dict[Key, View], best: Mapping[Key, Matches]
    ) -> dict[Key, View]:
        """The views whose cascade solves enough of some queries on a part of the shard."""
        from synthkit_memorization.search.cascade import Cascade

        columns = _evenly(len(self.shard), PROBE_TRAIN)
        mine, theirs = self._groups(rows, self.shard.start + columns)
        people = None if self._people_here is None else self._people_here[columns]
        trial = Cascade(directions, self.shard.take(columns), views, theirs, people)
        found = trial.search(block, {key: best[key].r[rows, -1] for key in views}, self.k, mine)
        paying = {key: view for key, view in views.items() if found[key][1].mean() >= PROBE_SHARE}
        # Inner products of single contrasts come for free with those of a view that needs them for all pairs.
        dense = {c for key, view in views.items() if key not in paying for c in view.contrasts}
        return {key: view for key, view in paying.items() if not set(view.contrasts) <= dense}

    def update(self, best: State, block: Block, rows: Int64, rules: Sequence[str]) -> None:
        """Merge the matches of a block of queries (positions ``rows`` of their dataset), transformed for ``rules``."""
        mine, _ = self._groups(rows, self.shard.start + np.arange(len(self.shard)))
        for rule in rules:
            measure = MEASURES[rule]
            states = {key: best[key[0], rule] for key in self.views if key[1] == measure}
            cascade = self.cascades.get(measure)
            pruned = {key: states[key].r[rows, -1] for key in states if cascade and key in cascade.views}
            left = [key for key in states if key not in pruned]
            if cascade and pruned:
                for key, (found, solved) in cascade.search(block, pruned, self.k, mine).items():
                    self._merge(states[key], rows[solved], found, solved)
                    if not solved.all():
                        self._all_pairs(block.take(~solved), rows[~solved], {key: states[key]})
            if left:
                self._all_pairs(block, rows, {key: states[key] for key in left})

    def _all_pairs(self, block: Block, rows: Int64, states: Mapping[Key, Matches]) -> None:
        excluded = None
        if self.exclude is not None:
            excluded = self.exclude.excluded(rows, slice(self.shard.start, self.shard.stop))
        floors = {key: state.r[rows, -1] for key, state in states.items()}
        for key, found in self.dense.search(block, floors, self.k, excluded).items():
            self._merge(states[key], rows, found, np.ones(len(rows), np.bool_))

    def _merge(self, state: Matches, rows: Int64, found: Matches, which: NDArray[np.bool_]) -> None:
        index = np.where(found.index == NOBODY, NOBODY, found.index + self.shard.start)
        state.update(rows, Matches(index[which], found.r[which]), self.people)

    def _groups(self, rows: Int64, columns: Int64) -> tuple[Int64 | None, Int64 | None]:
        if self.exclude is None:
            return None, None
        return self.exclude.queries[rows], self.exclude.train[columns]


def _blocks(queries: Images) -> Iterator[Int64]:
    """Positions of the queries of each block."""
    image_bytes = len(queries.contrasts) * queries.size[0] * queries.size[1]
    step = max(1, min(QUERY_BLOCK, QUERY_BYTES // image_bytes))
    return (np.arange(first, min(first + step, len(queries))) for first in range(0, len(queries), step))


def _read(queries: Images, rows: Int64) -> NDArray[np.uint8]:
    """Whole queries ``(n, contrast, y, x)``, read in small batches."""
    images = np.empty((len(rows), len(queries.contrasts), *queries.size), np.uint8)
    for first in range(0, len(rows), QUERY_BATCH):
        some = slice(first, first + QUERY_BATCH)
        images[some] = queries.read(rows[some])[0]
    return images


def _evenly(n: int, count: int) -> Int64:
    """``count`` positions evenly spaced in ``range(n)``, without repetition."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).astype(np.int64))
