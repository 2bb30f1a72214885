# ruff: noqa: E402 (imports follow the check for torch)
"""Layer specifications by hand, filters by their frequency response, the filtered non-linearity against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from scipy.signal import upfirdn
from synthkit_stylegan3 import filters
from synthkit_stylegan3.filters import FilteredActivation, lowpass, radial_lowpass
from synthkit_stylegan3.schedule import Architecture, Maps


def test_layer_specifications_at_256_pixels() -> None:
    """Section 3.2: cutoffs 2 to 128 and stopbands 2^2.1 to 128 * 2^0.3 in 12 equal ratios, then critical sampling."""
    maps = Architecture(256, 5).maps
    assert len(maps) == 15 and maps[0] == maps[1]
    assert [m.cutoff for m in maps[1:]] == pytest.approx([2 * 64 ** (min(i, 12) / 12) for i in range(14)])
    # Stopband 2^(2.1 + i * 5.2 / 12): twice that, rounded up to a power of two, at most 256.
    assert [m.rate for m in maps[1:]] == [16, 16, 16, 32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 256]
    assert [m.side for m in maps[1:]] == [36, 36, 36, 52, 52, 84, 84, 148, 148, 148, 276, 276, 276, 256]
    assert maps[-1].features == 16384 // 128
    assert maps[-1].half_width == pytest.approx(128 * (2**0.3 - 1))


@pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
def test_no_layer_holds_more_than_its_rate_allows(size: int) -> None:
    maps = Architecture(size, 2).maps
    assert all(m.cutoff <= m.rate / 2 for m in maps)
    assert all(m.cutoff + m.half_width >= m.rate / 2 - 1e-9 for m in maps)
    assert maps[-1].side == maps[-1].rate == size and maps[-1].cutoff == size / 2


def _response(taps: np.ndarray, frequency: float, rate: float) -> float:
    position = (np.arange(len(taps)) - (len(taps) - 1) / 2) / rate
    return float((taps * np.cos(2 * np.pi * frequency * position)).sum())


def test_lowpass_passes_low_and_stops_high() -> None:
    taps = lowpass(48, cutoff=8, width=8, rate=64)
    assert taps.sum() == pytest.approx(1)
    assert all(abs(_response(taps, f, 64) - 1) < 0.01 for f in np.linspace(0, 4, 9))
    assert all(abs(_response(taps, f, 64)) < 0.01 for f in np.linspace(12, 32, 21))
    assert _response(taps, 8, 64) == pytest.approx(0.5, abs=0.01)


def test_radial_lowpass_is_the_same_at_every_angle() -> None:
    taps = radial_lowpass(24, cutoff=8, width=8, rate=64)
    assert taps.sum() == pytest.approx(1)
    position = (np.arange(24) - 11.5) / 64
    x, y = np.meshgrid(position, position)
    for frequency, expected in [(2.0, 1.0), (8.0, 0.5), (20.0, 0.0)]:
        turned = [
            (taps * np.cos(2 * np.pi * frequency * (x * math.cos(a) + y * math.sin(a)))).sum()
            for a in np.linspace(0, math.pi, 13)
        ]
        assert np.ptp(turned) < 0.02
        assert turned[0] == pytest.approx(expected, abs=0.12 if expected == 0.5 else 0.02)


def _reference(image: np.ndarray, before: Maps, after: Maps) -> np.ndarray:
    """The non-linearity by scipy's upfirdn, the output cut out about the common centre."""
    rate = 2 * max(before.rate, after.rate)
    up, down = rate // before.rate, rate // after.rate
    rise = lowpass(6 * up, before.cutoff, 2 * before.half_width, rate) * up
    fall = lowpass(6 * down, after.cutoff, 2 * after.half_width, rate)
    length = (after.side - 1) * down + 1
    # Position of the input's centre after both filters in full, and where the output has to start for it to be central.
    centre = (len(image) - 1) / 2 * up + (len(rise) - 1) / 2 + (len(fall) - 1) / 2
    start = round(centre - (length - 1) / 2)
    margin = 2 * length  # zeros around, so that the cut never leaves the array
    for axis in (0, 1):
        image = upfirdn(rise, image, up=up, axis=axis)
        image = np.pad(image, [(margin, margin) if a == axis else (0, 0) for a in (0, 1)])
    image = np.where(image > 0, image, 0.2 * image)
    for axis in (0, 1):
        image = upfirdn(fall, image, axis=axis)
        image = np.take(image, margin + start + np.arange(0, length, down), axis=axis)
    return image


