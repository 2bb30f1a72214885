"""Intervals cover what they say, in seeded draws; all of benchmarks/*intervals.py is too slow for a test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from synthkit.judging.intervals import arm_interval, mean_interval, paired_intervals
from synthkit.judging.spreads import leave_one_out_spread, quantile_interval, share_of_pairs, spread_interval


def names(n: int) -> list[str]:
    return [f"P{k:03d}" for k in range(n)]


@pytest.mark.parametrize(("n", "missed"), [(10, 0.0), (10, 0.1), (30, 0.1)])
def test_means_of_scores_with_missed_patients_cover(n: int, missed: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.where(rng.random((300, n)) < missed, 0, rng.beta(8, 2, (300, n)))
    found = [mean_interval(row, (0, 1), names(n), resamples=400, seed=k) for k, row in enumerate(scores)]
    held = np.mean([ends is not None and ends[0] <= 0.8 * (1 - missed) <= ends[1] for ends in found])
    assert held >= 0.91  # Student's t holds in 82 % from 10 patients of whom a tenth is missed


def test_ratios_cover_the_chance_of_trainings() -> None:
    rng = np.random.default_rng(1)
    held = []
    for seed in range(200):
        body = rng.beta(8, 2, 30)
        # Trainings differ by 0.06: intervals over patients alone hold in half of the cases.
        arms = [np.clip(share * body + 0.06 * rng.normal(size=(3, 1)), 0, 1) for share in (1.0, 0.85)]
        found = paired_intervals(*arms, (0, 1), names(30), resamples=400, seed=seed)
        assert found is not None and found.ratio is not None
        held.append(found.ratio[0] <= 0.85 <= found.ratio[1])
    assert np.mean(held) >= 0.9


def test_ratios_of_means_of_regions_cover_where_some_do_not_count_and_some_are_false() -> None:
    rng = np.random.default_rng(5)
    held = []
    for seed in range(150):
        there, false = rng.random((40, 3)) < 0.85, rng.random((40, 3)) < 0.3
        body = rng.beta(8, 2, (40, 3))
        # Real finds nothing where nothing is; the other arm has a Dice of 0 there in 30 %, in all trainings or in some.
        real, other = (share * body + 0.02 * rng.normal(size=(2, 1, 1)) for share in (0.9, 0.75))
        some = false & (rng.random((2, 40, 3)) < 0.9)
        real, other = np.where(there, real, np.nan), np.where(there, other, np.where(some, 0.0, np.nan))
        found = paired_intervals(np.clip(real, 0, 1), np.clip(other, 0, 1), (0, 1), names(40), resamples=400, seed=seed)
        assert found is not None and found.ratio is not None
        counted = 0.85 / (0.85 + 0.15 * 0.27)
        held.append(found.ratio[0] <= counted * 0.75 / 0.9 <= found.ratio[1])
    assert np.mean(held) >= 0.92


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([0.0, 0.2, 0.9, 1.0]), min_size=10, max_size=14), st.floats(0.01, 100))
def test_intervals_hold_the_mean_stay_in_the_bounds_and_scale(values: list[float], factor: float) -> None:
    scores = np.array(values)
    low, high = mean_interval(scores, (0, 1), names(len(scores)), resamples=200) or (2.0, -1.0)
    assert -1e-12 <= low <= scores.mean() <= high <= 1 + 1e-12
    scaled = mean_interval(factor * scores, (0, factor), names(len(scores)), resamples=200)
    assert scaled == pytest.approx((factor * low, factor * high))
    # The mirror image has the mirrored interval, up to the chance of the draws.
    mirrored = mean_interval(1 - scores, (0, 1), names(len(scores)), resamples=200)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_what_does_not_count_and_whole_patients() -> None:
    scores = np.random.default_rng(2).uniform(0.4, 0.9, (12, 2))
    single = mean_interval(scores, (0, 1), names(12))
    more = np.vstack([scores, np.full((3, 2), np.nan)])
    assert mean_interval(more, (0, 1), [*names(12), "x", "y", "z"]) == single
    assert mean_interval(more[3:], (0, 1), [*names(9), "x", "y", "z"]) is None  # nine patients with a value
    twice = mean_interval(np.repeat(scores, 2, axis=0), (0, 1), np.repeat(names(12), 2).tolist())
    assert twice == pytest.approx(single)
    with pytest.raises(ValueError, match="lie beyond 0 to 1"):
        mean_interval(scores + 1, (0, 1), names(12))
    assert mean_interval(np.empty(0), (0, 1), []) is None
    with pytest.raises(ValueError, match="nothing between 0 and 0"):
        mean_interval(np.zeros(12), (0, 0), names(12))
    with pytest.raises(ValueError, match="12 subjects"):
        mean_interval(scores, (0, 1), names(11))


def test_trainings_that_agree_add_nothing_and_those_that_do_not_widen() -> None:
    body = np.random.default_rng(3).uniform(0.4, 0.9, 12)
    one = arm_interval(body[None], (0, 1), names(12))
    alike = arm_interval(np.stack([body, body]), (0, 1), names(12))
    apart = arm_interval(np.stack([body - 0.1, body + 0.1]), (0, 1), names(12))
    assert one == pytest.approx(alike)
    assert one is not None and apart is not None and apart[0] < one[0] and one[1] < apart[1]


def test_jackknife_of_a_mean_is_students_t() -> None:
    values = np.random.default_rng(4).normal(size=8)
    without = (values.sum() - values) / 7
    half = 2.3646 * values.std(ddof=1) / 8**0.5
    found = spread_interval(values.mean(), leave_one_out_spread(without))
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-4)


# ----------------------------------------------------------------------------------------------------------- of sets


@pytest.mark.parametrize(("people", "slices", "shift"), [((10, 10), 1, 0.5), ((30, 30), 1, 2.5), ((10, 200), 10, 1.5)])
def test_shares_of_pairs_cover(people: tuple[int, int], slices: int, shift: float) -> None:
    rng, (n, m) = np.random.default_rng(6), people
    unit, held = np.repeat(np.arange(n), slices), []
    for _ in range(300):
        first = shift + 0.8**0.5 * rng.normal(size=n)[unit] + 0.2**0.5 * rng.normal(size=len(unit))
        found = share_of_pairs(first, unit, rng.normal(size=m), np.arange(m))
        assert found.interval is not None
        held.append(found.interval[0] <= ndtr(shift / 2**0.5) <= found.interval[1])
    assert 0.92 <= np.mean(held) <= 0.995


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=10, max_size=15), st.lists(st.integers(0, 4), min_size=10, max_size=15))
def test_a_share_of_pairs_is_counted_and_its_mirror_image_has_the_mirrored_interval(a: list[int], b: list[int]) -> None:
    first, second = np.array(a, np.float64), np.array(b, np.float64)
    units = np.arange(len(a)), np.arange(len(b))
    found = share_of_pairs(first, units[0], second, units[1])
    wins = (first[:, None] > second) + 0.5 * (first[:, None] == second)
    assert found.value == pytest.approx(wins.mean()) and found.interval is not None
    low, high = found.interval
    assert 0 <= low <= found.value <= high <= 1 and low < high
    swapped = share_of_pairs(second, units[1], first, units[0])
    assert swapped.interval == pytest.approx((1 - high, 1 - low))


def test_shares_of_pairs_count_units_and_know_what_was_not_seen() -> None:
    rng, ten = np.random.default_rng(7), np.arange(10)
    assert share_of_pairs(rng.normal(size=9), ten[:9], rng.normal(size=99), np.arange(99)).interval is None
    assert share_of_pairs(np.ones(10), ten, np.zeros(10), ten).interval == pytest.approx((0.05**0.1, 1))
    low, high = share_of_pairs(np.ones(10), ten, np.ones(10), ten).interval or (0, 0)
    assert (low, high) == pytest.approx((0.5 * 0.025**0.1, 1 - 0.5 * 0.025**0.1))
    own = rng.normal(size=10)
    by_patient = share_of_pairs(np.repeat(own, 9), np.repeat(ten, 9), own, ten).interval
    by_slice = share_of_pairs(np.repeat(own, 9), np.arange(90), own, ten).interval
    assert by_patient is not None and by_slice is not None
    assert by_patient[1] - by_patient[0] > 1.2 * (by_slice[1] - by_slice[0])


@pytest.mark.parametrize(("n", "level"), [(6, 0.5), (100, 0.5), (100, 0.05)])
def test_quantiles_of_independent_values_cover(n: int, level: float) -> None:
    values, held = np.random.default_rng(8).exponential(size=(1000, n)), []
    for row in values:
        low, high = quantile_interval(row, level) or (1.0, 0.0)
        held.append(low <= -np.log(1 - level) <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_too_few_values_give_no_interval_of_a_quantile() -> None:
    values = np.arange(72.0)
    assert quantile_interval(values[:5], 0.5) is None and quantile_interval(values[:6], 0.5) is not None
    assert quantile_interval(values[:71], 0.05) is None and quantile_interval(values, 0.05) is not None
    low, high = quantile_interval(values, 0.3) or (0, 0)
    assert quantile_interval(-values, 0.7) == pytest.approx((-high, -low))  # and the quantile from the other side
    assert quantile_interval(np.ones(9), 0.5) == (1, 1)
