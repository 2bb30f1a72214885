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
    # The labels, with room for what is around them and for every move.
    reach = _AROUND + max(DISTANCES)
    used = (np.flatnonzero(labels.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(max(int(at[0]) - reach, 0), int(at[-1]) + reach + 1) for at in used)
    labels, brain = labels[box], brain[box]
    y, x = np.nonzero(ndimage.maximum_filter(labels > 0, size=2 * _AROUND + 1, mode="constant"))
    thinned = slice(None, None, -(-len(y) // _MOST_PIXELS))
    y, x = y[thinned], x[thinned]
    numbers = np.bincount(labels[y, x])
    found = np.flatnonzero(numbers)
    if len(found) < 2:
        return np.nan
    # Grey levels less their mean, or rounding of their squares would count; 0 outside the brain.
    grey = image[:, *box].astype(np.float32)
    grey -= ((grey * brain).sum(axis=(1, 2)) / max(np.count_nonzero(brain), 1))[:, None, None]
    grey *= brain
    # All pixels at once, each where each move finds it; what would lie beyond the image is the pixel at its edge.
    at_y = np.clip(y + _MOVES[:, :1], 0, labels.shape[0] - 1)
    at = at_y * labels.shape[1] + np.clip(x + _MOVES[:, 1:], 0, labels.shape[1] - 1)
    of_label = (labels[y, x][:, None] == found).astype(np.float32)
    inside = brain.ravel().take(at).astype(np.float32) @ of_label
    seen = grey.reshape(len(grey), -1).take(at, axis=1)
    # Of the pixels inside, by contrast, move and label: their sums, less what their mean over all labels makes of them.
    sums = (seen.reshape(-1, len(y)) @ of_label).reshape(*seen.shape[:2], len(found))
    n_inside = np.maximum(inside.sum(axis=1), 1)
    means = sums.sum(axis=2) / n_inside
    between = ((sums - means[:, :, None] * inside) ** 2 / numbers[found]).sum(axis=2)
    total = np.einsum("cmp,cmp->cm", seen, seen) - n_inside * means**2
    fit = (between / np.maximum(total, 1)).mean(axis=0)
    best = fit.argmax()
    return float(_LENGTHS[best]) if fit[0] < (1 - _LEAST_LOSS) * fit[best] else 0.0
