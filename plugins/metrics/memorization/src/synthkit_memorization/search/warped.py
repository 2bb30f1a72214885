"""Copies that were warped: images in a finer frame, each bent onto the few people that it is likest to.

A person moved, turned, scaled, cropped and then warped lies in no common frame with the source, however many turns are
tried. So the search has two steps. The likest people (CANDIDATES of them) are those of the rule ``turned`` on frames of
half the resolution, exact as all searches; each then is turned as it matched best, bent by a smooth field that block
matching gives (``fields.py``), and compared. Real people, whom the cut comes from, go the same way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.matches import Matches
from synthkit_memorization.search.pixels import READ_BATCH, Float32, Float64, Images, Int64
from synthkit_memorization.search.threads import for_each
from synthkit_memorization.search.transformations import DEGREES, orientations, turned

#: Side of the frame in which images are bent, and blur of it (``frame.py``).
SIDE, BLUR = 48, 1.5
#: People that an image is bent onto.
CANDIDATES = 5
#: Pairs bent at a time.
PAIRS = 64


class Halved:
    """Images of half the resolution (:class:`pixels.Images`): each pixel the mean of four, rounded."""

    def __init__(self, source: Images) -> None:
        self._source = source
        self.contrasts = source.contrasts
        self.size = source.size[0] // 2, source.size[1] // 2

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Halved images and, for labels, zeros."""
        images = halved(self._source.read(indices)[0])
        return images, np.zeros((len(images), *self.size), np.uint8)


def halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of squares of four pixels, ``(..., y, x)``; a last odd row or column is left out."""
    wide = images.astype(np.uint16)
    height, width = images.shape[-2] // 2 * 2, images.shape[-1] // 2 * 2
    wide = wide[..., :height, :width]
    total = wide[..., ::2, ::2] + wide[..., 1::2, ::2] + wide[..., ::2, 1::2] + wide[..., 1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def bent(queries: Images, among: Images, candidates: Matches, k: int) -> Matches:
    """Of the candidates of each query, ``(query, CANDIDATES)``, the k that it comes nearest to once it is bent.

    Parameters
    ----------
    queries, among : square images in the finer frame.
    """
    r = np.full(candidates.index.shape, np.nan)
    for first in range(0, len(queries), READ_BATCH):
        rows = slice(first, min(first + READ_BATCH, len(queries)))
        r[rows] = _bent_onto(queries.read(range(rows.start, rows.stop))[0], among, candidates.index[rows])
    order = np.lexsort((candidates.index, -np.nan_to_num(r, nan=-np.inf)), axis=1)[:, :k]
    return Matches(np.take_along_axis(candidates.index, order, 1), np.take_along_axis(r, order, 1))


def _bent_onto(images: NDArray[np.uint8], among: Images, index: Int64) -> Float64:
    """r of images with each of their candidates, ``(image, candidate)``; NaN where there is none."""
    result = np.full(index.shape, np.nan)
    rows, places = np.nonzero(index >= 0)
    if not len(rows):
        return result
    used, which = np.unique(index[rows, places], return_inverse=True)
    others = among.read(used)[0]
    turns = _turned_as(images, others, rows, which)
    from synthkit_memorization.search.fields import REACH, STEP, WINDOW, bend, smoothing

    weights = smoothing((images.shape[-1] - WINDOW) // STEP + 1)
    padded = np.pad(others, ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH))).astype(np.float32)
    r = np.empty(len(rows))
    for_each(lambda part: bend(turns[part].astype(np.float32), padded[which[part]], weights, r[part]), len(r), PAIRS)
    result[rows, places] = r
    return result


def _turned_as(images: NDArray[np.uint8], others: NDArray[np.uint8], rows: Int64, which: Int64) -> NDArray[np.uint8]:
    """Of each pair (image ``rows``, other ``which``) the image turned as it is likest at half the resolution.

    uint8 ``(pair, contrast, y, x)``.
    """
    small, goal = halved(images), _units(halved(others))[which]
    best, likest = np.full(len(rows), -np.inf, np.float32), np.zeros((len(rows), 2), np.int64)
    for number, degrees in enumerate(DEGREES):
        for way, turn in enumerate(orientations(turned(small, degrees))):
            r = np.einsum("nd,nd->n", _units(turn)[rows], goal)
            better = r > best
            best[better], likest[better] = r[better], (number, way)
    result = np.empty((len(rows), *images.shape[1:]), np.uint8)
    for number, degrees in enumerate(DEGREES):
        pairs = np.flatnonzero(likest[:, 0] == number)
        used, place = np.unique(rows[pairs], return_inverse=True)
        for way, turn in enumerate(orientations(turned(images[used], degrees))):
            here = likest[pairs, 1] == way
            result[pairs[here]] = turn[place[here]]
    return result


def _units(images: NDArray[np.uint8]) -> Float32:
    """Images as rows of mean 0 and length 1, ``(image, pixel)``; zeros for a constant one."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    units: Float32 = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    return units
