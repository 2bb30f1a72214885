"""Near-duplicates: groups planted by hand, and the share that has a valid interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from synthkit_memorization.numbers.duplicates import near_duplicates, share_of_real
from synthkit_memorization.search.matches import Matches


def matches(r: NDArray[np.float64], k: int) -> Matches:
    """The k best of each image among the others, from all correlations."""
    among = r.copy()
    np.fill_diagonal(among, -np.inf)
    index = np.argsort(-among, axis=1, kind="stable")[:, :k]
    return Matches(index, np.take_along_axis(among, index, axis=1))


def linked(n: int, *pairs: tuple[int, int]) -> NDArray[np.float64]:
    r = np.zeros((n, n))
    for a, b in pairs:
        r[a, b] = r[b, a] = 0.99
    return r


def test_groups_are_worked_out_by_hand() -> None:
    found = near_duplicates(matches(linked(8, (0, 3), (3, 5), (1, 2)), k=3), 0.9)
    assert (found.n_images, found.n_groups, found.largest, found.n_cut) == (5, 5, 3, 0)
    # Of 1, 3, 5, 7, image 1 has its near-duplicate 2 and image 3 its 0 in the other half; 5 has only 3.
    assert found.across_halves.value == 0.5 and found.across_halves.n == 4
    assert found.across_halves.low == pytest.approx(0.067586, abs=1e-6)


def test_a_line_that_nobody_exceeds_leaves_every_image_on_its_own() -> None:
    found = near_duplicates(matches(linked(6, (0, 1)), k=2), 0.99)
    assert (found.n_images, found.n_groups, found.largest) == (0, 6, 1)
    assert found.across_halves.value == found.across_halves.low == 0
    assert found.across_halves.high == pytest.approx(1 - 0.05 ** (1 / 3))


def test_identical_images_are_one_group_and_the_cut_is_told() -> None:
    found = near_duplicates(matches(np.ones((10, 10)), k=4), 0.9)
    assert (found.n_images, found.n_groups, found.largest, found.n_cut) == (10, 1, 10, 10)
    assert near_duplicates(matches(np.ones((5, 5)), k=4), 0.9).n_cut == 0


def test_missing_matches_and_a_lone_image() -> None:
    lone = Matches(np.array([[-1]]), np.array([[np.nan]]))
    found = near_duplicates(lone, 0.5)
    assert (found.n_images, found.n_groups, found.largest, found.across_halves.value) == (0, 1, 1, None)


@given(st.integers(0, 1000), st.floats(0.5, 1))
@settings(max_examples=50, deadline=None)
def test_order_does_not_matter_and_counts_agree(seed: int, line: float) -> None:
    rng = np.random.default_rng(seed)
    r = rng.uniform(size=(12, 12))
    r = np.maximum(r, r.T)
    found = near_duplicates(matches(r, k=11), line)
    order = rng.permutation(12)
    again = near_duplicates(matches(r[np.ix_(order, order)], k=11), line)
    assert (found.n_images, found.n_groups, found.largest) == (again.n_images, again.n_groups, again.largest)
    off = r - 2 * np.eye(12)
    assert found.n_images == (off.max(axis=1) > line).sum()
    assert 12 - found.n_images < found.n_groups + (found.n_images == 0)
    assert found.n_groups <= 12 - found.n_images / 2


def test_share_of_real_images_has_no_interval() -> None:
    found = share_of_real(np.repeat([0.99, 0.1], [5, 15]), 0.9)
    assert (found.value, found.n, found.low) == (0.25, 20, None) and "how the line is drawn" in found.note
