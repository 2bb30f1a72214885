"""Held-out images made as smooth as the synthetic ones: a null for generators that blur.

Smooth images correlate more with everything, and synthetic images are often smoother than real ones. A best match that
only smoothness explains is not copying. So the null is taken again from held-out images that are filtered to the
power spectrum of the synthetic ones, contrast by contrast.

**Spectrum.** P(f) is the mean of |FFT w (x - mu)|^2 over images and over the ring of spatial frequencies that round to
f, in cycles along the longer side. The window w lies in the brain (where any contrast exceeds the background): it is 0
at the border, rises to 1 inside, and mu is the mean under it. Without it the step at the border would fill the high
frequencies of both spectra and hide the tissue, which a generator may blur behind a sharp border, or the reverse.

**Filter.** With the gain g^2 = sum of P_synthetic / sum of P_real over the lowest frequencies 1..F that hold half of
the real power,

    H(f) = min(1, sqrt(P_synthetic(f) / (g^2 P_real(f)))) beyond F, 1 up to F.                                      (1)

r does not see the gain, and with it a synthetic set of higher contrast could not look less smooth than it is. H only
ever smooths: noise that real images lack is not added to them.

It is applied to m (x - mu), m the brain and mu its mean, and added to mu in the brain, rounded and clipped to 8 bits;
pixels outside stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from synthkit_memorization.search.pixels import Float32, Float64, Images, Int64

#: Images transformed at a time.
BATCH = 64

#: Part of the side over which the window averages: it rises over half of that.
WINDOW = 8

#: Share of the power of the real images that sets the gain and passes unfiltered.
PASSED_POWER = 0.5


def spectra(images: Images, rows: NDArray[np.integer[Any]], background: int = 8) -> Float64:
    """Mean radial power spectrum P(f) over some rows, float64 ``(contrast, f)``, f = 0, 1, ... cycles a longer side.

    ``background`` is the grey value, 0..255, that a pixel of the brain exceeds in some contrast. Zero without rows.
    """
    ring = _rings(images.size)
    # The transform of a real image is given by half; columns between the first and the Nyquist one count for two.
    weights = np.full(ring.shape, 2.0)
    weights[:, 0] = 1.0
    if images.size[1] % 2 == 0:
        weights[:, -1] = 1.0
    total = np.zeros((len(images.contrasts), int(ring.max()) + 1))
    for some in _batches(rows):
        pixels = images.read(some)[0]
        w = _window(_inside(pixels, background))
        power = (np.abs(scipy.fft.rfft2(w * (pixels - _mean(pixels, w)))) ** 2).sum(axis=0, dtype=np.float64) * weights
        for contrast, values in enumerate(power):
            total[contrast] += np.bincount(ring.ravel(), values.ravel())
    size = np.bincount(ring.ravel(), weights.ravel())
    result: Float64 = total / (np.maximum(size, 1) * max(1, len(rows)))
    return result


def filters(synthetic_spectrum: Float64, real_spectrum: Float64) -> Float64:
    """H(f) of (1), 0..1, float64 ``(contrast, f)``, from the results of :func:`spectra`.

    1 where the real images have no power: there is nothing to filter.
    """
    result = np.ones(real_spectrum.shape)
    for h, synthetic, real in zip(result, synthetic_spectrum, real_spectrum, strict=True):
        held = np.cumsum(real[1:])
        last = 1 + int(np.searchsorted(held, PASSED_POWER * held[-1]))
        gain = synthetic[1 : last + 1].sum() / max(float(held[last - 1]), np.finfo(np.float64).tiny)
        beyond = np.arange(len(real)) > last
        beyond &= gain * real > 0
        h[beyond] = np.minimum(1.0, np.sqrt(synthetic[beyond] / (gain * real[beyond])))
    return result


class Matched:
    """A dataset read through a filter: what the search needs of it (``Images`` of :mod:`.search.pixels`).

    ``h`` is float64 ``(contrast, f)`` as :func:`filters` gives it; a contrast where it is 1 comes bit for bit.
    """

    def __init__(self, source: Images, h: Float64, background: int = 8) -> None:
        self.contrasts = source.contrasts
        self.size = source.size
        self._source = source
        self._background = background
        self._filtered = [c for c in range(len(h)) if (h[c] < 1).any()]
        self._h = h[:, _rings(source.size)].astype(np.float32)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Filtered images ``(n, contrast, y, x)`` and the labels as they are."""
        images, labels = self._source.read(indices)
        if not self._filtered:
            return images, labels
        result = images.copy()
        for some in _batches(np.arange(len(images))):
            m = _inside(images[some], self._background)
            for c in self._filtered:
                x = images[some, c : c + 1]
                mean = _mean(x, m)
                smooth = scipy.fft.irfft2(scipy.fft.rfft2(m * (x - mean)) * self._h[c], s=self.size) + mean
                grey = np.clip(np.rint(smooth), 0, 255).astype(np.uint8)
                result[some, c : c + 1] = np.where(m > 0, grey, x)
        return result, labels


def _inside(images: NDArray[np.uint8], background: int) -> Float32:
    """1 in the brain and 0 elsewhere, ``(n, 1, y, x)``."""
    inside: Float32 = np.any(images > background, axis=1, keepdims=True).astype(np.float32)
    return inside


def _window(inside: Float32) -> Float32:
    """From 0 at the border of the brain to 1 inside it: twice the share of brain around a pixel, less one."""
    around = ndimage.uniform_filter(
        inside, (1, 1, *(max(1, length // WINDOW) for length in inside.shape[2:])), mode="wrap"
    )
    window: Float32 = np.maximum(0.0, 2 * around - 1) * inside
    return window


def _mean(images: NDArray[np.uint8], weight: Float32) -> Float32:
    """Mean of each contrast under a weight ``(n, 1, y, x)``, ``(n, contrast, 1, 1)``; 0 where it is 0."""
    total = np.maximum(weight.sum(axis=(2, 3), keepdims=True, dtype=np.float64), 1e-6)
    mean: Float32 = ((images * weight).sum(axis=(2, 3), keepdims=True, dtype=np.float64) / total).astype(np.float32)
    return mean


def _rings(size: tuple[int, int]) -> Int64:
    """Spatial frequency of each coefficient of ``rfft2``, rounded, in cycles along the longer side."""
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    ring: Int64 = np.rint(np.hypot(fy, fx) * max(size)).astype(np.int64)
    return ring


def _batches(rows: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.integer[Any]]]:
    return (rows[first : first + BATCH] for first in range(0, len(rows), BATCH))
