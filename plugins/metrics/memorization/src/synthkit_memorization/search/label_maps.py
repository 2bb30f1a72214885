"""Label maps as images: for labels of a training image under whatever image.

Each region of the scheme (every label, and the nested ones) is one channel, 255 inside and 0 outside; "any label" is
one more where no region has all labels. They are to be compared together (the view of all channels), by Pearson's r:
a pixel counts the more regions two maps agree on. Maps are seen in place, or centred: in a window of half the longer
side around the centroid of what is labelled, at its native scale, so that maps that were moved agree. Both are reduced
(``windows.py``). Maps with less than LEAST reduced pixels are not seen at all: everybody has such a one.

Measured on 240 phantom people of 12 slices of 64 pixels, the half of them against the other: MEASURED
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.schemes import Scheme
from synthkit_memorization.search import windows
from synthkit_memorization.search.pixels import READ_BATCH, Images, Int64

#: Pixels that a centred map has at least, when reduced: they agree by chance up to a greater size than those in place.
LEAST_CENTRED = 80

#: The channel of everything that is labelled.
ANY = "any label"


def channels(scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Names of the channels, and the values of labels that each shows."""
    values = dict(scheme.region_values)
    if any(set(scheme.values[1:]) == set(region) for region in values.values()):
        return values
    return {**values, ANY: scheme.values[1:]}


class LabelMaps:
    """The label maps of a dataset that are large enough to be somebody's, as the search reads images.

    Attributes
    ----------
    rows : int64 ``(map,)``, ascending, the image of the dataset that each map is of.
    contrasts : names of the channels. size : of a map as it is read, at most windows.SIDE a side.
    """

    def __init__(self, images: Images, scheme: Scheme, *, centred: bool = False) -> None:
        """All label maps are read once, to find those that are large enough."""
        self._images, self._centred = images, centred
        values = channels(scheme)
        self._values = list(values.values())
        self.contrasts = tuple(values)
        side = windows.window_side(images.size)
        self.size = (side, side) if centred else windows.reduced_size(images.size)
        self.rows = _of_at_least(images, LEAST_CENTRED if centred else windows.LEAST)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Channels uint8 ``(n, region, y, x)``, 255 times the share of a pixel; and 1 where any label has a half."""
        labels = self._images.read(self.rows[np.asarray(indices, dtype=np.int64)])[1]
        cell = windows.cell_of(self._images.size)
        if self._centred:
            cut = [windows.window(one, one > 0) for one in labels]
            labels = np.array(cut, np.uint8).reshape(-1, cell * self.size[0], cell * self.size[1])
        shown = windows.means(labels > 0, cell) >= 0.5
        shares = np.stack([windows.means(np.isin(labels, values), cell) for values in self._values], axis=1)
        return np.rint(255 * shares).astype(np.uint8), shown.astype(np.uint8)


def _of_at_least(images: Images, least: int) -> Int64:
    """Rows of the images with so many labelled pixels, when reduced; ascending."""
    found = [np.zeros(0, np.int64)]
    for first in range(0, len(images), READ_BATCH):
        rows = np.arange(first, min(first + READ_BATCH, len(images)))
        labelled = np.count_nonzero(images.read(rows)[1], axis=(1, 2))
        found.append(rows[labelled >= windows.in_pixels(least, images.size)])
    return np.concatenate(found)
