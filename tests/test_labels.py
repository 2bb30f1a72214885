"""Label values and their grey code."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthkit.data.labels import from_grey, grey_levels, to_grey
from synthkit.schemes import BRATS as CONVENTION

BRATS = list(CONVENTION.values)
label_sets = st.sets(st.integers(1, 200), min_size=1, max_size=8).map(lambda values: sorted({0, *values}))


def test_grey_levels_of_brats_are_those_of_the_study() -> None:
    assert grey_levels(BRATS).tolist() == [0, 51, 102, 204]


def test_cut_points_are_those_of_the_study() -> None:
    # 25.5, 76.5 and 153: a tie goes to the lower level.
    for grey, label in ((0, 0), (25, 0), (26, 1), (76, 1), (77, 2), (152, 2), (153, 2), (154, 4), (255, 4)):
        assert from_grey(np.array([grey], np.uint8), BRATS)[0][0] == label


def test_off_level_pixels_are_counted() -> None:
    labels, off = from_grey(np.array([[0, 51, 52], [204, 203, 90]], np.uint8), BRATS)
    assert labels.tolist() == [[0, 1, 1], [4, 4, 2]]
    assert off == 3


@given(hnp.arrays(np.uint8, st.tuples(st.integers(0, 5), st.integers(1, 5)), elements=st.sampled_from(BRATS)))
def test_round_trip_of_brats_is_exact(labels: np.ndarray) -> None:
    decoded, off = from_grey(to_grey(labels, BRATS), BRATS)
    assert np.array_equal(decoded, labels)
    assert off == 0


@given(label_sets, st.data())
def test_round_trip_of_any_labels_is_exact(values: list[int], data: st.DataObject) -> None:
    labels = data.draw(hnp.arrays(np.uint8, 20, elements=st.sampled_from(values)))
    decoded, off = from_grey(to_grey(labels, values), values)
    assert np.array_equal(decoded, labels)
    assert off == 0


@given(label_sets, st.integers(0, 255))
def test_decoding_takes_the_nearest_level(values: list[int], grey: int) -> None:
    (label,), off = from_grey(np.array([grey], np.uint8), values)
    distances = [abs(int(level) - grey) for level in grey_levels(values)]
    assert distances[values.index(label)] == min(distances)
    assert off == (min(distances) > 0)


def test_unknown_labels_become_background() -> None:
    assert to_grey(np.array([3, 4, 200], np.uint8), BRATS).tolist() == [0, 204, 0]
