"""Images in a canonical frame: the brain in the middle, as large in all, so that a copy may lie anywhere at any size.

Each contrast is first put on black (:func:`_on_black`). A pixel is lit where any contrast exceeds the background, and
the brain is the largest connected set of lit pixels; one that touches no border goes before those that do, if it fills
SMALLEST of the picture, for a head may lie in a bright frame, of which nothing is then shown. Its centroid comes to the
centre of a square of SIDE pixels and its area to SHARE of it, by one transform for all contrasts. A brain that touches
all four borders is none whose place and size are known: then the picture as a whole is shown, centred, as if all of it
were brain. Where noise has lit the background (:func:`_grainy`), what counts as lit is brighter than the noise.

Every pixel of the frame is the mean of the source over a square BLUR times as wide as what the pixel stands for (one
source pixel at least), with zeros beyond the border: what resampling did to a copy is then hardly seen. Weights are
whole multiples of 1 / WHOLE along each axis, and sums of them are exact, so that a frame depends on the image alone,
not on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit_memorization.search.pixels import READ_BATCH, Float64, Images, Int64
from synthkit_memorization.search.threads import for_each

#: Pixels along a side of the frame, if nothing else is asked for, and the share of it that the brain fills.
SIDE, SHARE = 32, 0.4
#: Side of the square that a pixel of the frame is the mean of, in distances between pixels of the frame.
BLUR = 2.0
#: The brain is looked for in at most about this many pixels along a side: every second, third ... of larger images.
LOOKED_AT = 64
#: Share of the picture from which on a set of lit pixels that touches no border goes before those that do.
SMALLEST = 0.05
#: Share of the pixels of a contrast that one grey level has at least, to be its background.
COMMON = 0.1
#: Grey level up to which a pixel is black.
BLACK = 8
#: Share of neighbours, beside those along outlines, of which one is lit and one is not, from which on it is noise.
GRAIN = 0.06
#: Weights are multiples of 1 / WHOLE: 255 times the sum of some is below 2^24, so float32 has their sums exactly.
WHOLE = 65536
#: Images framed at a time (what fits a cache).
FRAMED = 16

#: Neighbours that connect the lit pixels of an image, but not those of two.
_CONNECTED = np.stack([np.zeros((3, 3), np.bool_), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3), np.bool_)])


@dataclass(frozen=True)
class Frames:
    """A dataset in the canonical frame, held in memory (:class:`pixels.Images`).

    Attributes
    ----------
    contrasts : of the source. images : uint8 ``(image, contrast, side, side)``, zeros where nothing is lit.
    whole : boolean ``(image,)``, shown as a whole for want of a brain of known place and size.
    """

    contrasts: tuple[str, ...]
    images: NDArray[np.uint8]
    whole: NDArray[np.bool_]

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.images.shape[-2:]
        return height, width

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frames and, for labels, zeros."""
        images = self.images[np.asarray(indices, np.int64)]
        return images, np.zeros((len(images), *self.size), np.uint8)


def framed(source: Images, background: int, side: int = SIDE, blur: float = BLUR) -> Frames:
    """All images of a dataset in the canonical frame; ``background`` is a grey value, 0..254."""
    images = np.empty((len(source), len(source.contrasts), side, side), np.uint8)
    whole = np.empty(len(source), np.bool_)
    for first in range(0, len(source), READ_BATCH):
        batch, _ = source.read(range(first, min(first + READ_BATCH, len(source))))

        def frame(part: slice, batch: NDArray[np.uint8] = batch, first: int = first) -> None:
            into = slice(first + part.start, first + part.stop)
            images[into], whole[into] = in_frame(batch[part], background, side, blur)

        for_each(frame, len(batch), FRAMED)
    return Frames(source.contrasts, images, whole)


