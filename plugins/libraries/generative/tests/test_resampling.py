# ruff: noqa: E402 (imports follow the check for torch)
"""Resampling against scipy's upfirdn, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from scipy.signal import upfirdn
from synthkit_generative import resampling


def _scipy(image: np.ndarray, up: int, down: int, before: int, after: int, gain: float) -> np.ndarray:
    """Zero insertion, zero padding, filter [1, 3, 3, 1] / 8 along both axes, decimation."""
    taps = np.array([1.0, 3.0, 3.0, 1.0]) / 8
    for axis in (0, 1):
        length = image.shape[axis] * up
        filtered = upfirdn(taps * math.sqrt(gain), image, up=up, down=1, axis=axis)
        # The full convolution starts 3 samples before the valid part of an image padded by ``before``.
        filtered = np.pad(filtered, [(3, 3 + up) if a == axis else (0, 0) for a in (0, 1)])
        start = 6 - before
        filtered = np.take(filtered, range(start, start + length + before + after - 3), axis=axis)
        image = np.take(filtered, range(0, filtered.shape[axis], down), axis=axis)
    return image


@pytest.mark.parametrize(
    ("resample", "up", "down", "before", "after", "gain"),
    [
        (resampling.upsample, 2, 1, 2, 1, 4.0),
        (resampling.downsample, 1, 2, 1, 1, 1.0),
        (lambda x: resampling.smooth(x, 1), 1, 1, 1, 1, 1.0),
        (lambda x: resampling.smooth(x, 2), 1, 1, 2, 2, 1.0),
    ],
    ids=["upsample", "downsample", "smooth1", "smooth2"],
)
def test_resampling_is_upfirdn(resample, up: int, down: int, before: int, after: int, gain: float) -> None:
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    result = resample(x).numpy()
    for n in range(2):
        for c in range(3):
            expected = _scipy(x[n, c].numpy(), up, down, before, after, gain)
            np.testing.assert_allclose(result[n, c], expected, atol=1e-12)


def test_resampling_keeps_a_constant_image_inside() -> None:
    x = torch.ones(1, 1, 8, 8)
    torch.testing.assert_close(resampling.upsample(x)[..., 2:-2, 2:-2], torch.ones(1, 1, 12, 12))
    torch.testing.assert_close(resampling.downsample(x)[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize(
    "resample",
    [resampling.upsample, resampling.downsample, lambda x: resampling.smooth(x, 2)],
    ids=["up", "down", "smooth"],
)
def test_resampling_has_first_and_second_derivatives(resample) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def squared(x):
        return resample(x).square()

    assert torch.autograd.gradcheck(squared, x)
    assert torch.autograd.gradgradcheck(squared, x)
