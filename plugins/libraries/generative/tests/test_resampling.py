# ruff: noqa: E402 (imports follow the check for torch)
"""Resampling against scipy's upfirdn, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import upfirdn
from synthkit_generative import resampling
from synthkit_generative.resampling import Resampling


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


def test_binomial_filter() -> None:
    point = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    point[0, 0, 2, 2] = 16
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64)
    torch.testing.assert_close(resampling.binomial(point)[0, 0, 1:4, 1:4], expected)


OPERATORS = {
    "up": resampling.upsample,
    "down": resampling.downsample,
    "smooth1": lambda x: resampling.smooth(x, 1),
    "smooth2": lambda x: resampling.smooth(x, 2),
    "binomial": resampling.binomial,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_resampling_has_first_and_second_derivatives(name: str) -> None:
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)

    def squared(x):
        return OPERATORS[name](x).square()

    assert torch.autograd.gradcheck(squared, x)
    assert torch.autograd.gradgradcheck(squared, x)


def orders(operator, x, direction):
    """Result, first and second derivative: along ``direction`` the gradient of a square, and that of its square."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(True)
    result = operator(x)
    (first,) = torch.autograd.grad((result.square() * direction).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    return result.detach(), first.detach(), second


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", OPERATORS)
def test_shifts_are_what_the_convolutions_are(name: str, layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU takes convolutions where they are faster, a GPU never: values and both derivatives are the same."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 12, 8, generator=random).contiguous(memory_format=layout)
    direction = torch.randn(OPERATORS[name](x).shape, generator=random)
    expected = orders(OPERATORS[name], x, direction)
    monkeypatch.setattr(resampling, "by_convolution", resampling.by_shifts)
    for found, wanted in zip(orders(OPERATORS[name], x, direction), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))
    assert OPERATORS[name](x).is_contiguous(memory_format=layout)


SIX_TAPS = tuple(n / 32 for n in (1, 5, 10, 10, 5, 1))


@given(
    taps=st.sampled_from([(0.125, 0.375, 0.375, 0.125), (0.25, 0.5, 0.25), SIX_TAPS]),
    rates=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
    sides=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    padding=st.tuples(st.integers(-1, 5), st.integers(0, 5)),
)
@settings(deadline=None, max_examples=60)
def test_any_resampling_is_upfirdn_and_has_its_adjoint(taps, rates, sides, padding) -> None:
    (up, down), (before, after) = rates, padding
    size = tuple((side * up + before + after - len(taps)) // down + 1 for side in sides)
    how = Resampling(taps, up, down, before, size)
    assume(min(size) > 0 and (up == down or len(taps) % 2 == 0))
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, *sides, dtype=torch.float64, generator=random)
    found = resampling.by_shifts(x, how)
    padded = F.pad(upsampled(x, up), (before, after, before, after))
    kernel = torch.outer(*[torch.tensor(taps, dtype=torch.float64)] * 2)[None, None]
    torch.testing.assert_close(found, F.conv2d(padded, kernel, stride=down)[..., : size[0], : size[1]])
    y = torch.randn(found.shape, dtype=torch.float64, generator=random)
    torch.testing.assert_close((found * y).sum(), (x * resampling.by_shifts(y, how.adjoint(sides))).sum())


def upsampled(x, up):
    """Zeros between the pixels."""
    result = x.new_zeros(*x.shape[:2], x.shape[2] * up, x.shape[3] * up)
    result[..., ::up, ::up] = x
    return result
