"""Copying in numbers: cases worked out by hand, planted copies, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from synthkit_memorization.estimate import distance
from synthkit_memorization.numbers.authenticity import authentic, distance_ratio, summarise_ratios
from synthkit_memorization.numbers.closeness import c_t, cells, closer_than_holdout, closer_to_train, embedding
from synthkit_memorization.numbers.membership import membership_auc

from synthkit.testing import InMemorySamples

ZEROS = np.zeros(40, np.int64)


def test_distance_is_that_of_standardised_images() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    x, y = ((v - v.mean()) / np.linalg.norm(v - v.mean()) for v in (x, y))
    assert distance(np.array([x @ y]))[0] == pytest.approx(np.linalg.norm(x - y))
    np.testing.assert_array_equal(distance(np.array([1.0, 1.0 + 1e-15, -1.0])), [0, 0, 2])


# ----------------------------------------------------------------------------------------------------------------- C_T


def test_c_t_of_one_cell_is_the_z_score_of_mann_whitney() -> None:
    rng = np.random.default_rng(1)
    synthetic, holdout = rng.uniform(0.2, 1, 40), rng.uniform(0, 1, 40)
    u = mannwhitneyu(synthetic, holdout).statistic
    assert c_t(synthetic, holdout, ZEROS, ZEROS).value == pytest.approx((u - 800) / np.sqrt(1600 * 81 / 12))


def test_c_t_of_copies_is_worked_out_by_hand() -> None:
    # All synthetic images at 0 and all held-out ones at 1: U = 0, so z = -(20 * 20 / 2) / sqrt(400 * 41 / 12).
    found = c_t(np.zeros(20), np.ones(20), ZEROS[:20], ZEROS[:20])
    assert found.value == pytest.approx(-200 / np.sqrt(400 * 41 / 12))
    assert c_t(np.zeros(20), np.zeros(20), ZEROS[:20], ZEROS[:20]).value == pytest.approx(0)


def test_cells_are_weighted_by_held_out_images_and_small_ones_left_out() -> None:
    m, n = (20, 25, 19, 30), (20, 60, 30, 19)  # the third cell lacks synthetic images, the fourth held-out ones
    synthetic_cell, holdout_cell = np.repeat(np.arange(4), m), np.repeat(np.arange(4), n)
    synthetic = np.where(synthetic_cell == 0, 0.0, 2.0)  # copies in the first cell, far away elsewhere
    found = c_t(synthetic, np.ones(len(holdout_cell)), synthetic_cell, holdout_cell)
    z = [sign * m * n / 2 / np.sqrt(m * n * (m + n + 1) / 12) for sign, m, n in ((-1, 20, 20), (1, 25, 60))]
    assert found.value == pytest.approx((20 * z[0] + 60 * z[1]) / 80)
    assert found.n == 2 and found.low is None
    assert c_t(np.zeros(19), np.ones(50), ZEROS[:19], np.zeros(50, np.int64)).value is None


def test_cells_find_separate_clusters() -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(3, 200)).astype(np.float32)
    label = rng.integers(0, 3, (3, 90))
    points = centres[label] + rng.normal(0, 0.01, (3, 90, 200)).astype(np.float32)
    synthetic, holdout = cells(points[0], (points[1], points[2]), 3, seed=0)
    names = {(own, int(cell)) for own, cell in zip(label[1], synthetic, strict=True)}
    assert len(names) == 3 and {cell for _, cell in names} == {0, 1, 2}
    assert {(own, int(cell)) for own, cell in zip(label[2], holdout, strict=True)} == names
    assert (cells(points[0][:2], (points[1],), 5, seed=0)[0] < 2).all()


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_embedding_is_means_over_areas_standardised(size: tuple[int, int]) -> None:
    images = np.random.default_rng(3).integers(0, 256, (3, 2, *size), dtype=np.uint8)
    found = embedding(InMemorySamples(images), side=8)
    small = images.reshape(3, 2, 8, size[0] // 8, 8, size[1] // 8).mean(axis=(3, 5)).reshape(3, -1)
    small -= small.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, small / np.linalg.norm(small, axis=1, keepdims=True), atol=1e-5)
    uneven = embedding(InMemorySamples(images[..., :30, :31] if size == (32, 32) else images), side=7)
    np.testing.assert_allclose(np.linalg.norm(uneven, axis=1), 1, atol=1e-5)


# ------------------------------------------------------------------------------------------------- nearer to training


def test_closer_than_holdout_counts_pairs() -> None:
    synthetic, holdout = np.array([0.9, 0.5, 0.7]), np.array([0.6, 0.7, 0.95, 0.1])
    wins = (synthetic[:, None] > holdout) + 0.5 * (synthetic[:, None] == holdout)
    found = closer_than_holdout(synthetic, holdout, np.array([4, 4, 7, 7]))
    assert found.value == pytest.approx(wins.mean()) and found.n == 2
    assert found.low is None and "2 on a side: no interval, give at least 10" in found.note


def test_closer_than_holdout_of_copies_and_of_one_patient() -> None:
    patient = np.repeat(np.arange(12), 5)
    found = closer_than_holdout(np.ones(100), np.full(60, 0.5), patient)
    assert found.value == found.high == 1 and found.low == pytest.approx(0.05 ** (1 / 12))
    assert closer_than_holdout(np.ones(9), np.zeros(60), patient).low is None


def test_interval_of_closer_than_holdout_covers_with_slices_that_depend_on_each_other() -> None:
    rng = np.random.default_rng(4)
    patient, covered = np.repeat(np.arange(30), 20), 0
    for _ in range(200):
        holdout = rng.normal(size=30)[patient] + rng.normal(0, 0.2, 600)
        found = closer_than_holdout(rng.normal(0, np.sqrt(1.04), 150), holdout, patient)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / 200 <= 0.99  # images as independent would cover about 0.4


def test_closer_to_train_counts_ties_half_and_has_no_interval() -> None:
    found = closer_to_train(np.array([0.9, 0.5, 0.7, 0.7]), np.array([0.8, 0.6, 0.7, 0.1]))
    assert found.value == (1 + 0 + 0.5 + 1) / 4 and found.n == 4
    assert found.low is None and "no interval" in found.note


# -------------------------------------------------------------------------------------- against other training images


def test_authenticity_is_worked_out_by_hand() -> None:
    train_r = np.array([0.5, 0.8, 0.9])
    r, match = np.array([0.6, 0.6, 0.95, 0.9]), np.array([0, 1, 2, 2])
    # Nearer to image 0 than 0.5: not authentic; farther from 1 than 0.8: authentic; 0.95 > 0.9 is not; a tie is.
    np.testing.assert_array_equal(authentic(r, match, train_r), [False, True, False, True])


def test_authenticity_falls_with_every_planted_copy() -> None:
    rng = np.random.default_rng(7)
    train, synthetic = rng.normal(size=(30, 100)), rng.normal(size=(40, 100))
    own = np.corrcoef(train)
    np.fill_diagonal(own, -1)
    shares = []
    for copies in range(0, 41, 5):
        planted = synthetic.copy()
        planted[:copies] = train[np.arange(copies) % 30] + rng.normal(0, 0.1, (copies, 100))
        r = np.corrcoef(planted, train)[:40, 40:]
        shares.append(authentic(r.max(axis=1), r.argmax(axis=1), own.max(axis=1)).mean())
    assert (np.diff(shares) < 0).all() and shares[-1] == 0


def test_distance_ratio_of_copies_ties_and_missing_patients() -> None:
    r, other = np.array([1.0, 0.92, 0.5, 1.0, 0.9]), np.array([0.5, 0.68, 0.5, 1.0, np.nan])
    np.testing.assert_allclose(distance_ratio(r, other), [0, 0.5, 1, 1, np.nan])


def test_ratios_are_summed_up_as_quantiles_and_the_share_below_the_null() -> None:
    null = np.append(np.arange(1, 101) / 100, np.nan)
    patient = np.arange(101) % 10
    synthetic = np.concatenate([np.full(30, 0.01), np.full(69, 0.8), [np.nan]])
    found = summarise_ratios(synthetic, null, patient)
    assert (found.null_median.value, found.null_low_quantile.value) == (0.5, 0.05)
    assert (found.median.value, found.low_quantile.value, found.below_null.value) == (0.8, 0.01, 30 / 99)
    assert found.below_null.low is None and found.null_median.n == 10 and "10 patients" in found.below_null.note
    assert found.low_quantile.low == found.low_quantile.high == 0.01  # of 99 images
    few = summarise_ratios(synthetic[:60], null, patient)
    assert (
        few.low_quantile.low is None and few.low_quantile.note == "over synthetic images, of which 60 give no interval"
    )
    assert few.median.low == 0.01 and few.median.high == 0.8
    assert summarise_ratios(np.array([np.nan]), null, patient).below_null.value is None


# ---------------------------------------------------------------------------------------------------------- membership


def test_membership_is_the_area_under_the_curve_of_patient_means() -> None:
    train_r, train_patient = np.array([0.9, 0.7, 0.5, 0.5]), np.array([0, 0, 1, 1])  # means 0.8, 0.5
    holdout_r, holdout_patient = np.array([0.5, 0.95, 0.35]), np.array([3, 8, 8])  # means 0.5, 0.65
    arguments = train_r, train_patient, holdout_r, holdout_patient
    assert membership_auc(*arguments).value == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert membership_auc(*arguments, score="max").value == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert membership_auc(*arguments).n == 4


def test_membership_of_separate_and_of_lone_patients() -> None:
    patient = np.repeat(np.arange(10), 4)
    found = membership_auc(np.ones(40), patient, np.zeros(40), patient)
    assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(0.05 ** (1 / 10))
    assert membership_auc(np.ones(40), patient, np.zeros(36), patient[:36]).low is None


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_membership_knows_its_bounds_and_no_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r, patient = rng.integers(0, 8, (2, 30)) / 8, rng.integers(0, 14, (2, 30))  # sums are exact
    found = membership_auc(r[0], patient[0], r[1], patient[1])
    order = rng.permutation(30)
    assert membership_auc(r[0][order], patient[0][order], r[1], patient[1]).value == pytest.approx(found.value)
    swapped = membership_auc(r[1], patient[1], r[0], patient[0])
    assert found.value is not None and swapped.value == pytest.approx(1 - found.value)
    assert found.low is None or 0 <= found.low <= found.value <= (found.high or 0) <= 1
