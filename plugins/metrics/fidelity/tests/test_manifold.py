"""Precision, recall, density and coverage with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from synthkit_fidelity import manifold
from synthkit_fidelity.sets import FeatureSet


def singles(values: np.ndarray) -> FeatureSet:
    return FeatureSet(values.astype(np.float32), np.arange(len(values)))


def values(real: FeatureSet, synthetic: FeatureSet, k: int) -> dict[str, float]:
    return manifold.prdc(real, synthetic, k)


def by_definition(x: np.ndarray, y: np.ndarray, k: int) -> dict[str, float]:
    inner = [np.sort(cdist(z, z), axis=1)[:, k] for z in (x, y)]
    across = cdist(x, y)
    inside = across < inner[0][:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (across < inner[1]).any(axis=1).mean(),
        "density": inside.sum() / (k * len(y)),
        "coverage": inside.any(axis=1).mean(),
    }


def test_a_line_by_hand() -> None:
    # Real 0 1 3 7 reach 1, 1, 2, 4; synthetic 0.5 and 20 reach 19.5 each.
    real, synthetic = singles(np.array([[0], [1], [3], [7]])), singles(np.array([[0.5], [20.0]]))
    # 0.5 is inside the reach of 0 and 1 only (2.5 from 3, 6.5 from 7), 20 in none.
    assert values(real, synthetic, 1) == {"precision": 0.5, "recall": 1.0, "density": 1.0, "coverage": 0.5}


def test_blocks_and_patients_do_not_show_in_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 1, (60, 4)).astype(np.float32), rng.normal(5.3, 0.8, (45, 4)).astype(np.float32)
    expected = pytest.approx(by_definition(x.astype(float), y.astype(float), 3))
    assert values(singles(x), singles(y), 3) == expected
    monkeypatch.setattr(manifold, "BLOCK_ELEMENTS", 300)
    assert values(FeatureSet(x, rng.integers(0, 7, 60)), singles(y), 3) == expected


def test_two_standard_normal_sets_of_1000() -> None:
    # At 10,000 in 1000 dimensions about .477 .470 1.056 .974 (k = 5); here, by the definition, at 1,000 in 64.
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(1000, 64)), rng.normal(size=(1000, 64))
    found = values(singles(x), singles(y), 5)
    assert found == pytest.approx(by_definition(x.astype(np.float32), y.astype(np.float32), 5))
    assert 0.9 < found["density"] < 1.1 and found["coverage"] > 0.94
    assert abs(found["precision"] - found["recall"]) < 0.1


def test_a_collapsed_generator_has_precision_and_no_coverage() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 8))
    good = values(singles(x), singles(rng.normal(size=(200, 8))), 5)
    one = values(singles(x), singles(x[:1] * 0.2 + rng.normal(0, 0.01, (200, 8))), 5)
    assert one["precision"] > good["precision"] and one["density"] > 2 * good["density"]
    assert one["coverage"] < 0.7 * good["coverage"] and one["recall"] < 0.1
    broken = values(singles(x), singles(rng.normal(6, 1, (200, 8))), 5)
    assert broken == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_each_image_left_out_at_fixed_radii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "BLOCK_ELEMENTS", 200)
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    found = manifold.Neighbourhoods.of(singles(x), 2).compare(y)
    inner = [np.sort(cdist(z, z), axis=1)[:, 2] for z in (x.astype(float), y.astype(float))]
    inside, reached = cdist(x, y) < inner[0][:, None], cdist(x, y) < inner[1]
    left: dict[str, list[float]] = {name: [] for name in manifold.NAMES}
    for j in range(20):
        kept = np.arange(20) != j
        left["precision"].append(inside[:, kept].any(axis=0).mean())
        left["recall"].append(reached[:, kept].any(axis=1).mean())
        left["density"].append(inside[:, kept].sum() / (2 * 19))
        left["coverage"].append(inside[:, kept].any(axis=1).mean())
    for name, share in found.items():
        assert share.images == pytest.approx(np.array(left[name])), name


@pytest.mark.parametrize("seed", range(5))
def test_a_neighbourhood_without_a_radius_holds_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(100, 1, (50, 20))
    collapsed = np.repeat(x[:1], 10, axis=0)  # ten times one of the real images
    found = values(singles(x), singles(collapsed), 5)
    assert found["recall"] == 0.0 and found["precision"] == 1.0 and found["coverage"] > 0
    assert values(singles(collapsed), singles(x), 5)["precision"] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_an_image_as_far_as_the_radius_is_not_within_it_however_rounding_falls(seed: int) -> None:
    """Whole numbers, whose distances are exact and often equal; those about a centre are rounded."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-3, 4, (60, 20)).astype(float), rng.integers(-3, 4, (12, 20)).astype(float)
    inner = [np.sort(((z[:, None] - z) ** 2).sum(axis=2), axis=1)[:, 3] for z in (x, y)]
    across = ((x[:, None] - y) ** 2).sum(axis=2)
    expected = {
        "precision": (across < inner[0][:, None]).any(axis=0).mean(),
        "recall": (across < inner[1]).any(axis=1).mean(),
        "density": (across < inner[0][:, None]).sum() / (3 * len(y)),
        "coverage": (across < inner[0][:, None]).any(axis=1).mean(),
    }
    assert values(singles(x), singles(y), 3) == pytest.approx(expected)


def test_radii_do_not_depend_on_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(5).normal(size=(41, 6))
    whole = manifold.squared_radii(x, 4)
    monkeypatch.setattr(manifold, "TILE", 3)  # fewer in a tile than k
    np.testing.assert_allclose(manifold.squared_radii(x, 4), whole)
    np.testing.assert_allclose(whole, np.sort(((x[:, None] - x) ** 2).sum(axis=2), axis=1)[:, 4])
