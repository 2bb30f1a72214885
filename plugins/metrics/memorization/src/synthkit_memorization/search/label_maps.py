"""Label maps as images: for labels of a training image under whatever image.

Each region of the scheme (every label, and the nested ones) is one channel, 255 inside and 0 outside; "any label" is
one more where no region has all labels. They are to be compared together (the view of all channels), by Pearson's r:
a pixel counts the more regions two maps agree on. Maps are seen in place, or centred: in a window of half the longer
side around the centroid of what is labelled, at its native scale, so that maps that were moved agree. Both are reduced
(``windows.py``). Small maps are not seen at all: everybody has such a one.

Measured on 240 phantom people, 12 slices of 64 pixels each: maps of 120 people among those of the others, d =
sqrt(1 - r), in place also mirrored and moved by a pixel, centred over mirrors and quarter turns. The smallest d of a
person:

| maps of at least | in place: median | minimum / median | centred: median | minimum / median |
|---|---|---|---|---|
| 20 px | 0.52 | 0.60 | 0.38 | 0.55 |
| 40 px | 0.52 | 0.71 | 0.41 | 0.52 |
| 80 px | 0.54 | 0.71 | 0.46 | 0.70 |
| 120 px | 0.55 | 0.79 | 0.47 | 0.78 |

(Centred at 20, 40 and 120 px also moved by a pixel.) Copies have d = 0, centred also when they are moved, upside down
or turned by 90 degrees. Below 0.7 of the median are, of maps deformed by a smooth field, 94 % in place and 61 % centred
(rms 0.5 px), 49 % and 8 % (1 px); of maps smoothed by a median over 3 x 3 pixels 69 % and 38 %.
One channel of "any label" has d of 0.37 in place and 0.26 centred, one of levels 0.33 and 0.25: copies stand out less.
Labels that lie in all images alike (brain and CSF by thresholds, 60 + 60 people) have medians of 0.24 and 0.26 and
minima of 0.76 and 0.67 of them: strangers agree more, but all alike, so a null of people takes it into account.
Five real people (BraTS, 240 pixels, all slices): smallest d in place of 0.49 to 0.75; centred, where three have maps
that are large enough, of 0.41 to 0.45.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit.schemes import Scheme
from synthkit_memorization.search import windows
from synthkit_memorization.search.pixels import READ_BATCH, Images, Int64

#: Pixels that a map has at least, when reduced, in place and centred. Below, maps agree by chance: see above.
LEAST, LEAST_CENTRED = 40, 80

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

    def __init__(self, images: Images, scheme: Scheme, *, like: Scheme | None = None, centred: bool = False) -> None:
        """``scheme`` is that of the images; ``like`` the one whose channels are shown, if another: they meet by name.

        All label maps are read once, to find those that are large enough.
        """
        self._images, self._centred = images, centred
        self.contrasts = tuple(channels(like or scheme))
        self._values = [{**scheme.region_values, ANY: scheme.values[1:]}.get(name, ()) for name in self.contrasts]
        side = windows.window_side(images.size)
        self.size = (side, side) if centred else windows.reduced_size(images.size)
        self.rows = _of_at_least(images, LEAST_CENTRED if centred else LEAST)

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
