"""The protocol against hand-made volumes, against a slow and literal second implementation, and its inverse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from synthkit.data.geometry import AS_STORED
from synthkit.data.native_grid import to_native
from synthkit.data.reducing import reduce_image, reduce_labels
from synthkit.data.slices import (
    SliceProtocol,
    kept_slices,
    negative_voxels,
    slice_volume,
    slices_for_segmentation,
)
from synthkit.data.subjects import SubjectError, SubjectVolumes, find_subjects, load_subject
from synthkit.errors import DataError, UsageError

CONTRASTS = ("t1", "t1ce", "t2", "flair")
STUDY = SliceProtocol(orientation=AS_STORED)


def _volumes(labels: np.ndarray | None = None, **images: np.ndarray) -> SubjectVolumes:
    """A subject in memory; contrasts not given are like the first that is."""
    first = next(iter(images.values()))
    every = {name: images.get(name, first) for name in CONTRASTS}
    every = {name: np.asfortranarray(data) for name, data in every.items()}
    return SubjectVolumes("A", every, labels, np.eye(4), (1.0, 1.0, 1.0), None)


def _literal(volumes: SubjectVolumes, protocol: SliceProtocol) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The study's script, line by line, in double precision: scale, pad, count, keep, round, one slice at a time."""
    scaled = {
        name: volumes.images[name].astype(np.float64) / volumes.images[name].astype(np.float64).max() * 255
        for name in CONTRASTS
    }
    assert volumes.labels is not None
    kept, images, labels = [], [], []
    for z in range(volumes.shape[2]):
        padded = {}
        for name, volume in (*scaled.items(), ("seg", volumes.labels)):
            temp = np.zeros((256, 256))
            temp[8:-8, 8:-8] = volume[:, :, z]
            padded[name] = temp
        if (padded["t1"] > 50).sum() / (256 * 256) > 0.15:
            kept.append(z)
            rounded = [np.floor(np.maximum(padded[name], 0) + 0.5).astype(np.uint8).T for name in CONTRASTS]
            images.append(np.stack(rounded))
            labels.append(padded["seg"].astype(np.uint8).T)
    return kept, np.stack(images), np.stack(labels)


# -------------------------------------------------------------------------------------------------------- known answers


def test_rule_is_strictly_more_than_15_percent_of_256_squared() -> None:
    # 15 % of 65,536 is 9,830.4: 9,830 pixels are too few, 9,831 are enough.
    t1 = np.zeros((240, 240, 4), dtype=np.int16)
    t1[0, 0] = 255  # makes the scale 1:1, and counts
    for z, n in enumerate((9_829, 9_830, 9_831, 20_000)):
        flat = np.zeros(240 * 240, dtype=np.int16)
        flat[1:n] = 51
        t1[:, :, z] += flat.reshape(240, 240)
    assert kept_slices(_volumes(t1=t1), SliceProtocol()) == (2, 3)


def test_rule_is_strictly_above_50_before_rounding() -> None:
    # With a maximum of 1020, 200 is 50.0 and 201 is 50.25, which would be stored as 50 too.
    t1 = np.zeros((240, 240, 2), dtype=np.int16)
    t1[:, :, 0], t1[:, :, 1], t1[0, 0] = 200, 201, 1020
    slices = slice_volume(_volumes(t1=t1), SliceProtocol())
    assert slices.slice_indices == (1,) and slices.n_dropped == 1
    assert slices.images[0, 0, 100, 100] == 50


