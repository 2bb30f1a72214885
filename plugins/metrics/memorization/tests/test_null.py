"""Thresholds, what they guarantee and what they really give, against plain loops and simulated subjects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthkit_memorization.estimate import resampled_subjects
from synthkit_memorization.null.thresholds import Null, rank_among


def random_null(seed: int, n: int, n_subjects: int, columns: int, tied: bool = True) -> Null:
    rng = np.random.default_rng(seed)
    subject = np.concatenate([np.arange(n_subjects), rng.integers(0, n_subjects, n - n_subjects)])
    r = rng.normal(0.7, 0.05, (n_subjects, columns))[subject] + rng.normal(0, 0.05, (n, columns))
    return Null(np.round(r, 2) if tied else r, subject)


def test_thresholds_are_the_mth_largest_values() -> None:
    r = np.column_stack([np.arange(1.0, 20.0), -np.arange(1.0, 20.0)]) / 20
    null = Null(r, np.arange(19))
    np.testing.assert_array_equal(null.thresholds(0.2), [18 / 20, -2 / 20])  # m = floor(20 * 0.1) = 2
    np.testing.assert_array_equal(null.thresholds(0.001), [19 / 20, -1 / 20])  # too small a rate: the maxima
    np.testing.assert_array_equal(null.quantile_of(np.array([[0.5, 1.0]])), [[9 / 19, 1.0]])


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 3), st.floats(0.01, 0.5))
@settings(max_examples=60, deadline=None)
def test_images_flagged_by_others_are_those_of_a_loop_over_subjects(
    seed: int, n_subjects: int, columns: int, rate: float
) -> None:
    null = random_null(seed, 30, n_subjects, columns)
    for subject in range(n_subjects):
        own = null.subject == subject
        others = Null(null.r[~own], null.subject[~own])
        expected = null.r[own] > others.thresholds(rate)
        np.testing.assert_array_equal(null.flagged_by_others(rate)[own], expected)


@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(0.01, 0.5))
@settings(max_examples=30, deadline=None)
def test_intervals_are_those_of_explicitly_repeated_images(seed: int, n_subjects: int, rate: float) -> None:
    null = random_null(seed, 40, n_subjects, 2)
    times = resampled_subjects(n_subjects, 100, np.random.default_rng(3))
    thresholds, medians = np.empty((2, 100, 2))
    for b, drawn in enumerate(times):
        rows = np.repeat(np.arange(40), drawn[null.subject])
        ordered = -np.sort(-null.r[rows], axis=0)
        thresholds[b] = ordered[rank_among(len(rows), rate / 2) - 1]
        medians[b] = ordered[(len(rows) + 1) // 2 - 1]
    found = null.intervals(rate, 100, 3)
    assert found is not None
    for interval, draws in zip(found, (thresholds, medians), strict=True):
        np.testing.assert_array_equal(interval, np.quantile(draws, (0.025, 0.975), axis=0).T)


def test_one_subject_says_nothing_about_subjects() -> None:
    null = Null(np.linspace(0, 1, 5)[:, None], np.zeros(5, np.int64))
    assert null.cross_validated_rate(0.1) is None
    assert null.explained_rate(0.1) is None
    assert null.intervals(0.1, 100, 0) is None


def test_guarantees_of_a_maximum_count_subjects_and_not_their_images() -> None:
    subject = np.repeat(np.arange(9), 50)
    null = Null(np.random.default_rng(0).normal(size=(450, 1)), subject)
    assert null.guaranteed_rate(0.001) == pytest.approx(1 / 10)
    assert null.rate_bound(0.001) == pytest.approx(1 - 0.05 ** (1 / 9))
    single = Null(null.r, np.arange(450))
    assert single.guaranteed_rate(0.02) == pytest.approx(9 / 451)  # m / (n + 1), as without clusters
    two = Null(np.tile(null.r, 2), subject)
    assert two.guaranteed_rate(0.001) == pytest.approx(2 / 10)


@pytest.mark.parametrize("rate", [0.001, 0.1])
def test_guarantees_hold_where_images_of_a_subject_are_as_good_as_equal(rate: float) -> None:
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(20), 10)
    rates = np.empty(400)
    for i in range(len(rates)):
        null = Null(rng.uniform(size=20)[subject][:, None] + rng.normal(0, 1e-6, (200, 1)), subject)
        rates[i] = 1 - null.thresholds(rate)[0]  # uniform subjects: the true rate
    standard_error = rates.std() / np.sqrt(len(rates))
    assert rates.mean() <= null.guaranteed_rate(rate) + 3 * standard_error
    assert rates.mean() >= 0.6 * null.guaranteed_rate(rate)  # the worst case of the bound, so nearly reached
    assert (rates <= null.rate_bound(rate)).mean() >= 0.93
    assert rates.mean() > 3 * 1 / 201 or rate > 0.001  # counting images instead of subjects would promise this


@given(st.integers(0, 1000), st.permutations(range(24)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_images_and_the_numbers_of_subjects_do_not_matter(seed: int, order: list[int]) -> None:
    null = random_null(seed, 24, 4, 2)
    other = Null(null.r[order], 3 - null.subject[order])
    np.testing.assert_array_equal(null.thresholds(0.2), other.thresholds(0.2))
    assert null.explained_rate(0.2) == other.explained_rate(0.2)
    assert null.guaranteed_rate(0.2) == other.guaranteed_rate(0.2)