def in_frame(
    images: NDArray[np.uint8], background: int, side: int = SIDE, blur: float = BLUR
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Images ``(n, contrast, y, x)`` in the frame, ``(n, contrast, side, side)``, and which are shown as a whole."""
    height, width = images.shape[-2:]
    images = _on_black(images)
    step = max(1, max(height, width) // LOOKED_AT)
    first = min(step, height, width) // 2
    lit: NDArray[np.bool_] = images[:, :, first::step, first::step].max(axis=1) > background
    brain, hidden = _brains(lit)
    noisy = np.flatnonzero(_grainy(lit))
    if noisy.size:
        again, beside = _brains(_above_noise(images[noisy, :, first::step, first::step]))
        found = again.mean(axis=(1, 2)) >= SMALLEST
        brain[noisy[found]], hidden[noisy[found]] = again[found], beside[found]
    if hidden.any():
        images = images.copy()
        images[hidden] *= _enlarged(brain[hidden], step, height, width)[:, None]
    whole = _on_all_borders(brain)
    rows, columns = brain.sum(axis=2), brain.sum(axis=1)
    area = np.maximum(rows.sum(axis=1), 1)
    y, x = (first + step * (part @ np.arange(part.shape[1])) / area for part in (rows, columns))
    y, x = np.where(whole, (height - 1) / 2, y), np.where(whole, (width - 1) / 2, x)
    # Source pixels along a side of a pixel of the frame.
    scale = np.sqrt(np.where(whole, height * width, area * step**2) / (SHARE * side**2))
    along_y = _weights(y, scale, height, side, blur).astype(np.float32)[:, None] @ images.astype(np.float32)
    total = along_y.astype(np.float64) @ _weights(x, scale, width, side, blur).swapaxes(1, 2)[:, None]
    result = np.minimum(np.rint(total / WHOLE**2), 255).astype(np.uint8)
    result[~brain.any(axis=(1, 2))] = 0
    return result, whole


def _on_black(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How much each pixel differs from the background of its contrast: the commonest grey level, if it is one.

    So a picture on grey, or a negative, is what it was on black. Where COMMON of the pixels are black already, or no
    level has so many, as in a crop, nothing is changed.
    """
    result = images.copy()
    for image in result.reshape(-1, *images.shape[-2:]):
        counts = np.bincount(image.ravel(), minlength=256)
        level = int(counts.argmax())
        if counts[: BLACK + 1].sum() < COMMON * image.size <= counts[level]:
            image[...] = np.abs(image.astype(np.int16) - level).astype(np.uint8)
    return result


def _brains(lit: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The brain of each image, boolean ``(n, y, x)``, and whether larger sets of lit pixels are left out, ``(n,)``."""
    n, height, width = lit.shape
    number, count = ndimage.label(lit, _CONNECTED)
    area = np.bincount(number.ravel(), minlength=count + 1)
    area[0] = 0
    inside = area >= SMALLEST * height * width
    for edge in (number[:, 0], number[:, -1], number[:, :, 0], number[:, :, -1]):
        inside[edge] = False
    # Numbers ascend with the images.
    of = np.searchsorted(np.maximum.accumulate(number.reshape(n, -1).max(axis=1)), np.arange(1, count + 1))
    largest, chosen = (_best(of, rank[1:], n) for rank in (area, area + inside * (height * width)))
    return (number == chosen[:, None, None]) & (chosen > 0)[:, None, None], area[largest] > area[chosen]


def _best(of: Int64, rank: Int64, n: int) -> Int64:
    """Number (from 1) of the item of largest rank of each of n images, the first of equals; 0 if there is none."""
    best = np.zeros(n, np.int64)
    order = np.lexsort((-np.arange(len(rank)), rank))
    best[of[order]] = order + 1
    return best


def _enlarged(brain: NDArray[np.bool_], step: int, height: int, width: int) -> NDArray[np.bool_]:
    """Brains with their holes, as large as the images."""
    filled = np.stack([ndimage.binary_fill_holes(one) for one in brain])
    y, x = (np.minimum(np.arange(n) // step, m - 1) for n, m in zip((height, width), brain.shape[1:], strict=True))
    return filled[:, y[:, None], x]


def _grainy(lit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether noise has lit the background of images ``(n, y, x)``: neighbours differ too often, ``(n,)``.

    The outline of a brain and its ventricles makes about 1.8 / side of the pairs of neighbours differ, at most.
    """
    differ = [np.diff(lit, axis=axis).mean(axis=(1, 2)) for axis in (1, 2)]
    return np.asarray(np.mean(differ, axis=0) > GRAIN + 2 / np.mean(lit.shape[1:]))


def _above_noise(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where images ``(n, contrast, y, x)`` are brighter than their background, which noise has lit, ``(n, y, x)``.

    Noise differs between contrasts and neighbours, the brain does not: the mean over contrasts and over 3 x 3 pixels
    is cut where the variance between the two sides is largest (Otsu 1979, eq. 18).
    """
    mean = ndimage.uniform_filter(images.mean(axis=1), size=(0, 3, 3), mode="nearest")
    grey = np.rint(mean).astype(np.int64)
    counts = np.stack([np.bincount(one.ravel(), minlength=256) for one in grey]).astype(np.float64)
    share = counts.cumsum(axis=1) / grey[0].size
    moment = (counts * np.arange(256)).cumsum(axis=1) / grey[0].size
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[:, -1:] * share - moment) ** 2 / (share * (1 - share))
    cut = np.nan_to_num(between, nan=-1, posinf=-1).argmax(axis=1)
    return np.asarray(grey > cut[:, None, None])


def _on_all_borders(brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    sides = (brain[:, 0], brain[:, -1], brain[:, :, 0], brain[:, :, -1])
    result: NDArray[np.bool_] = np.all([side.any(axis=1) for side in sides], axis=0)
    return result


def _weights(centre: Float64, scale: Float64, length: int, side: int, blur: float) -> Float64:
    """What each source pixel weighs in each pixel of the frame, in units of 1 / WHOLE: ``(image, side, length)``."""
    middle = centre[:, None] + scale[:, None] * (np.arange(side) - (side - 1) / 2)
    half = np.maximum(blur * scale, 1)[:, None, None] / 2
    pixel = np.arange(length)
    overlap = np.minimum(middle[..., None] + half, pixel + 0.5) - np.maximum(middle[..., None] - half, pixel - 0.5)
    weights: Float64 = np.rint(WHOLE * np.maximum(overlap, 0) / (2 * half))
    return weights