def test_rule_looks_at_t1_only() -> None:
    dark, bright = np.ones((240, 240, 1), np.int16), np.full((240, 240, 1), 99, np.int16)
    dark[0, 0] = 1000
    assert kept_slices(_volumes(t1=dark, t2=bright), SliceProtocol()) == ()
    assert kept_slices(_volumes(t1=bright, t2=dark), SliceProtocol()) == (0,)
    assert kept_slices(_volumes(t1=dark, t2=bright), SliceProtocol(contrasts=("t2", "t1"))) == ()
    assert kept_slices(_volumes(t1=dark, t2=bright), SliceProtocol(contrasts=("t2",))) == (0,)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_scaling_rounds_half_up_and_clips(dtype: Any) -> None:
    # 510 becomes 255, so odd values lie half-way: 1 -> 0.5 -> 1, 3 -> 1.5 -> 2, 5 -> 2.5 -> 3.
    t1 = np.full((240, 240, 1), 400, dtype=dtype)
    t1[0, :8, 0] = [510, 1, 2, 3, 5, 0, -1, -700]
    volumes = _volumes(t1=t1)
    slices = slice_volume(volumes, SliceProtocol())
    # Voxel (0, y) of the array is in the first column that is not a padding.
    assert slices.images[0, 0, 8:16, 8].tolist() == [255, 1, 1, 2, 3, 0, 0, 0]
    assert negative_voxels(volumes, SliceProtocol()) == dict.fromkeys(CONTRASTS, 2)


def test_padding_and_orientation() -> None:
    t1 = np.full((240, 240, 1), 100, np.int16)
    t1[3, 200, 0] = 255
    labels = np.zeros((240, 240, 1), np.uint8)
    labels[3, 200, 0] = 4
    slices = slice_volume(_volumes(t1=t1, labels=labels), SliceProtocol())
    assert slices.images.shape == (1, 4, 256, 256) and slices.labels is not None
    assert np.argwhere(slices.images[0, 0] == 255).tolist() == [[208, 11]]  # (y, x)
    assert np.argwhere(slices.labels[0]).tolist() == [[208, 11]]
    border = slices.images[0, 0].copy()
    assert (border[8:-8, 8:-8] >= 100).all()
    border[8:-8, 8:-8] = 0
    assert not border.any()


def test_odd_sizes_are_padded_with_the_extra_pixel_at_the_end() -> None:
    t1 = np.full((239, 251, 1), 100, np.int16)
    image = slice_volume(_volumes(t1=t1), SliceProtocol()).images[0, 0]
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (rows[0], rows[-1]) == (2, 252) and (columns[0], columns[-1]) == (8, 246)


def test_larger_volumes_are_cut_only_where_they_are_empty() -> None:
    t1 = np.zeros((300, 240, 1), np.int16)
    t1[22:278, 10:200] = 100
    volumes = _volumes(t1=t1, labels=(t1 > 0).astype(np.uint8))
    slices = slice_volume(volumes, SliceProtocol())
    assert slices.images[0, 0].any(axis=0).all()
    assert slices.labels is not None
    back = to_native(slices.labels, slices.slice_indices, volumes, SliceProtocol())
    np.testing.assert_array_equal(back, volumes.labels)
    t1[21, 20] = 1
    with pytest.raises(SubjectError, match="300x240 pixels in the plane and not empty outside the central 256x256"):
        slice_volume(_volumes(t1=t1), SliceProtocol())


def test_percentile_intensity_clips() -> None:
    t1 = np.zeros((240, 240, 1), np.int16)
    t1[:200, :200, 0] = 100
    t1[0, 0, 0] = 30_000
    assert kept_slices(_volumes(t1=t1), SliceProtocol()) == ()  # one bright voxel makes everything dark
    slices = slice_volume(_volumes(t1=t1), SliceProtocol(intensity="p99.9"))
    assert np.unique(slices.images).tolist() == [0, 255]


def test_all_slices_for_segmentation() -> None:
    t1 = np.zeros((240, 240, 3), np.int16)
    t1[:, :, 1] = 100
    volumes = _volumes(t1=t1)
    every = slices_for_segmentation(volumes, SliceProtocol())
    assert every.slice_indices == (0, 1, 2) and every.n_dropped == 0 and every.labels is None
    assert slices_for_segmentation(volumes, SliceProtocol(), all_slices=False).slice_indices == (1,)


# ------------------------------------------------------------------------------------------------------- reduced sizes


def test_reduced_images_are_block_means_rounded_half_up() -> None:
    image = np.zeros((4, 4), np.uint8)
    image[:2, :2], image[0, 2], image[2:, 2:] = [[1, 2], [3, 4]], 2, 255
    assert reduce_image(image, 2).tolist() == [[3, 1], [0, 255]]  # 2.5, 0.5, 0, 255
    assert reduce_image(np.full((8, 8), 255, np.uint8), 8).tolist() == [[255]]