COARSE, FINE = Maps(16, 18, 4.0, 4.5, 1), Maps(32, 30, 6.0, 10.0, 1)


@pytest.mark.parametrize(("before", "after"), [(COARSE, COARSE), (COARSE, FINE), (FINE, FINE), (FINE, COARSE)])
def test_filtered_activation_is_upfirdn(before: Maps, after: Maps) -> None:
    x = torch.randn(1, 2, before.side + 2, before.side + 2, generator=torch.Generator().manual_seed(0))
    activation = FilteredActivation(before, after, before.side + 2, radial=False)
    result = activation(x)
    assert result.shape == (1, 2, after.side, after.side)
    for channel in range(2):
        expected = _reference(x[0, channel].double().numpy(), before, after)
        np.testing.assert_allclose(result[0, channel].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("radial", [False, True])
def test_the_centre_stays_where_it_is(radial: bool) -> None:
    activation = FilteredActivation(COARSE, FINE, 20, radial=radial)
    x = torch.randn(1, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    for axes in [(2,), (3,), (2, 3)]:
        torch.testing.assert_close(activation(x.flip(axes)), activation(x).flip(axes), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("radial", [False, True])
def test_a_constant_stays_constant_inside(radial: bool) -> None:
    activation = FilteredActivation(FINE, FINE, 60, radial=radial)
    result = activation(torch.tensor([3.0, -5.0])[None, :, None, None].expand(1, 2, 60, 60))
    expected = torch.tensor([3.0, -1.0])[None, :, None, None].expand_as(result)
    torch.testing.assert_close(result, expected, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("side", [20, 150])
def test_blocks_of_the_band_leave_nothing_out(side: int) -> None:
    """Values and derivatives against the whole matrices; the larger side takes several blocks."""
    fine = Maps(32, side - 2, 6.0, 10.0, 1)
    activation = FilteredActivation(fine, fine, side, radial=False)
    x = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0), requires_grad=True)
    up, down = activation.up, activation.down
    whole = down[0] @ torch.nn.functional.leaky_relu(up @ x @ up.T, 0.2) @ down[0].T
    result = activation(x)
    torch.testing.assert_close(result, whole, rtol=1e-4, atol=1e-5)
    direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((result * direction).sum(), x)
    (expected,) = torch.autograd.grad((whole * direction).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [(COARSE, COARSE), (COARSE, FINE), (FINE, COARSE)])
def test_a_radial_filter_is_the_sum_of_separable_ones(before: Maps, after: Maps) -> None:
    """A GPU takes these. Values, derivatives and second derivatives are those of the convolution with the kernel."""
    activation = FilteredActivation(before, after, before.side, radial=True).double()
    assert activation.signs[0] == 1 and len(activation.signs) <= 6
    # As exact as the kernel, which is kept in float32.
    kernel = activation.kernel = torch.einsum(
        "r,ry,rx->yx", torch.tensor(activation.signs), *[activation.down[:, 0, : len(activation.kernel)]] * 2
    )
    design = radial_lowpass(len(kernel), after.cutoff, 2 * after.half_width, 2 * max(before.rate, after.rate))
    torch.testing.assert_close(kernel, torch.tensor(design), rtol=0, atol=1e-7 * float(design.max()))
    x = torch.randn(1, 2, before.side, before.side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def orders() -> list[torch.Tensor]:
        given = x.clone().requires_grad_(True)
        result = activation(given)
        (first,) = torch.autograd.grad(result.square().sum(), given, create_graph=True)
        return [result, first, *torch.autograd.grad(first.square().sum(), given)]

    expected = orders()
    activation.radial = False
    for found, wanted in zip(orders(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))


def test_the_non_linearity_keeps_a_byte_a_value_and_has_the_right_slopes() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = filters._Slopes.apply(x)
    torch.testing.assert_close(y, torch.nn.functional.leaky_relu(x, 0.2))
    assert [tensor.dtype for tensor in kept] == [torch.bool]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.2, 0.2, 0.2, 1.0]
    moved = (x.detach()[[0, 1, 3]]).requires_grad_(True)
    assert torch.autograd.gradcheck(filters._Slopes.apply, (moved,))
    assert torch.autograd.gradgradcheck(filters._Slopes.apply, (moved,))
