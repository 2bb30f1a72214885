"""Distances against scipy and brute force; the floor of patients that are alike, and of others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from synthkit_realism.statistics import GRID, Comparison, Draws, compare

Float64 = NDArray[np.float64]


def compared(real: Float64, synthetic: Float64, patients: list[int] | None = None, n_patients: int = 0) -> Comparison:
    """Each real value a patient of its own, unless said otherwise."""
    numbers = np.arange(len(real)) if patients is None else np.array(patients)
    draws = Draws.of(n_patients or int(numbers.max()) + 1, n_draws=100, seed=0)
    return compare(real, numbers, synthetic, draws, np.random.default_rng(0))


_SAMPLES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30).map(np.array)


@settings(max_examples=60, deadline=None)
@given(_SAMPLES, _SAMPLES)
def test_distances_and_the_effect_agree_with_their_definitions(real: Float64, synthetic: Float64) -> None:
    found = compared(real, synthetic)
    below = [[np.mean(sample <= value) for sample in (real, synthetic)] for value in (*real, *synthetic)]
    assert found.ks == pytest.approx(max(abs(f - g) for f, g in below))
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(real, synthetic), abs=1e-12)
    assert found.effect == pytest.approx(np.sign(synthetic[:, None] - real[None]).mean(), abs=1e-12)
    if found.effect_low is not None and found.effect_high is not None:
        assert -1 <= found.effect_low <= found.effect <= found.effect_high <= 1


def test_many_distinct_values_cost_little_accuracy() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(0, 1, 3000), rng.normal(0.3, 1.2, 4000)
    found = compared(real, synthetic, [k % 30 for k in range(3000)])
    assert found.ks == pytest.approx(stats.ks_2samp(real, synthetic).statistic, abs=2 / GRID)
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(real, synthetic), rel=0.02)
    assert found.wasserstein_sd == pytest.approx((found.wasserstein or 0) / real.std())


def test_a_sample_against_itself() -> None:
    real = np.random.default_rng(0).normal(size=200)
    found = compared(real, real, [k % 20 for k in range(200)])
    assert found.ks == found.wasserstein == 0 and found.effect == pytest.approx(0, abs=1e-12)
    assert found.floor_share == 1 and found.excess is not None and found.excess < 0


def test_the_floor_of_patients_that_are_alike_is_that_of_images_and_that_of_others_is_higher() -> None:
    images = np.tile([1.0, 2.0], 500)
    same = compared(np.tile([1.0, 2.0], 10), images, [k // 2 for k in range(20)])
    assert same.floor is not None and same.floor[2] < 0.05 and same.ks == 0 and same.floor_share == 1
    apart = compared(np.repeat([1.0, 2.0], 10), images, [k // 2 for k in range(20)])
    assert apart.floor is not None and apart.floor[0] > 0.05 and apart.ks == 0
    far = compared(np.tile([1.0, 2.0], 10), np.full(1000, 5.0), [k // 2 for k in range(20)])
    assert far.ks == 1 and far.floor_share == 1 / 101  # the observed distance alone
    assert far.floor is not None and far.excess == pytest.approx(1 - far.floor[0])


def test_ideal_generators_lie_within_the_floor() -> None:
    """12 patients of 10 slices; halves of them, which were the floor once, are about twice as far apart."""
    inside, patient = [], np.repeat(np.arange(12), 10)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        real = 0.7 * rng.normal(size=12)[patient] + 0.7 * rng.normal(size=120)
        found = compared(real, rng.normal(0, 0.98**0.5, 300), patient.tolist())
        assert found.floor is not None and found.ks is not None
        inside.append(found.floor[1] <= found.ks <= found.floor[2])
    assert np.mean(inside) >= 0.92


def test_the_interval_counts_patients_not_slices() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=10)
    few = np.repeat(own, 50)
    synthetic = rng.normal(size=1000)
    by_patient = compared(few, synthetic, [k // 50 for k in range(500)])
    by_slice = compared(few, synthetic)
    width = [c.effect_high - c.effect_low for c in (by_patient, by_slice) if c.effect_high and c.effect_low]
    assert width[0] > 3 * width[1]


def test_a_sample_without_values_is_undefined() -> None:
    nothing = np.array([np.nan, np.nan])
    some = np.array([1.0, 2.0, 3.0])
    assert compared(some, nothing).note == "no synthetic slice has it"
    assert compared(nothing, nothing).note == "no real or synthetic slice has it"
    found = compared(nothing, some)
    assert (found.ks, found.effect, found.excess, found.floor_share, found.n_patients) == (None,) * 4 + (0,)


def test_values_that_do_not_count_are_left_out() -> None:
    real = np.array([1.0, np.nan, 2.0, np.nan])
    found = compared(real, np.array([np.nan, 1.0, 2.0]), [0, 0, 1, 2])
    assert (found.n_real, found.n_synthetic, found.n_patients) == (2, 2, 2) and found.ks == 0


def test_few_patients_have_neither_interval_nor_floor_and_few_images_no_interval() -> None:
    nine = compared(np.arange(9.0), np.arange(20.0))
    assert nine.floor is None and nine.floor_share is None and nine.effect_low is None and nine.effect is not None
    assert nine.note == "9 patients: no interval and no floor, give at least 10"
    few = compared(np.arange(10.0), np.arange(9.0))
    assert few.floor is not None and few.effect_low is None
    assert few.note == "9 synthetic slices: no interval, give at least 10"


def test_equal_real_values_have_no_standard_deviation() -> None:
    found = compared(np.ones(5), np.array([3.0]))
    assert found.wasserstein == 2 and found.wasserstein_sd is None and "standard deviation" in found.note