def test_reduced_labels_are_the_most_frequent_and_the_larger_of_equals() -> None:
    labels = np.array([[0, 0, 1, 2], [0, 4, 2, 1], [0, 4, 0, 0], [4, 0, 0, 0]], np.uint8)
    assert reduce_labels(labels, 2).tolist() == [[0, 2], [4, 0]]
    assert reduce_labels(np.zeros((4, 4), np.uint8), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("size", [128, 64, 32])
def test_reduced_slices_are_reductions_of_the_full_ones(size: int) -> None:
    rng = np.random.default_rng(0)
    t1 = rng.integers(50, 1000, (240, 240, 3)).astype(np.int16)
    t1[:, :, 1] = 0
    labels = rng.choice(np.array([0, 1, 2, 4], np.uint8), (240, 240, 3))
    full = slice_volume(_volumes(t1=t1, labels=labels), SliceProtocol())
    small = slice_volume(_volumes(t1=t1, labels=labels), SliceProtocol(size=size))
    assert small.slice_indices == full.slice_indices == (0, 2)
    assert small.images.shape == (2, 4, size, size)
    n = 256 // size
    means = full.images.reshape(2, 4, size, n, size, n).astype(float).mean(axis=(3, 5))
    np.testing.assert_array_equal(small.images, np.floor(means + 0.5))
    assert full.labels is not None and small.labels is not None
    block = full.labels[1, 4 * n : 5 * n, 4 * n : 5 * n]
    counts = np.bincount(block.ravel(), minlength=5)
    assert small.labels[1, 4, 4] == max(np.flatnonzero(counts == counts.max()))


def test_reduced_labels_are_enlarged_by_repetition() -> None:
    protocol = SliceProtocol(size=64)
    small = np.zeros((1, 64, 64), np.uint8)
    small[0, 10, 20] = 4  # rows 40 to 43 and columns 80 to 83 of the padded slice, 8 less in the volume
    native = to_native(small, [1], _volumes(t1=np.zeros((240, 240, 2))), protocol)
    expected = np.zeros((240, 240, 2), np.uint8)
    expected[72:76, 32:36, 1] = 4
    np.testing.assert_array_equal(native, expected)


# ------------------------------------------------------------------------------------------------------------- inverse


@settings(max_examples=30, deadline=None)
@given(nx=st.integers(1, 300), ny=st.integers(1, 300), nz=st.integers(1, 3), seed=st.integers(0, 99))
def test_labels_come_back_whatever_the_size(nx: int, ny: int, nz: int, seed: int) -> None:
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 4], np.uint8), (nx, ny, nz))
    for axis, n in enumerate((nx, ny)):  # what would be cut off has to be empty
        outside = np.ones(n, bool)
        outside[max(0, (n - 256) // 2) : max(0, (n - 256) // 2) + 256] = False
        labels[(slice(None),) * axis + (outside,)] = 0
    assume(labels.any())
    volumes = _volumes(t1=(labels > 0).astype(np.int16), labels=labels)
    slices = slices_for_segmentation(volumes, SliceProtocol())
    assert slices.labels is not None
    np.testing.assert_array_equal(to_native(slices.labels, slices.slice_indices, volumes, SliceProtocol()), labels)


def test_slices_not_given_are_background_and_wrong_ones_are_refused() -> None:
    ones = np.ones((1, 256, 256), np.uint8)
    volumes = _volumes(t1=np.zeros((240, 230, 5)))
    native = to_native(iter(ones), [2], volumes, SliceProtocol())
    assert native.shape == (240, 230, 5) and native.dtype == np.uint8
    assert native[:, :, 2].all() and native.sum() == 240 * 230
    for label_slices, indices in ((ones, [0, 1]), (ones, []), (np.ones((1, 64, 64), np.uint8), [0])):
        with pytest.raises(DataError, match="do not make a volume"):
            to_native(label_slices, indices, volumes, SliceProtocol())


# ----------------------------------------------------------------------------------------------------- the real thing


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("BRATS_009", range(0, 55)),
        ("BRATS_119", range(0, 33)),
        ("Brats18_CBICA_AAB_1", range(43, 115)),
        ("TCGA-DU-7294", range(45, 110)),
        ("TCGA-FG-6692", range(36, 119)),
    ],
)
def test_real_subjects_equal_the_literal_protocol(real_subjects: Path, name: str, kept: range) -> None:
    volumes = load_subject(find_subjects(real_subjects / name)[0])
    expected_kept, expected_images, expected_labels = _literal(volumes, STUDY)
    assert expected_kept == list(kept)
    slices = slice_volume(volumes, STUDY)
    assert slices.slice_indices == tuple(kept)
    assert slices.n_dropped == volumes.shape[2] - len(kept)
    np.testing.assert_array_equal(slices.images, expected_images)
    np.testing.assert_array_equal(slices.labels, expected_labels)
    assert negative_voxels(volumes, STUDY) == {c: int((volumes.images[c] < 0).sum()) for c in CONTRASTS}
    every = slices_for_segmentation(volumes, STUDY)
    assert every.labels is not None
    np.testing.assert_array_equal(to_native(every.labels, every.slice_indices, volumes, STUDY), volumes.labels)


