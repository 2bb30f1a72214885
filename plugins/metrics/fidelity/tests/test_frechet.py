"""Frechet distances with known answers, against other programs, and how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from synthkit_fidelity import frechet
from synthkit_fidelity.sets import FeatureSet

from synthkit.judging.spreads import Spread, spread_interval


def singles(values: np.ndarray) -> FeatureSet:
    """Each image a group of its own."""
    return FeatureSet(values.astype(np.float32), np.arange(len(values)))


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    c1, c2 = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    shift = x.mean(axis=0) - y.mean(axis=0)
    return float(shift @ shift + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real))


def test_means_one_apart_in_2048_dimensions_give_2048() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2048))
    assert frechet.frechet_distance(x, x + 1.0) == pytest.approx(2048, rel=1e-8)


@pytest.mark.parametrize("n", [12, 200])
def test_identical_sets_are_at_0(n: int) -> None:
    x = np.random.default_rng(1).normal(size=(n, 50))
    trace = np.cov(x, rowvar=False).trace()
    assert frechet.frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-8 * trace)


def test_closed_form_of_gaussians_with_one_basis() -> None:
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b = np.array([4.0, 1, 9, 0, 16, 25]), np.array([1.0, 4, 0, 9, 16, 0.25])
    first, second = (frechet.Gaussian(np.full(6, m), basis @ np.diag(v) @ basis.T) for m, v in ((0, a), (2, b)))
    # |m1 - m2|^2 + sum (sqrt a - sqrt b)^2
    assert frechet.gaussian_distance(first, second) == pytest.approx(24 + (1 + 1 + 9 + 9 + 0 + 20.25), rel=1e-8)


def test_root_of_a_singular_covariance() -> None:
    x = np.random.default_rng(3).normal(size=(100, 8))
    x[:, 3] = 0.0  # a feature that is never active
    x[:, 5] = x[:, 1] - x[:, 2]
    covariance = np.cov(x, rowvar=False)
    root = frechet.root_of(covariance)
    np.testing.assert_allclose(root.T @ root, covariance, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_any_sizes_agree_with_scipy(n: int, m: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)), rng.normal(1, 2, size=(m, d))
    value = frechet.frechet_distance(x, y)
    assert value == pytest.approx(frechet.frechet_distance(y, x), rel=1e-9)
    # By definition: square roots by eigenvectors, so that singular covariances do not trouble for the reference.
    c1, c2 = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(c1)
    half = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ c2 @ half), 0)).sum()
    shift = x.mean(axis=0) - y.mean(axis=0)
    scale = np.trace(c1 + c2)
    assert value == pytest.approx(shift @ shift + scale - 2 * inner, rel=1e-6, abs=1e-6 * scale)
    if min(n, m) > 2 * d:
        assert value == pytest.approx(by_scipy(x, y), rel=1e-6)


@pytest.mark.parametrize("n", [120, 400])
def test_small_eigenvalues_keep_their_digits(n: int) -> None:
    rng = np.random.default_rng(4)
    decay = np.arange(1.0, 201) ** -2
    first, second = (frechet.gaussian_of(rng.normal(size=(n, 200)) * decay + shift) for shift in (0, 1e-3))
    singular = np.linalg.svd(first.root @ second.root.T, compute_uv=False).sum()
    assert frechet.trace_of_root(first, second) == pytest.approx(singular, rel=1e-9)


def test_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    fid = pytest.importorskip("torchmetrics.image.fid", exc_type=ImportError)

    class Pooled(torch.nn.Module):  # type: ignore[name-defined, misc]
        num_features = 12

        def forward(self, images):  # type: ignore[no-untyped-def]
            return torch.nn.functional.avg_pool2d(images.float(), 4).flatten(1)

    rng = np.random.default_rng(5)
    images = [rng.integers(0, high, (60, 3, 8, 8)).astype(np.uint8) for high in (256, 200)]
    metric = fid.FrechetInceptionDistance(feature=Pooled()).set_dtype(torch.float64)
    for real, batch in zip((True, False), images, strict=True):
        metric.update(torch.from_numpy(batch), real=real)
    x, y = (Pooled()(torch.from_numpy(batch)).numpy() for batch in images)
    assert frechet.frechet_distance(x, y) == pytest.approx(float(metric.compute()), rel=1e-6)


# ---------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(("n", "m", "d"), [(25, 30, 6), (40, 9, 6), (8, 9, 20), (30, 6, 12)])
def test_influence_is_the_derivative(n: int, m: int, d: int) -> None:
    """Giving one image more weight changes the distance by its influence: the variance is that of the influences."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(n, d)), rng.normal(0.5, 1.5, size=(m, d))

    def distance(weights: np.ndarray) -> float:
        mean = weights @ x
        # The factor n / (n - 1) of the unbiased covariance stays while weights change.
        root = np.sqrt(weights * n / (n - 1))[:, None] * (x - mean)
        return frechet.gaussian_distance(frechet.Gaussian(mean, rows=root), frechet.gaussian_of(y))

    flat, step, influence = np.full(n, 1 / n), 1e-5, np.empty(n)
    for i in range(n):
        ahead, behind = (flat * (1 - e) + e * (np.arange(n) == i) for e in (step, -step))
        influence[i] = (distance(ahead) - distance(behind)) / (2 * step)
    expected = np.sum(influence**2) / n**2 * n / (n - 1)
    for first, second, side in ((x, y, 0), (y, x, 1)):
        spreads = frechet.estimate(
            FeatureSet(first, np.arange(len(first))),
            FeatureSet(second, np.arange(len(second))),  # type: ignore[arg-type]
        ).spreads
        assert spreads[side].variance == pytest.approx(expected, rel=1e-3)


