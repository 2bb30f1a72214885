"""Blank images: constant, or with hardly any brain. They can hardly be copies of anything, and are not counted.

Were they counted, any share of copies could be made small by adding some. A pixel shows something where it differs from
the median of its contrast by more than LEVELS grey levels, so black, grey and white images are blank, and so are those
with a little noise. An image is blank where fewer pixels show something, in every contrast, than a tenth of what
nearly all training images show (their 5 % quantile), or than one in a hundred. All are searched: an edge slice may be a
copy of another, and what is flagged counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.pixels import READ_BATCH, Float64, Images, Int64

#: Grey levels beyond which a pixel differs; what is hardly any, as a share of what training images show, and of all.
LEVELS, OF_TRAINING, LEAST = 8, 0.1, 0.01

#: Training images looked at, and pixels a side: medians of all would cost more than the search.
TRAINING_SAMPLE, SIDE = 1024, 64


def blank_images(images: Images, train: Images) -> NDArray[np.bool_]:
    """Which images are blank, ``(image,)``, by what the training images show."""
    rows = np.unique(np.linspace(0, len(train) - 1, min(len(train), TRAINING_SAMPLE)).astype(np.int64))
    usual = float(np.quantile(shown(train, rows), 0.05))
    result: NDArray[np.bool_] = shown(images, np.arange(len(images))) < max(LEAST, OF_TRAINING * usual)
    return result


def shown(images: Images, rows: Int64) -> Float64:
    """Share of pixels (0..1) of an image that differ from the median; in the contrast where most do, ``(row,)``."""
    step = max(1, max(images.size) // SIDE)
    result = np.empty(len(rows))
    for first in range(0, len(rows), READ_BATCH):
        part = rows[first : first + READ_BATCH]
        pixels = images.read(part)[0][..., ::step, ::step].astype(np.int16)
        usual = np.median(pixels, axis=(2, 3), keepdims=True)
        result[first : first + len(part)] = (np.abs(pixels - usual) > LEVELS).mean(axis=(2, 3)).max(axis=1)
    return result
