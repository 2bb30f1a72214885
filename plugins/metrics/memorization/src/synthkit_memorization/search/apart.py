"""Images compared where a label map says nothing: for images that were asked to have a real person's label map.

What such an image shares with that person by request must not count: the label map, where the tumour lies, how bright
its parts are. Three rules leave it out, each a Pearson r of some pixels of all contrasts, each contrast
centred in itself:

- ``outside``: pixels that neither of the two images has labelled, nor beside a labelled one.
- ``outside-brain``: those of them that are brain in both images.
- ``inside``: pixels that the query has labelled, each label centred in itself, so that r is of the texture in a label.

With weights a of the query and b of the other image, 1 for a pixel that counts and 0 for any other, all sums are inner
products: sum a b x y - (sum a b x)(sum a b y) / sum a b, and so on. They are in float64; r of an image with itself is 1
within 1e-9. Images are reduced to at most ``windows.SIDE`` pixels a side first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit_memorization.search import windows
from synthkit_memorization.search.pixels import Float64, Images, Int64

OUTSIDE = ("outside", "outside-brain")
INSIDE = "inside"

#: Reduced pixels that two images must have in common: fewer agree by chance.
LEAST = 20

#: Images of a block, of queries or of others: what is held in memory at a time.
BLOCK = 128

#: Of a variance computed from sums, what may be rounding, as a share of the sum of squares.
ROUNDING = 1e-10


@dataclass(frozen=True)
class Reduced:
    """Some images. ``pixels`` are float64 ``(image, contrast, pixel)``; the others ``(image, pixel)``.

    ``labels`` has the label of pixels that are of one label altogether, else 0; ``open`` is where and beside where
    nothing is labelled.
    """

    pixels: Float64
    labels: NDArray[np.uint8]
    open: NDArray[np.bool_]
    brain: NDArray[np.bool_]

    @staticmethod
    def of(images: Images, rows: Int64, background: int) -> Reduced:
        """``background`` is the grey level that a pixel of the brain exceeds in any contrast."""
        pixels, labels = images.read(rows)
        cell, n = windows.cell_of(images.size), len(rows)
        seen = windows.means(pixels, cell)
        labelled = windows.means(labels > 0, cell)
        mean, square = windows.means(labels, cell), windows.means(labels.astype(np.float64) ** 2, cell)
        whole = np.isclose(square, mean**2) & (labelled > 0)
        beside = ndimage.binary_dilation(labelled > 0, np.ones((1, 3, 3), bool))
        return Reduced(
            seen.reshape(n, seen.shape[1], -1),
            np.where(whole, np.rint(mean), 0).astype(np.uint8).reshape(n, -1),
            ~beside.reshape(n, -1),
            (seen > background).any(axis=1).reshape(n, -1),
        )

    def taken_by(self, rule: str, other: Reduced) -> Iterator[tuple[Float64, Float64]]:
        """Weights of this image's pixels and of the other's, for each part that is centred in itself."""
        if rule == INSIDE:
            for value in np.unique(self.labels[self.labels > 0]):
                yield (self.labels == value).astype(np.float64), np.ones(other.open.shape)
        elif rule == "outside":
            yield self.open.astype(np.float64), other.open.astype(np.float64)
        else:
            yield (self.open & self.brain).astype(np.float64), (other.open & other.brain).astype(np.float64)


def correlations(queries: Reduced, others: Reduced, rule: str) -> Float64:
    """r by a rule, ``(query, other)``; 0 where one does not vary, NaN where fewer than LEAST pixels count."""
    shape = (len(queries.pixels), len(others.pixels))
    both, own, theirs, counted = (np.zeros(shape) for _ in range(4))
    for a, b in queries.taken_by(rule, others):
        n = a @ b.T
        counted += n
        for c in range(queries.pixels.shape[1]):
            x, y = queries.pixels[:, c], others.pixels[:, c]
            ax, by = a * x, b * y
            sum_x, sum_y, square_x, square_y = ax @ b.T, a @ by.T, (ax * x) @ b.T, a @ (by * y).T
            both += ax @ by.T - _over(sum_x * sum_y, n)
            own += _varying(square_x, _over(sum_x**2, n))
            theirs += _varying(square_y, _over(sum_y**2, n))
    r = np.clip(_over(both, np.sqrt(own * theirs)), -1.0, 1.0)
    r[counted < LEAST] = np.nan
    return r


def _over(numerator: Float64, denominator: Float64) -> Float64:
    result: Float64 = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return result


def _varying(squares: Float64, of_mean: Float64) -> Float64:
    variance = squares - of_mean
    result: Float64 = np.where(variance > ROUNDING * squares, variance, 0.0)
    return result


@dataclass(frozen=True)
class ToPeople:
    """How near some images come to each person of a side, by each rule: ``(query, person, rule)``.

    ``r`` of the person's nearest image, -inf where no image could be compared; ``index`` of that image.
    """

    r: Float64
    index: Int64

    @staticmethod
    def of(queries: Images, rows: Int64, people: Any, rules: Sequence[str], background: int) -> ToPeople:
        """``people`` are those of :class:`synthkit_memorization.people.People`; ``rows`` some of the queries."""
        r = np.full((len(rows), people.n, len(rules)), -np.inf)
        index = np.zeros(r.shape, np.int64)
        order = np.argsort(people.person, kind="stable")
        for start in range(0, len(rows), BLOCK):
            some = slice(start, start + BLOCK)
            one = Reduced.of(queries, rows[some], background)
            for first in range(0, len(order), BLOCK):
                block = order[first : first + BLOCK]
                other = Reduced.of(people.images, block, background)
                found = np.stack([correlations(one, other, rule) for rule in rules], axis=2)
                _keep_best(r[some], index[some], np.nan_to_num(found, nan=-np.inf), people.person[block], block)
        return ToPeople(r, index)


def _keep_best(r: Float64, index: Int64, found: Float64, person: Int64, images: Int64) -> None:
    """Write what a block found, ``(query, image, column)``, into ``r`` and ``index`` where it is more."""
    for number in np.unique(person):
        own = np.flatnonzero(person == number)
        place = found[:, own].argmax(axis=1)
        best = np.take_along_axis(found[:, own], place[:, None], 1)[:, 0]
        more = best > r[:, number]
        r[:, number] = np.where(more, best, r[:, number])
        index[:, number] = np.where(more, images[own[place]], index[:, number])