def test_intervals_count_patients_and_not_slices() -> None:
    rng = np.random.default_rng(7)
    patients = rng.normal(size=(12, 10))
    slices = np.repeat(patients, 20, axis=0) + rng.normal(0, 0.01, (240, 10))
    synthetic = singles(rng.normal(size=(300, 10)))
    wide = frechet.estimate(FeatureSet(slices.astype(np.float32), np.repeat(np.arange(12), 20)), synthetic)
    narrow = frechet.estimate(singles(slices), synthetic)
    assert wide.value == narrow.value and wide.spreads[0].n_units == 12
    assert wide.spreads[0].variance > 10 * narrow.spreads[0].variance


def test_spread_is_that_of_repeated_experiments() -> None:
    values, variances = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        patients = np.repeat(rng.normal(size=(15, 20)), 6, axis=0)
        real = FeatureSet((patients + rng.normal(size=(90, 20))).astype(np.float32), np.repeat(np.arange(15), 6))
        result = frechet.estimate(real, singles(rng.normal(0.5, 1, size=(80, 20))))
        values.append(result.value)
        variances.append(sum(spread.variance for spread in result.spreads))
    assert 0.8 < np.sqrt(np.mean(variances)) / np.std(values) < 1.4


def test_interval_by_hand() -> None:
    # Freedom of Welch and Satterthwaite for equal variances of 5 and 5 groups is 8; t = 2.306.
    ends = spread_interval(10.0, Spread(0.5, 5), Spread(0.5, 5))
    assert ends == (pytest.approx(10 - 2.306, abs=1e-3), pytest.approx(10 + 2.306, abs=1e-3))
    cut = spread_interval(1.0, Spread(1.0, 9), Spread(1.0, 9), limits=(0.0, 1.0))
    assert cut is not None and cut[1] == 1.0
    assert spread_interval(1.0, Spread(1.0, 2), Spread(1.0, 9)) is None


# ------------------------------------------------------------------------------------------------ extrapolation


def test_extrapolation_takes_the_bias_off() -> None:
    raw, limits = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y = singles(rng.normal(size=(160, 16))), singles(rng.normal(size=(160, 16)))
        assert not frechet.why_not_extrapolated(x, y)
        raw.append(frechet.estimate(x, y).value)
        limits.append(frechet.extrapolate(x, y, seed)[0])
    # The true distance is 0.
    assert np.mean(limits) < 0.3 * np.mean(raw)


def test_extrapolation_needs_images_and_patients() -> None:
    x = np.random.default_rng(8).normal(size=(40, 16)).astype(np.float32)
    assert "10 patients" in frechet.why_not_extrapolated(FeatureSet(x, np.arange(40) // 10), singles(x))
    assert "32 images" in frechet.why_not_extrapolated(singles(x), singles(x[:31]))
