"""From drawn grey levels to labels: what was unclear, which rims a blurred edge leaves, what is outside the head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit.labels import grey_levels, to_grey

#: Grey levels up to this count as black when they touch the edge of the image through other black pixels.
BLACK = 8


def blacken(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Set the surroundings of the head to 0, in place: unlabelled pixels black in all contrasts, joined to the edge.

    Real images are exactly 0 there, and normalisation over non-zero pixels relies on it.
    """
    regions, _ = ndimage.label((image.max(axis=0) <= BLACK) & (labels == 0))
    edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    image[:, np.isin(regions, edge[edge > 0])] = 0


def unclear(grey: NDArray[np.uint8], labels: NDArray[np.uint8], label_values: Sequence[int]) -> NDArray[np.bool_]:
    """Where the grey level is further from its label's level than a quarter of the way to the nearest other level."""
    levels = grey_levels(label_values).astype(np.int16)
    gap = np.diff(np.sort(levels)).min() if len(levels) > 1 else 255
    return np.abs(grey - to_grey(labels, label_values).astype(np.int16)) > gap / 4


def settled(labels: NDArray[np.uint8], clear: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Labels ``(y, x)`` where every pixel that is not ``clear`` has the label of the nearest one that is.

    Without a clear pixel they stay as they are.
    """
    if not clear.any():
        return labels
    nearest = ndimage.distance_transform_edt(~clear, return_distances=False, return_indices=True)
    found: NDArray[np.uint8] = labels[tuple(nearest)]
    return found


def thin_rims(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Labelled pixels of ``(y, x)`` that, along y or x, stand alone between a lower and a higher label.

    A blurred edge between background (grey 0) and enhancing tumour (204) passes through the levels of necrosis (51) and
    oedema (102), which decodes to such rims. A true rim one pixel thin counts too: compare with real labels.
    """
    found = np.zeros(labels.shape, dtype=np.bool_)
    for turned, into in ((labels, found), (labels.T, found.T)):
        before, here, after = turned[:-2], turned[1:-1], turned[2:]
        into[1:-1] |= ((before < here) & (here < after)) | ((before > here) & (here > after))
    return found
