"""Distances against scipy and brute force; the floor of patients that are alike, and of patients that are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from synthkit_realism.statistics import GRID, Comparison, Resamples, compare

Float64 = NDArray[np.float64]


def compared(real: Float64, synthetic: Float64, patients: list[int] | None = None, n_patients: int = 0) -> Comparison:
    """Each real value a patient of its own, unless said otherwise."""
    numbers = np.arange(len(real)) if patients is None else np.array(patients)
    resamples = Resamples.of(n_patients or int(numbers.max()) + 1, resamples=100, splits=50, seed=0)
    return compare(real, numbers, synthetic, resamples, np.random.default_rng(0))


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


def test_patients_that_are_alike_have_no_floor_and_different_ones_a_high_one() -> None:
    same = compared(np.tile([1.0, 2.0], 10), np.array([5.0]), [k // 2 for k in range(20)])
    assert same.floor == (0, 0, 0) and same.ks == 1 and same.excess == 1
    assert same.floor_share == 1 / 51  # the observed distance alone
    apart = compared(np.repeat([0.0, 10.0], 8), np.array([5.0]), [k // 8 for k in range(16)])
    assert apart.floor == (1, 1, 1) and apart.ks == 0.5 and apart.floor_share == 1


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


def test_few_patients_have_no_interval_and_one_no_floor() -> None:
    one = compared(np.array([1.0, 2.0]), np.array([3.0]), [0, 0])
    assert one.floor is None and one.floor_share is None and one.effect_low is None and one.effect == 1
    assert "no floor below 2 patients" in one.note and "no interval below 3 patients" in one.note
    two = compared(np.array([1.0, 2.0]), np.array([3.0]), [0, 1])
    assert two.floor is not None and two.effect_low is None


def test_equal_real_values_have_no_standard_deviation() -> None:
    found = compared(np.ones(5), np.array([3.0]))
    assert found.wasserstein == 2 and found.wasserstein_sd is None and "standard deviation" in found.note
