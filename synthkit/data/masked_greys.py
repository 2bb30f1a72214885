"""Histograms and rank correlations of the grey levels of some pixels, of many images at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

    Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MaskedGreys:
    """Grey levels of the pixels in a mask, one image after the other.

    Attributes
    ----------
    n_images : of which some may have none.
    image : ``(pixel,)``, the number of the image.
    codes : ``(channel, pixel)``, the grey level and 256 for every image before.
    """

    n_images: int
    image: NDArray[np.intp]
    codes: NDArray[np.intp]

    @classmethod
    def of(cls, values: UInt8Array, mask: NDArray[np.bool_]) -> MaskedGreys:
        """Of values ``(n, channel, pixel)`` where the mask ``(n, pixel)`` is set."""
        n, n_channels, n_pixels = values.shape
        image = np.repeat(np.arange(n), np.count_nonzero(mask, axis=1))
        first = np.flatnonzero(mask) + image * ((n_channels - 1) * n_pixels)
        every = values.reshape(-1)
        codes = np.stack([every.take(first + channel * n_pixels) + image * 256 for channel in range(n_channels)])
        return cls(n, image, codes)

    def histograms(self) -> NDArray[np.int64]:
        """``(n, channel, 256)``."""
        n = self.n_images
        counts = [np.bincount(codes, minlength=n * 256).reshape(n, 256) for codes in self.codes]
        return np.stack(counts, axis=1).astype(np.int64)

    def rank_correlations(self, histogram: NDArray[np.int64]) -> Float64:
        """Spearman's rho between all channels: ranks are read from the histogram, ties share their middle rank."""
        total = np.maximum(histogram[:, :1].sum(axis=-1, keepdims=True), 1)
        middle_ranks = (histogram.cumsum(axis=-1) - histogram / 2) / total - 0.5
        ranks = [middle_ranks[:, channel].reshape(-1).take(codes) for channel, codes in enumerate(self.codes)]
        products = np.empty((self.n_images, len(ranks), len(ranks)))
        # Not "@": BLAS hands such small products to threads that wait for one another.
        for a, b in combinations_with_replacement(range(len(ranks)), 2):
            products[:, a, b] = np.bincount(self.image, ranks[a] * ranks[b], minlength=self.n_images)
            products[:, b, a] = products[:, a, b]
        scale = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
        scale = np.where(scale > 0, scale, np.nan)
        rho: Float64 = products / (scale[:, :, None] * scale[:, None, :])
        return rho
