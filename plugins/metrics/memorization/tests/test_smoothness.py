"""Held-out images get the spectrum of the synthetic ones, and stay as they are where these are not smoother."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_memorization.null.smoothness import Matched, filters, spectra

from synthkit.testing import InMemorySamples

SIZE = 64


def textures(seed: int, n: int = 24) -> NDArray[np.float64]:
    """Grey values of periodic textures, power falling with frequency; ``(n, 2, SIZE, SIZE)``."""
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None]) * SIZE
    amplitude = 1 / (1 + f)
    amplitude[0, 0] = 0
    grey = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 2, SIZE, SIZE))) * amplitude).real
    return 128 + grey * 30 / grey.std()


def as_images(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(grey), 1, 255).astype(np.uint8)


def heads(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    return images * ((x / 24) ** 2 + (y / 28) ** 2 < 1).astype(np.uint8)


def spectrum(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return spectra(InMemorySamples(images), np.arange(len(images)))


def test_spectrum_of_a_wave_is_one_ring_and_of_noise_is_flat() -> None:
    x = np.arange(SIZE)
    wave = np.broadcast_to(128 + 100 * np.cos(2 * np.pi * 5 * x / SIZE), (1, 2, SIZE, SIZE))
    found = spectrum(as_images(wave))
    assert found[0].argmax() == 5 and found[0, 5] > 1e4 * np.delete(found[0], 5).max()
    f = np.rint(np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None]) * SIZE)
    # Parseval: two coefficients of size 100 / 2 N^2, among all that round to 5.
    assert found[0, 5] == pytest.approx(2 * (50 * SIZE**2) ** 2 / (f == 5).sum(), rel=1e-3)
    noise = as_images(np.random.default_rng(0).normal(128, 20, (50, 2, SIZE, SIZE)))
    np.testing.assert_allclose(spectrum(noise)[:, 1:], 400 * SIZE**2, rtol=0.25)


def test_filter_of_blurred_images_is_the_transfer_function_of_the_blur() -> None:
    sigma = 0.8
    real = textures(0)
    blurred = ndimage.gaussian_filter(real, (0, 0, sigma, sigma), mode="wrap")
    h = filters(spectrum(as_images(blurred)), spectrum(as_images(real)))
    f = np.arange(h.shape[1]) / SIZE
    transfer = np.exp(-2 * (np.pi * sigma * f) ** 2)
    np.testing.assert_allclose(h[:, :32], np.broadcast_to(transfer, h.shape)[:, :32], atol=0.03)
    assert (h[:, :2] == 1).all() and h.max() == 1 and h.min() >= 0


@pytest.mark.parametrize("sharp", [True, False])
def test_a_blur_shows_whatever_the_border_of_the_brain(sharp: bool) -> None:
    """The blur leaves 0.03 of the power; without a window 0.2 would seem left, or 0.9 with a blurred border."""
    real = heads(as_images(textures(8)))
    blurred = ndimage.gaussian_filter(real.astype(np.float64), (0, 0, 1, 1))
    synthetic = np.rint(blurred * (real > 0) if sharp else blurred).astype(np.uint8)
    ratio = np.median((spectrum(synthetic) / spectrum(real))[:, 16:22])
    assert ratio < 0.15


def test_filtered_heads_have_the_spectrum_of_blurred_ones_and_their_own_background() -> None:
    real = heads(as_images(textures(2)))
    blurred = ndimage.gaussian_filter(textures(3), (0, 0, 1, 1), mode="wrap")
    synthetic = heads(as_images(blurred))
    target, before = spectrum(synthetic), spectrum(real)
    matched = Matched(InMemorySamples(real, real[:, 0] // 100), filters(target, before))
    images, labels = matched.read(np.arange(len(real)))
    after = spectrum(images)
    assert images.dtype == np.uint8 and len(matched) == len(real) and matched.contrasts == ("t1", "t1ce")
    assert (images[real == 0] == 0).all()
    np.testing.assert_array_equal(labels, real[:, 0] // 100)
    middle = slice(5, 28)
    assert np.median(before[:, middle] / target[:, middle]) > 3
    np.testing.assert_allclose(np.median(after[:, middle] / target[:, middle]), 1, atol=0.25)
    np.testing.assert_array_equal(matched.read([5])[0][0], images[5])  # whatever it is read with


@pytest.mark.parametrize("noise", [0.0, 25.0])
def test_images_come_bit_for_bit_where_synthetic_ones_are_not_smoother(noise: float) -> None:
    grey = textures(4)
    real = heads(as_images(grey))
    rough = heads(as_images(grey + np.random.default_rng(5).normal(0, 1, grey.shape) * noise))
    h = filters(spectrum(rough), spectrum(real))
    if noise:
        h[:, :20] = 1  # low frequencies of two sets differ a little
    assert (h == 1).all()
    np.testing.assert_array_equal(Matched(InMemorySamples(real), h).read(np.arange(24))[0], real)


def test_a_filter_of_one_contrast_leaves_the_other() -> None:
    real = heads(as_images(textures(6)))
    target = spectrum(real)
    target[1, 10:] *= 0.1
    images = Matched(InMemorySamples(real), filters(target, spectrum(real))).read(np.arange(24))[0]
    np.testing.assert_array_equal(images[:, 0], real[:, 0])
    assert (images[:, 1] != real[:, 1]).any()


def test_contrast_and_brightness_are_not_smoothness() -> None:
    found = spectrum(heads(as_images(textures(7))))
    np.testing.assert_allclose(filters(4 * found, found), 1)
    np.testing.assert_allclose(filters(0.25 * found, found), 1)


def test_images_without_a_brain_pass() -> None:
    blank = np.zeros((2, 2, SIZE, SIZE), np.uint8)
    h = filters(spectrum(blank), spectrum(blank))
    assert (h == 1).all()
    half = np.full_like(h, 0.5)
    np.testing.assert_array_equal(Matched(InMemorySamples(blank), half).read([0, 1])[0], blank)
