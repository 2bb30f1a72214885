"""Kernel distances with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from synthkit_fidelity import kernel
from synthkit_fidelity.sets import FeatureSet


def features(rng: np.random.Generator, n: int, d: int, per_group: int = 1, mean: float = 0.0) -> FeatureSet:
    return FeatureSet(rng.normal(mean, 1, (n, d)).astype(np.float32), np.arange(n) // per_group)


def by_definition(x: np.ndarray, y: np.ndarray, excluded: np.ndarray) -> float:
    """Means over pairs of x that are not ``excluded``, of y with another, and across."""

    def k(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(float) @ b.T.astype(float) / a.shape[1] + 1) ** 3

    return float(k(x, x)[~excluded].mean() + k(y, y)[~np.eye(len(y), dtype=bool)].mean() - 2 * k(x, y).mean())


def test_two_points_by_hand() -> None:
    # Kernels: within x (1 * -1 + 1)^3 = 0, within y (0 + 1)^3 = 1, across (0 + 1)^3 = 1 twice, (2 + 1)^3, (-2 + 1)^3.
    x, y = FeatureSet(np.array([[1], [-1]], np.float32), np.arange(2)), np.array([[0], [2]], np.float32)
    found = kernel.kernel_distance(x, FeatureSet(y, np.arange(2)))
    assert found.all_pairs.value == pytest.approx(0 + 1 - 2 * (1 + 1 + 27 - 1) / 4)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = features(rng, 23, 5, per_group=4), features(rng, 31, 5, mean=0.3)
    order = rng.permutation(23)
    x = FeatureSet(x.values[order], x.group[order])
    expected = kernel.kernel_distance(x, y)
    same = x.group[:, None] == x.group[None]
    assert expected.all_pairs.value == pytest.approx(by_definition(x.values, y.values, np.eye(23, dtype=bool)))
    assert expected.between_patients is not None
    assert expected.between_patients.value == pytest.approx(by_definition(x.values, y.values, same))
    monkeypatch.setattr(kernel, "BLOCK", 7)
    found = kernel.kernel_distance(x, y)
    assert found.between_patients is not None
    for a, b in ((found.all_pairs, expected.all_pairs), (found.between_patients, expected.between_patients)):
        assert a.value == pytest.approx(b.value)
        assert [s.variance for s in a.spreads] == pytest.approx([s.variance for s in b.spreads])


@pytest.mark.parametrize(("offset", "scale"), [(0.4, 0.3), (0.0, 30.0), (1000.0, 1.0), (0.0, 1e-3)])
def test_rounding_of_pairs_is_far_below_the_standard_error(offset: float, scale: float) -> None:
    rng = np.random.default_rng(7)
    x, y = (  # skewed, as features behind a rectifier are
        FeatureSet((offset + scale * rng.exponential(size=(n, 64))).astype(np.float32), np.arange(n) // 3)
        for n in (90, 60)
    )
    found = kernel.kernel_distance(x, y).all_pairs
    truth = by_definition(x.values, y.values, np.eye(90, dtype=bool))
    error = sum(spread.variance for spread in found.spreads) ** 0.5
    assert abs(found.value - truth) < 1e-5 * error + 1e-12 * abs(1 + offset**2) ** 3


@pytest.mark.parametrize("side", [0, 1])
def test_jackknife_leaves_each_group_out(side: int) -> None:
    rng = np.random.default_rng(1)
    x, y = features(rng, 20, 4, per_group=3), features(rng, 12, 4)
    found = kernel.kernel_distance(x, y)
    assert found.between_patients is not None
    values: dict[bool, list[float]] = {True: [], False: []}
    for group in range((x, y)[side].n_groups):
        sets = [x, y]
        sets[side] = sets[side].take(np.flatnonzero(sets[side].group != group))
        left = kernel.kernel_distance(*sets)
        assert left.between_patients is not None
        values[True].append(left.all_pairs.value)
        values[False].append(left.between_patients.value)
    for which, estimate in ((True, found.all_pairs), (False, found.between_patients)):
        n = len(values[which])
        expected = (n - 1) / n * np.sum((values[which] - np.mean(values[which])) ** 2)
        assert estimate.spreads[side].variance == pytest.approx(expected)


def test_unbiased_for_images_and_for_patients() -> None:
    all_pairs, between = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        # Slices of a patient are alike, over patients they are distributed as the synthetic images are.
        slices = np.repeat(rng.normal(size=(8, 10)), 5, axis=0) * 0.8**0.5 + rng.normal(size=(40, 10)) * 0.2**0.5
        real = FeatureSet(slices.astype(np.float32), np.arange(40) // 5)
        found = kernel.kernel_distance(real, features(rng, 50, 10))
        assert found.between_patients is not None
        all_pairs.append(found.all_pairs.value)
        between.append(found.between_patients.value)
    error = np.std(between) / 150**0.5
    assert abs(np.mean(between)) < 3 * error < np.mean(all_pairs)


def test_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    kid = pytest.importorskip("torchmetrics.image.kid", exc_type=ImportError)
    rng = np.random.default_rng(2)
    x, y = features(rng, 50, 16), features(rng, 50, 16, mean=0.5)

    class Given(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, images):  # type: ignore[no-untyped-def]
            return images

    metric = kid.KernelInceptionDistance(feature=Given(), subsets=1, subset_size=50)
    metric.update(torch.from_numpy(x.values).double(), real=True)
    metric.update(torch.from_numpy(y.values).double(), real=False)
    assert kernel.kernel_distance(x, y).all_pairs.value == pytest.approx(float(metric.compute()[0]), rel=1e-6)
