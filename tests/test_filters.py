"""Filters of small volumes agree with SciPy's, and labels are counted right however their array lies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthkit.data.filters import Nearby, blurred, box_mean, eroded, with_holes_filled
from synthkit.data.label_reading import counts_of

SHAPES = st.tuples(*[st.integers(5, 9)] * 3)
SEEDS = st.integers(0, 1000)


@given(SHAPES, SEEDS)
@settings(max_examples=20, deadline=None)
def test_means_and_blurs_agree_with_scipy(shape: tuple[int, int, int], seed: int) -> None:
    volume = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    for edge, mode in (("constant", "constant"), ("edge", "nearest")):
        assert box_mean(volume, 3, edge) == pytest.approx(ndimage.uniform_filter(volume, 3, mode=mode), abs=1e-6)
    assert blurred(volume, 0.8, 2) == pytest.approx(ndimage.gaussian_filter(volume, 0.8, truncate=2.5), abs=1e-6)


@given(SHAPES, SEEDS, st.floats(0.2, 0.9))
@settings(max_examples=40, deadline=None)
def test_masks_agree_with_scipy(shape: tuple[int, int, int], seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    np.testing.assert_array_equal(eroded(mask, 2), ndimage.binary_erosion(mask, iterations=2))
    np.testing.assert_array_equal(with_holes_filled(mask), ndimage.binary_fill_holes(mask))


def test_a_winding_way_out_is_no_hole() -> None:
    mask = np.ones((9, 9, 3), dtype=bool)
    mask[1, 1:8, 1] = mask[1:8, 7, 1] = mask[7, 2:8, 1] = mask[3:8, 2, 1] = mask[3, 2:6, 1] = mask[3:6, 5, 1] = False
    closed = mask.copy()
    assert with_holes_filled(closed).all()
    mask[5, 5, 2] = False
    np.testing.assert_array_equal(with_holes_filled(mask), mask)


@given(SHAPES, SEEDS)
@settings(max_examples=20, deadline=None)
def test_values_between_voxels_agree_with_scipy(shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    volumes = rng.normal(size=(2, *shape)).astype(np.float32)
    there = rng.uniform(-2, np.array(shape)[:, None] + 1, (3, 50))
    there[:, :4] = np.array(shape)[:, None] - 1.0  # the last voxel
    there[:, 4:8] = 0
    seen = Nearby(there, shape).seen(volumes.reshape(2, -1).T)
    for one, volume in zip(seen, volumes, strict=True):
        expected = ndimage.map_coordinates(volume, there, np.float32, order=1, mode="constant")
        assert one == pytest.approx(expected, abs=1e-5)


@given(st.tuples(*[st.integers(1, 7)] * 3), SEEDS, st.sampled_from([(0, 1, 2), (2, 1, 0), (1, 0, 2)]))
@settings(max_examples=40, deadline=None)
def test_labels_are_counted(shape: tuple[int, int, int], seed: int, order: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 0, 0, 1, 4, 255], dtype=np.uint8), shape).transpose(order)
    values, counts = np.unique(labels, return_counts=True)
    expected = dict(zip(values.tolist(), counts.tolist(), strict=True))
    for view in (labels, labels[::-1], labels[:, ::-1, ::-1], np.asfortranarray(labels), labels[:, :, ::2]):
        if view.shape == labels.shape:
            assert counts_of(view) == expected
    assert sum(counts_of(labels[::2]).values()) == labels[::2].size
