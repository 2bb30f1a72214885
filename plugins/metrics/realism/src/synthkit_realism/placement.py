"""Whether labels lie on their image: how far they would have to be moved to fit it best.

Labels fit an image if they say where its grey levels differ: if of the variance of the pixels in and around them, the
largest share lies between labels (background one of them), and not within (the correlation ratio; Roche et al., MICCAI
1998, register images by it). Labels in their place fit best where they are, whatever their size, shape and brightness;
labels that were moved, or are another image's, fit better somewhere else. What lies outside the brain says nothing, or
its edge would decide.

On real and phantom slices of 64 to 256 pixels with labels in their place, at most 4 % are found to be off; with labels
5 pixels off 88 % and more, with labels grown by a pixel up to 14 %, with images blurred by 2 pixels up to 13 %.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

    Float64 = NDArray[np.float64]

#: Pixels by which labels are moved, in eight directions; a step of 3 is found if they are off by 2 or more.
DISTANCES = (3, 6, 9)
# Background this near to a label is what it differs from.
_AROUND = 4
# Fewer labelled pixels than this fit anywhere; more pixels than these, in and around labels, are thinned.
_MIN_PIXELS, _MOST_PIXELS = 20, 800
# Labels are off if they fit by so much less where they are than where they fit best.
_LEAST_LOSS = 0.3

_MOVES = np.array(
    [(0, 0)] + [(round(y * d / max(np.hypot(y, x), 1)), round(x * d / max(np.hypot(y, x), 1)))
                for d in DISTANCES for y, x in product((-1, 0, 1), repeat=2) if y or x]
)  # fmt: skip
_LENGTHS = np.concatenate([[0], np.repeat(DISTANCES, 8)]).astype(np.float64)


def distances_off(images: UInt8Array, labels: UInt8Array, brain: NDArray[np.bool_]) -> Float64:
    """How far the labels of each slice would have to be moved to fit its image best, pixels.

    Parameters
    ----------
    images, labels, brain : ``(n, contrast, y, x)``, and ``(n, y, x)`` both others; label 0 is background.

    Returns
    -------
    ``(n,)``: 0, or one of :data:`DISTANCES` where they fit clearly better there; NaN with fewer than 20 labelled
    pixels, or where nothing is around them.
    """
    slices = zip(images, labels, brain, strict=True)
    return np.array([_distance_off(*each) for each in slices], dtype=np.float64)


def _distance_off(image: UInt8Array, labels: UInt8Array, brain: NDArray[np.bool_]) -> float:
    if np.count_nonzero(labels) < _MIN_PIXELS:
        return np.nan
    rows, columns = (np.flatnonzero(labels.any(axis=axis)) for axis in (1, 0))
    top, left = (max(int(used[0]) - _AROUND, 0) for used in (rows, columns))
    box = labels[top : rows[-1] + _AROUND + 1, left : columns[-1] + _AROUND + 1]
    y, x = np.nonzero(ndimage.maximum_filter(box > 0, size=2 * _AROUND + 1, mode="constant"))
    thinned = slice(None, None, -(-len(y) // _MOST_PIXELS))
    y, x = y[thinned], x[thinned]
    found, which = np.unique(box[y, x], return_inverse=True)
    if len(found) < 2:
        return np.nan
    # All pixels at once, each where each move finds it; what would lie beyond the image is the pixel at its edge.
    at_y = np.clip(top + y + _MOVES[:, :1], 0, image.shape[1] - 1)
    at_x = np.clip(left + x + _MOVES[:, 1:], 0, image.shape[2] - 1)
    inside = brain[at_y, at_x].astype(np.float32)
    seen = image[:, at_y, at_x] * inside
    seen -= inside * (seen.sum(axis=2) / np.maximum(inside.sum(axis=1), 1))[:, :, None]
    sums = seen @ (which[:, None] == np.arange(len(found))).astype(np.float32)
    between = (sums**2 / np.bincount(which)).sum(axis=2)
    total = (seen**2).sum(axis=2)
    fit = (between / np.maximum(total, 1)).mean(axis=0)
    best = fit.argmax()
    return float(_LENGTHS[best]) if fit[0] < (1 - _LEAST_LOSS) * fit[best] else 0.0
