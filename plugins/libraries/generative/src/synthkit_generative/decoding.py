"""Labels as the grey levels that a generator draws, and back: what was unclear, which rims a blurred edge leaves.

The lowest grey level is that of the first label in an order, the next that of the second. In the study the order is
that of the values; one in which neighbours in space are neighbours leaves fewer rims of a third label between two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit.data.labels import from_grey, grey_levels, to_grey
from synthkit.errors import UsageError

#: Grey levels up to this count as black when they touch the edge of the image through other black pixels.
BLACK = 8


def read_order(text: str, label_values: Sequence[int]) -> tuple[int, ...]:
    """The order that ``text`` names, as "0,2,4,1"; without text that of the values.

    Raises
    ------
    UsageError : not each of the labels once, or not background first.
    """
    values = tuple(sorted(label_values))
    if not text.strip():
        return values
    try:
        order = tuple(int(item) for item in text.split(","))
    except ValueError:
        order = ()
    if tuple(sorted(order)) != values or order[0] != values[0]:
        raise UsageError(
            f"label_order={text} does not order the labels of this dataset.",
            f"They are {', '.join(map(str, values))}; each has to be in it once, and {values[0]} first.",
            f"Give it as -p label_order={','.join(map(str, values))}, in the order you want.",
        )
    return order


def encode(labels: NDArray[np.uint8], order: Sequence[int]) -> NDArray[np.uint8]:
    """Labels as grey levels, the first of ``order`` as the lowest. Values outside it become the first, background."""
    codes: NDArray[np.uint8] = to_grey(_recoded(labels, order, sorted(order)), order)
    return codes


def decode(grey: NDArray[np.uint8], order: Sequence[int]) -> NDArray[np.uint8]:
    """The labels whose grey levels are nearest, of a generator that has learned them in this ``order``."""
    codes, _ = from_grey(grey, order)
    return _recoded(codes, sorted(order), order)


def _recoded(labels: NDArray[np.uint8], old: Sequence[int], new: Sequence[int]) -> NDArray[np.uint8]:
    table = np.full(256, new[0], dtype=np.uint8)
    table[list(old)] = new
    found: NDArray[np.uint8] = table[labels]
    return found


def surroundings(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels ``(y, x)`` outside the head: black in all contrasts of ``image (contrast, y, x)``, joined to the edge.

    Real images are exactly 0 there, and normalisation over non-zero pixels relies on it; and nothing is labelled there.
    """
    regions, _ = ndimage.label(image.max(axis=0) <= BLACK)
    edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    return np.isin(regions, edge[edge > 0])


def unclear(grey: NDArray[np.uint8], decoded: NDArray[np.uint8], label_values: Sequence[int]) -> NDArray[np.bool_]:
    """Where the grey level is further from the level that it was ``decoded`` as than a quarter of the least gap."""
    levels = grey_levels(label_values).astype(np.int16)
    gap = np.diff(np.sort(levels)).min() if len(levels) > 1 else 255
    return np.abs(grey - decoded.astype(np.int16)) > gap / 4


def settled(labels: NDArray[np.uint8], clear: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Labels ``(y, x)`` where every pixel that is not ``clear`` has the label of the nearest one that is.

    Without a clear pixel they stay as they are.
    """
    if not clear.any():
        return labels
    nearest = ndimage.distance_transform_edt(~clear, return_distances=False, return_indices=True)
    found: NDArray[np.uint8] = labels[tuple(nearest)]
    return found


def thin_rims(levels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of ``(y, x)`` that, along y or x, stand alone between one of a lower and one of a higher level.

    In the study's order a blurred edge between background (grey 0) and enhancing tumour (204) passes through the levels
    of necrosis (51) and oedema (102), which decodes to such rims. A true rim one pixel thin counts too: compare with
    real labels.
    """
    found = np.zeros(levels.shape, dtype=np.bool_)
    for turned, into in ((levels, found), (levels.T, found.T)):
        before, here, after = turned[:-2], turned[1:-1], turned[2:]
        into[1:-1] |= ((before < here) & (here < after)) | ((before > here) & (here > after))
    return found
