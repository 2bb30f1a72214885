"""Tumours alone, as images: for one that was pasted into another head.

A *tumour* is a connected part of what is labelled, so an image may have several, and the pasted one is seen also beside
the head's own. Each is seen in a window of half the longer side around its centroid, reduced (``windows.py``): all
contrasts inside it, 0 outside. Inside, every contrast is raised above the background where it is not brighter, so the
rule ``brain`` takes exactly the tumour as its mask: where the head around it, and how bright each contrast is, count
nothing. Tumours of less than LEAST reduced pixels are not seen.
A rim of one reduced pixel is left out where LEAST pixels remain: a soft seam mixes it with the new head.

Measured on 240 phantom people, 12 slices of 64 pixels each: tumours of 120 people among those of the others, over
mirrors, quarter turns and moves of one pixel, d = sqrt(1 - r) by the rule ``brain``. The smallest d of a person has the
median 0.627 and the minimum 0.507 (0.81 of it). 120 transplants into tumour-free slices of strangers each; found: the
nearest is the source's, below 0.7 of the median.

| transplant | median d | 90 % quantile | found |
|---|---|---|---|
| in its place | 0.00 | 0.22 | 97 % |
| at another place | 0.00 | 0.00 | 100 % |
| mirrored | 0.00 | 0.23 | 92 % |
| turned by 90 degrees, at another place | 0.00 | 0.00 | 99 % |
| each contrast times 0.8 to 1.2 | 0.09 | 0.30 | 93 % |
| the same with an edge blurred by sigma 1 px | 0.15 | 0.37 | 93 % |
| at the host's grey levels | 0.15 | 0.33 | 97 % |
| with noise of sd 10 | 0.21 | 0.43 | 93 % |
| the whole image blurred by sigma 0.7 px | 0.32 | 0.47 | 89 % |

Found with their rim: 77 % of those with a blurred edge and 66 % of the blurred. A rim of the head around them, or
gradients as more channels, found fewer (in place 35 % and 85 %, where without it was 100 %; without mirrors and turns).
A tumour that runs into the host's own is one part with it, and is not found. Labels of whole organs (brain and CSF by
thresholds, 60 + 60 people) are seen as far as the window goes: the smallest d of a person has the median 0.72 and the
minimum 0.65. Five real people (BraTS, 240 pixels, all slices): smallest d of 0.67 to 0.77; 30 transplants between them
have a median of 0.24 and a 90 % quantile of 0.50.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit_memorization.search import windows
from synthkit_memorization.search.pixels import READ_BATCH, Images, Int64

#: Pixels that a tumour has at least, when reduced. Below, tumours agree by chance: when those of 8 pixels counted, the
#: minimum over 120 phantom people was 0.65 of the median.
LEAST = 20


class Tumours:
    """The tumours of a dataset that are large enough to be somebody's, as the search reads images.

    Attributes
    ----------
    rows : int64 ``(tumour,)``, ascending, the image of the dataset that each tumour is of.
    contrasts : of the dataset. size : of a window, at most half of windows.SIDE a side.
    """

    def __init__(self, images: Images, background: int) -> None:
        """``background`` is the grey level that brain exceeds in the search, 0 to 254. All label maps are read once."""
        self._images, self._least = images, background + 1
        self.contrasts = images.contrasts
        side = windows.window_side(images.size)
        self.size = (side, side)
        self.rows, self._numbers = _large_enough(images)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Windows uint8 ``(n, contrast, y, x)``, and 1 in what is shown of the tumour, ``(n, y, x)``."""
        which = np.asarray(indices, dtype=np.int64)
        rows, places = np.unique(self.rows[which], return_inverse=True)
        images, labels = self._images.read(rows)
        numbers = [windows.parts(one) for one in labels]
        windows_seen = np.zeros((len(which), len(self.contrasts), *self.size), np.uint8)
        masks = np.zeros((len(which), *self.size), np.uint8)
        for i, (place, number) in enumerate(zip(places, self._numbers[which], strict=True)):
            windows_seen[i], masks[i] = self._seen(images[place], numbers[place] == number)
        return windows_seen, masks

    def _seen(self, image: NDArray[np.uint8], tumour: windows.Mask) -> tuple[NDArray[np.uint8], windows.Mask]:
        """Means over the pixels of a cell that are tumour, where these are at least the half; without the rim."""
        cell = windows.cell_of(self._images.size)
        inside = windows.window(tumour, tumour)
        share = windows.means(inside, cell)
        total = windows.means(windows.window(image, tumour) * inside, cell)
        mean = np.rint(total / np.maximum(share, 1 / cell**2))
        whole: windows.Mask = share >= 0.5
        inner: windows.Mask = ndimage.binary_erosion(whole, border_value=1)
        shown = inner if np.count_nonzero(inner) >= LEAST else whole
        return np.where(shown, np.maximum(mean, self._least), 0).astype(np.uint8), shown


def _large_enough(images: Images) -> tuple[Int64, Int64]:
    """Rows and numbers (``windows.parts``) of all parts of at least LEAST labelled pixels, when reduced."""
    found = [np.zeros((0, 2), np.int64)]
    least = windows.in_pixels(LEAST, images.size)
    for first in range(0, len(images), READ_BATCH):
        labels = images.read(np.arange(first, min(first + READ_BATCH, len(images))))[1]
        for row in np.flatnonzero(np.count_nonzero(labels, axis=(1, 2)) >= least):
            sizes = np.bincount(windows.parts(labels[row]).ravel())
            found += [np.array([[first + row, number]]) for number in np.flatnonzero(sizes >= least) if number]
    rows, numbers = np.concatenate(found).T
    return rows, numbers