def test_float_and_integer_volumes_give_the_same_slices(real_subjects: Path) -> None:
    volumes = load_subject(find_subjects(real_subjects / "TCGA-FG-6692")[0])
    floats = {name: data[:, :, 60:70].astype(np.float32) for name, data in volumes.images.items()}
    ints = {name: data[:, :, 60:70] for name, data in volumes.images.items()}
    a, b = (slice_volume(_volumes(**images), SliceProtocol()) for images in (ints, floats))
    assert a.slice_indices == b.slice_indices and len(a.slice_indices) == 10
    np.testing.assert_array_equal(a.images, b.images)


# ------------------------------------------------------------------------------------------------------------ protocol


def test_protocol_survives_json() -> None:
    import json

    protocol = SliceProtocol(contrasts=("t2", "t1"), size=64, intensity="p99.5", brain_fraction=0.1)
    stored = json.loads(json.dumps({**protocol.to_dict(), "holdout": "5", "seed": 0}))
    assert SliceProtocol.from_dict(stored) == protocol
    assert stored["name"] == (
        "akbar2024 (contrasts t2,t1, size 64, intensity p99.5, brain fraction 0.1, orientation LPS)"
    )
    assert SliceProtocol().name == "akbar2024 (orientation LPS)" and STUDY.name == "akbar2024"
    assert SliceProtocol(orientation="lps") == SliceProtocol()
    mine = SliceProtocol(stored_axes="ras", spacing_mm=(1, 1, 5))
    assert mine.name == "akbar2024 (orientation LPS, stored axes RAS, spacing mm 1.0,1.0,5.0)"
    assert SliceProtocol.from_dict(json.loads(json.dumps(mine.to_dict()))) == mine
    # Recorded before there was an orientation: as stored.
    assert SliceProtocol.from_dict({"size": 64}) == SliceProtocol(size=64, orientation=AS_STORED)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": 100}, "size 100 is not possible"),
        ({"contrasts": ("t1", "a/b")}, "contrasts 't1,a/b'"),
        ({"contrasts": ("t1", "t1")}, "contrasts 't1,t1'"),
        ({"contrasts": ()}, "contrasts ''"),
        ({"intensity": "z-score"}, "intensity 'z-score'"),
        ({"intensity": "p0"}, "intensity 'p0'"),
        ({"intensity": "p101"}, "intensity 'p101'"),
        ({"brain_fraction": 1.0}, "brain fraction 1.0"),
        ({"brain_fraction": -0.1}, "brain fraction -0.1"),
        ({"brain_threshold": 255}, "brain threshold 255"),
        ({"axis": "coronal"}, "axis 'coronal'"),
        ({"orientation": "RSA"}, "orientation 'RSA'"),
        ({"stored_axes": "RRS"}, "stored axes 'RRS'"),
        ({"spacing_mm": (1, 1)}, r"spacing \(1, 1\)"),
        ({"spacing_mm": (1, 1, float("nan"))}, "spacing"),
    ],
)
def test_impossible_protocols_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        SliceProtocol(**changes)
