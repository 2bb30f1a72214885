"""Voxel sizes: read in mm, compared between subjects and with a model, resampled on request, never ignored."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.dataset import Dataset
from synthkit.data.geometry import Geometry, common_geometry, parsed_spacing
from synthkit.data.header_scale import StoredGrid, power_of_ten, too_small_for_heads
from synthkit.data.native_grid import to_native
from synthkit.data.nifti import VolumeError, read_grid, read_volume
from synthkit.data.orientation import Turn, directions
from synthkit.data.prepare import prepare
from synthkit.data.resampling import Resampling
from synthkit.data.slices import SliceProtocol, slice_volume, slices_for_segmentation
from synthkit.data.subjects import SubjectVolumes, find_subjects, load_subject
from synthkit.errors import DataError, UsageError
from synthkit.registry.registry import Registry
from synthkit.running.run import Input, Job, Run, create_run, folder_digest
from synthkit.running.verbs.execute import execute
from synthkit.running.verbs.inputs import check_axes
from synthkit.running.verbs.model_voxels import ModelVoxels
from synthkit.testing.toys import SEGMENTER

MakeSubject = Callable[..., Path]

FILES = ("t1", "t1ce", "t2", "flair", "seg")
SMALL = SliceProtocol(size=64, brain_fraction=0.004)


def of_size(*spacing_mm: float) -> dict[str, np.ndarray]:
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = (3, 5, 7)
    return dict.fromkeys(FILES, affine)


# -------------------------------------------------------------------------------------------------------- in headers


def saved(path: Path, unit: str | None = "mm", *sizes: float) -> Path:
    """A volume whose header has this unit, and then these bytes as ``pixdim``."""
    image = nib.Nifti1Image(np.ones((5, 4, 3), np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    if unit:
        image.header.set_xyzt_units(unit)
    nib.save(image, path)
    if sizes:
        raw = bytearray(path.read_bytes())
        struct.pack_into("<3f", raw, 80, *sizes)
        path.write_bytes(raw)
    return path


@pytest.mark.parametrize("sizes", [(0, 2, 3), (-2, 2, 3), (float("nan"), 2, 3), (float("inf"), 2, 3)])
def test_a_size_that_is_none_is_named(tmp_path: Path, sizes: tuple[float, ...]) -> None:
    with pytest.raises(VolumeError, match=r"voxel size \(.*2 x 3\) is not a real one"):
        read_volume(saved(tmp_path / "a.nii", "mm", *sizes))
    with pytest.raises(VolumeError):
        read_grid(tmp_path / "a.nii")


def test_two_sizes_in_one_header_are_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="two voxel sizes, 2 x 2 x 3 in its affine and 1 x 1 x 1 in pixdim"):
        read_volume(saved(tmp_path / "a.nii", "mm", 1, 1, 1))


def test_units_are_read_as_mm_and_impossible_ones_named(tmp_path: Path) -> None:
    for unit, factor in (("meter", 1000), ("micron", 0.001), (None, 1), ("mm", 1)):
        path = tmp_path / f"{unit}.nii"
        image = nib.Nifti1Image(np.ones((5, 4, 3), np.int16), np.diag([2 / factor, 2 / factor, 3 / factor, 1]))
        if unit:
            image.header.set_xyzt_units(unit)
        nib.save(image, path)
        volume = read_volume(path)
        assert volume.spacing_mm == pytest.approx((2, 2, 3))
        np.testing.assert_allclose(volume.affine, np.diag([2, 2, 3, 1]), rtol=1e-6)
        np.testing.assert_allclose(read_grid(path)[1], volume.affine)
    for unit, reason in (("meter", "unit is meter"), ("micron", "unit is micron")):
        with pytest.raises(VolumeError, match=f"not those of a head .the header's {reason}"):
            read_volume(saved(tmp_path / "b.nii", unit))
    nib.save(nib.Nifti1Image(np.ones((5, 4, 3), np.int16), np.diag([0.002, 0.002, 0.003, 1])), tmp_path / "c.nii")
    with pytest.raises(VolumeError, match="the header names no unit"):
        read_volume(tmp_path / "c.nii")


def test_units_are_said(tmp_path: Path, make_subject: MakeSubject) -> None:
    for name, unit in (("a", "meter"), ("b", "unknown"), ("c", "mm")):
        size = 0.001 if unit == "meter" else 1.0
        for path in make_subject(tmp_path / "in", name, affines=of_size(size, size, size)).iterdir():
            image = nib.load(path)
            data = np.asanyarray(image.dataobj).copy()
            image = nib.Nifti1Image(data, image.affine, image.header)
            image.header.set_xyzt_units(unit)
            nib.save(image, path)
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "its header is in meters, read as 1 x 1 x 1 mm" in summary.subjects[0].notes
    assert "1 of 3 headers name no unit of the voxel size: taken as mm" in summary.notes
    assert summary.geometry.spacing_mm == (1.0, 1.0, 1.0)


# -------------------------------------------------------------------------------------------------------- of subjects


def test_voxels_of_other_sizes_are_refused_by_name_and_resampled_on_request(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    small = SliceProtocol(size=64, brain_fraction=0.002)
    root = tmp_path / "in"
    for name in ("a", "b", "c"):
        make_subject(root, name, affines=of_size(1, 1, 1))
    make_subject(root, "d", shape=(12, 10, 4), affines=of_size(2, 2, 1))
    make_subject(root, "e", affines=of_size(1.02, 1, 1))  # within the tolerance
    with pytest.raises(DataError, match="voxels of different sizes") as caught:
        prepare(root, tmp_path / "out", protocol=small)
    assert list(caught.value.details) == ["1 x 1 x 1 mm: a, b, c, e", "2 x 2 x 1 mm: d"]
    assert "--spacing 1" in caught.value.fix and not (tmp_path / "out").exists()
    # The advice, carried out.
    protocol = SliceProtocol(size=64, brain_fraction=0.002, spacing_mm=parsed_spacing("1"))
    summary = prepare(root, tmp_path / "out", protocol=protocol)
    assert summary.geometry == Geometry("LPS", (1.0, 1.0, 1.0))
    data = Dataset(tmp_path / "out")
    assert "spacing mm 1.0,1.0,1.0" in data.description["protocol"]["name"]
    assert SliceProtocol.from_dict(data.description["protocol"]) == protocol
    sizes = {
        name: int((data.read([i for i, row in enumerate(data.samples) if row.subject == name])[0] > 0).sum())
        for name in ("a", "d")
    }
    assert 0.7 < sizes["a"] / sizes["d"] < 1.5  # else four times as large
    # Those that have this size already are what they are without.
    plain = slice_volume(load_subject(find_subjects(root / "a")[0]), small)
    rows = [i for i, row in enumerate(data.samples) if row.subject == "a"]
    np.testing.assert_array_equal(data.read(rows)[0], plain.images)


@pytest.mark.parametrize(("factor", "said"), [(10, "10 times too large"), (0.1, "10 times too small")])
@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0)])
def test_a_header_that_is_wrong_by_a_factor_is_named_and_not_resampled(
    tmp_path: Path, make_subject: MakeSubject, factor: float, said: str, spacing: Any
) -> None:
    root, protocol = tmp_path / "in", SliceProtocol(size=64, brain_fraction=0.001, spacing_mm=spacing)
    for name in ("a", "b"):
        make_subject(root, name, affines=of_size(0.9, 0.9, 1.1))
    wrong = make_subject(root, "c", affines=of_size(factor, factor, factor))
    with pytest.raises(DataError, match="header of c looks wrong by a factor of 10") as caught:
        prepare(root, tmp_path / "out", protocol=protocol)
    assert said in caught.value.details[0] and "--spacing" not in str(caught.value) and "affine[:3]" in caught.value.fix
    for path in wrong.iterdir():  # the advice, carried out
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3] /= factor
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), affine), path)
    summary = prepare(
        root, tmp_path / "out", protocol=SliceProtocol(size=64, brain_fraction=0.001, spacing_mm=(1, 1, 1))
    )
    assert len(summary.subjects) == 3


def test_volumes_larger_than_any_head_are_bad_before_they_are_resampled(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    make_subject(tmp_path / "in", "a", affines=of_size(50, 50, 50))
    for spacing in (None, (1.0, 1.0, 1.0)):
        with pytest.raises(DataError, match="cannot be used") as caught:
            prepare(tmp_path / "in", tmp_path / "out", protocol=SliceProtocol(size=64, spacing_mm=spacing))
        assert "wrong by a factor of 10: voxels of 50 x 50 x 50 mm, 1.2e+03 mm along" in caught.value.details[0]


@pytest.mark.parametrize(
    ("spacing", "shape", "right", "power"),
    [
        ((10, 10, 10), (240, 240, 155), (1, 1, 1), 10),
        ((0.1, 0.1, 0.1), (240, 240, 155), (1, 1, 1), 0.1),
        ((5, 5, 50), (512, 512, 24), (0.5, 0.45, 4), 10),
        ((0.09, 0.09, 0.1), (240, 240, 155), (1, 1, 1.3), 0.1),
        ((1, 1, 1), (240, 240, 155), (1, 1, 1), 1),
        ((0.4, 0.4, 6), (512, 512, 24), (1, 1, 1), 1),
        ((0.5, 0.5, 0.5), (512, 512, 300), (1.2, 1.2, 5), 1),
        ((3, 3, 3), (64, 64, 48), (0.5, 0.5, 0.5), 1),
        ((1, 1, 10), (240, 240, 20), (1, 1, 1), 1),
        ((2, 2, 2), (24, 20, 4), (1, 1, 1), 1),
    ],
)
def test_powers_of_ten(spacing: Any, shape: Any, right: Any, power: float) -> None:
    assert power_of_ten(StoredGrid(shape, spacing), right) == power
    small = too_small_for_heads([StoredGrid(shape, spacing)])
    assert bool(small) is (power == 0.1) and (not small or "a factor of 10," in small)


def test_equal_thick_slices_are_fine_in_any_stored_order(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", "a", affines=of_size(0.9, 0.9, 5))
    sagittal = np.array([[0, 0, -0.9, 3], [-0.9, 0, 0, 1], [0, 5, 0, 0], [0, 0, 0, 1.0]])
    volume = np.zeros((20, 4, 24), np.int16)
    volume[2:-2, :, 2:-2] = 70 + np.arange(20)
    labels = np.zeros((20, 4, 24), np.uint8)
    images = dict.fromkeys(("t1", "t1ce", "t2", "flair"), volume)
    make_subject(tmp_path / "in", "b", affines=dict.fromkeys(FILES, sagittal), **images, seg=labels)
    summary = prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert summary.geometry == Geometry("LPS", (0.9, 0.9, 5.0))
    assert [len(subject.kept) for subject in summary.subjects] == [4, 4]


@pytest.mark.parametrize("text", ["0", "1,1", "x", "nan", "-1", "1,1,1,1", "1000"])
def test_impossible_spacings_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="spacing"):
        parsed_spacing(text)


def test_spacings_are_parsed() -> None:
    assert parsed_spacing("0.5, 0.5,5") == (0.5, 0.5, 5.0) and parsed_spacing(1) == (1.0, 1.0, 1.0)
    assert parsed_spacing(None) is None and parsed_spacing("") is None


def test_geometry_of_datasets() -> None:
    one, unknown = Geometry("LPS", (1.0, 1.0, 1.0)), Geometry()
    assert common_geometry({"a": one, "b": unknown}) == Geometry(None, (1.0, 1.0, 1.0))
    assert Geometry.of({"geometry": one.to_dict()}) == one and Geometry.of({}) == Geometry.of(None) == unknown


# --------------------------------------------------------------------------------------------------------- resampling


def subject_of(labels: np.ndarray, spacing: tuple[float, float, float]) -> SubjectVolumes:
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    images = dict.fromkeys(SMALL.contrasts, np.full(labels.shape, 100, np.int16))
    return SubjectVolumes("A", images, labels, affine, spacing, None)


sizes = st.floats(0.6, 3.0)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    spacing=st.tuples(sizes, sizes, sizes),
    finer=st.tuples(*[st.floats(0.4, 1.0)] * 3),
    seed=st.integers(0, 9),
)
def test_labels_of_finer_voxels_come_back_exactly(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], finer: tuple[float, ...], seed: int
) -> None:
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 4], np.uint8), shape)
    x, y, z = (max(0.3, a * b) for a, b in zip(spacing, finer, strict=True))
    protocol = SliceProtocol(spacing_mm=(x, y, z))
    subject = subject_of(labels, spacing)
    slices = slices_for_segmentation(subject, protocol)
    assert slices.labels is not None
    back = to_native(slices.labels, slices.slice_indices, subject, protocol)
    np.testing.assert_array_equal(back, labels)


def test_images_are_interpolated_linearly_about_the_centre() -> None:
    ramp = np.arange(10, dtype=np.int16)[:, None, None] * 10 * np.ones((1, 4, 4), np.int16)
    fine = Resampling((10, 4, 4), (2.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    assert fine.is_needed and fine.new_shape == (20, 4, 4)
    # Half a voxel before the first and behind the last, values go on; between, a voxel of 1 mm is 5.
    expected = np.clip(np.arange(20) * 5 - 2.5, 0, 90)
    np.testing.assert_allclose(fine.image(ramp)[:, 2, 2], expected, atol=1e-4)
    coarse = Resampling((10, 4, 4), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0))
    np.testing.assert_allclose(coarse.image(ramp)[:, 0, 0], [5, 25, 45, 65, 85], atol=1e-4)
    assert not Resampling((10, 4, 4), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0005)).is_needed


def test_volumes_of_labels_stay_about_as_large() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij"))
    ball = (np.linalg.norm(grid, axis=0) < 12).astype(np.uint8)
    for to in ((1.5, 1.5, 1.5), (2.0, 2.0, 4.0), (0.7, 1.0, 1.3)):
        how = Resampling((40, 40, 40), (1.0, 1.0, 1.0), to)
        assert how.labels(ball).sum() * np.prod(to) == pytest.approx(ball.sum(), rel=0.06)
        assert how.labels_back(how.labels(ball)).shape == ball.shape


# ------------------------------------------------------------------------------------------------------ of a model


def with_tumour() -> dict[str, np.ndarray]:
    """Brain with a block of oedema that stands out in every contrast."""
    seg = np.zeros((24, 20, 4), np.uint8)
    seg[4:12, 4:12] = 2
    brain = np.zeros((24, 20, 4), np.int16)
    brain[2:-2, 2:-2] = 100 + np.arange(16)[:, None]
    return {**dict.fromkeys(("t1", "t1ce", "t2", "flair"), brain + 100 * (seg > 0).astype(np.int16)), "seg": seg}


@pytest.fixture
def model(tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A segmenter of voxels of 1 mm."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("a", "b"):
        make_subject(tmp_path / "train", name, affines=of_size(1, 1, 1), **with_tumour())
    prepare(tmp_path / "train", tmp_path / "data", protocol=SMALL)
    data = Dataset(tmp_path / "data")
    return run_of(tmp_path / "model", "train", {"data": Input("dataset", source=data.path, digest=data.digest)})


def run_of(path: Path, verb: Any, inputs: dict[str, Input], **options: Any) -> Run:
    run = create_run(path, Job(verb=verb, plugins=("toy-segmenter",), inputs=inputs, options=options))
    execute(path, Registry({"toy-segmenter": SEGMENTER}))
    return run


def inputs_of(model: Run, subjects: Path) -> dict[str, Input]:
    checkpoint = Input("checkpoint", source=model.checkpoint, digest=folder_digest(model.checkpoint))
    return {"checkpoint": checkpoint, "subjects": Input("subjects", source=subjects)}


def test_a_model_refuses_other_voxels_and_resamples_on_request(
    tmp_path: Path, make_subject: MakeSubject, model: Run
) -> None:
    metadata = json.loads((model.checkpoint / "synthkit.json").read_text())
    assert Geometry.of(metadata["protocol"]) == Geometry("LPS", (1.0, 1.0, 1.0))
    root = tmp_path / "other"
    make_subject(root, "x", affines=of_size(2, 2, 1), **{k: v[::2, ::2] for k, v in with_tumour().items()})
    refused = run_of(tmp_path / "refused", "segment", inputs_of(model, root), subjects=["x"]).result()
    assert refused is not None and refused["exit_code"] == 3
    assert "trained on voxels of 1 x 1 x 1 mm" in refused["error"]["why"] and "--resample" in refused["error"]["fix"]
    subject = find_subjects(root)[0]
    with pytest.raises(DataError, match="voxels of another size") as caught:  # before any run is made
        ModelVoxels.of(metadata, False).checked({"x": subject})
    assert list(caught.value.details) == ["x: 2 x 2 x 1 mm"]
    # One whose header is wrong by a factor is not resampled, nor is that advised.
    make_subject(tmp_path / "cm", "y", affines=of_size(10, 10, 10), **with_tumour())
    for resample in (False, True):
        asked = inputs_of(model, tmp_path / "cm")
        wrong = run_of(tmp_path / f"cm{resample}", "segment", asked, subjects=["y"], resample=resample).result()
        assert wrong is not None and wrong["exit_code"] == 3 and "--resample" not in str(wrong["error"])
        with pytest.raises(DataError, match="header of y looks wrong by a factor of 10"):
            ModelVoxels.of(metadata, resample).checked({"y": find_subjects(tmp_path / "cm")[0]})
    # The advice, carried out.
    done = run_of(tmp_path / "done", "segment", inputs_of(model, root), subjects=["x"], resample=True)
    result = done.result()
    assert result is not None and result["status"] == "succeeded", result
    found, truth = (nib.load(path) for path in (done.predictions / "x.nii.gz", subject.contrasts["t1"]))
    assert found.shape == truth.shape
    np.testing.assert_array_equal(found.affine, truth.affine)
    assert np.asanyarray(found.dataobj).any()
    assert ModelVoxels.of(metadata, True).checked({"x": subject}) == [
        "Subjects are resampled to voxels of 1 x 1 x 1 mm, and their labels back."
    ]


def test_a_model_that_was_made_of_resampled_images_resamples(
    tmp_path: Path, make_subject: MakeSubject, model: Run
) -> None:
    metadata = json.loads((model.checkpoint / "synthkit.json").read_text())
    metadata["protocol"]["spacing_mm"] = [1, 1, 1]
    make_subject(tmp_path / "other", "x", shape=(12, 10, 4), affines=of_size(2, 2, 1))
    voxels = ModelVoxels.of(metadata, False)
    assert voxels.checked({"x": find_subjects(tmp_path / "other")[0]})[0].startswith("Subjects are resampled")
    voxels.check(load_subject(find_subjects(tmp_path / "other")[0]))


def test_a_model_that_records_no_voxels_says_so(tmp_path: Path, make_subject: MakeSubject, model: Run) -> None:
    metadata = json.loads((model.checkpoint / "synthkit.json").read_text())
    del metadata["protocol"]["geometry"]
    assert "does not record" in ModelVoxels.of(metadata, False).checked({})[0]
    with pytest.raises(DataError, match="does not record the voxel size"):
        ModelVoxels.of(metadata, True)


def test_a_model_follows_the_orientation_of_its_data(tmp_path: Path, make_subject: MakeSubject, model: Run) -> None:
    """The same subject in two stored orders gets the same labels, each in its own."""
    root = tmp_path / "other"
    make_subject(root, "x", affines=of_size(1, 1, 1), **with_tumour())
    folder = root / "y"
    folder.mkdir()
    for path in (root / "x").iterdir():
        turned = nib.as_closest_canonical(nib.load(path))
        nib.save(turned, folder / path.name.replace("x_", "y_"))
    done = run_of(tmp_path / "done", "segment", inputs_of(model, root), subjects=["x", "y"])
    x, y = (nib.load(done.predictions / f"{name}.nii.gz") for name in ("x", "y"))
    assert "".join(nib.aff2axcodes(x.affine)) == "LPS" and "".join(nib.aff2axcodes(y.affine)) == "RAS"
    assert np.asanyarray(x.dataobj).any()
    np.testing.assert_array_equal(np.asanyarray(nib.as_closest_canonical(x).dataobj), np.asanyarray(y.dataobj))


def test_a_model_says_whose_orientation_is_not_known(tmp_path: Path, make_subject: MakeSubject, model: Run) -> None:
    for name in ("x", "y"):
        make_subject(tmp_path / "other", name, affines=dict.fromkeys(FILES, np.eye(4)))
    done = run_of(tmp_path / "done", "segment", inputs_of(model, tmp_path / "other"), subjects=["x", "y"])
    said = [line for line in (done.path / "events.jsonl").read_text().splitlines() if "says nothing" in line]
    assert len(said) == 1 and "x: its affine" in said[0]


def dataset(folder: Path, name: str, make_subject: MakeSubject, code: str = "LPS", **options: Any) -> Input:
    """One subject stored in an order, prepared; an order of "" is RAS, and an affine that does not say it."""
    stored = {kind: np.asfortranarray(Turn.between("LPS", code or "RAS").apply(v)) for kind, v in with_tumour().items()}
    affine = np.eye(4)
    if code:
        affine[:3, :3], affine[:3, 3] = directions(code), (3, 5, 7)
    make_subject(folder / f"in-{name}", name, affines=dict.fromkeys(FILES, affine), **stored)
    protocol = SliceProtocol(size=64, brain_fraction=0.004, **options)
    prepare(folder / f"in-{name}", folder / name, protocol=protocol, labels="brats2018")
    return Input("dataset", source=folder / name, digest=Dataset(folder / name).digest)


STORED: dict[str, Any] = {"orientation": "as-stored"}


def test_datasets_of_other_voxels_or_orientation_are_not_joined(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    data = dataset(tmp_path, "a", make_subject)
    make_subject(tmp_path / "in-b", "b", affines=of_size(2, 2, 2))
    prepare(tmp_path / "in-b", tmp_path / "b", protocol=SMALL, labels="brats2018")
    coarse = Input("dataset", source=tmp_path / "b", digest=Dataset(tmp_path / "b").digest)
    ras = dataset(tmp_path, "ras", make_subject, "RAS", **STORED)
    own = dataset(tmp_path, "own", make_subject, "LPS", **STORED)
    unknown = dataset(tmp_path, "unknown", make_subject, "", **STORED)
    for name, one, other, what in (
        ("1", data, coarse, "datasets have voxels of different sizes"),
        ("2", data, ras, "lie in different orientations"),
        ("3", own, ras, "lie in different orientations"),
        ("4", data, unknown, "different protocols"),
    ):
        result = run_of(tmp_path / f"run-{name}", "train", {"data": one, "data2": other}).result()
        assert result is not None and result["exit_code"] == 3 and what in result["error"]["what"], result["error"]
    # Slices that lie alike go together, whatever was asked for; of what is not known it is said.
    turned = dataset(tmp_path, "turned", make_subject, "RAS")
    said = dataset(tmp_path, "said", make_subject, "", stored_axes="RAS")
    run = run_of(tmp_path / "together", "train", {"data": own, "data2": data, "data3": turned, "data4": said})
    recorded = json.loads((run.checkpoint / "synthkit.json").read_text())["protocol"]
    assert recorded["geometry"]["axes"] == "LPS" and recorded["stored_axes"] == "RAS"
    run = run_of(tmp_path / "doubt", "train", {"data": ras, "data2": unknown})
    events = (run.path / "events.jsonl").read_text()
    assert "images of data2 lie is not known: it is taken to be as in data (RAS)" in events


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.note, self.warning = self.notes.append, self.warnings.append


def doubts(model: Run, subjects: Path) -> list[str]:
    heard: Any = Heard()
    voxels = ModelVoxels.of(json.loads((model.checkpoint / "synthkit.json").read_text()), False)
    voxels.announce({subject.id: subject for subject in find_subjects(subjects)}, heard)
    return list(heard.warnings)


def test_a_model_of_arrays_as_stored_sees_others_as_it_saw_those(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    subjects = tmp_path / "all"
    subjects.mkdir()
    for code in ("RAS", "LPS", "PSR"):
        dataset(tmp_path, code, make_subject, code)
        (subjects / code).symlink_to(tmp_path / f"in-{code}" / code)
    for order in ("LPS", "RAS"):
        data = dataset(tmp_path, f"of-{order}", make_subject, order, **STORED)
        model = run_of(tmp_path / f"model-{order}", "train", {"data": data})
        voxels = ModelVoxels.of(json.loads((model.checkpoint / "synthkit.json").read_text()), False)
        assert doubts(model, subjects) == [] and voxels.protocol.orientation == order
        seen = [slices_for_segmentation(load_subject(s), voxels.protocol).images for s in find_subjects(subjects)]
        for other in seen[1:]:
            np.testing.assert_array_equal(seen[0], other)
        done = run_of(tmp_path / f"done-{order}", "segment", inputs_of(model, subjects), subjects=["RAS", "LPS", "PSR"])
        labels = [nib.load(path) for path in sorted(done.predictions.glob("*.nii.gz"))]
        upright = [np.asanyarray(nib.as_closest_canonical(image).dataobj) for image in labels]
        assert upright[0].any() and all(np.array_equal(upright[0], other) for other in upright[1:])


def test_a_model_whose_orientation_is_not_known_says_so(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, code in (("x", "RAS"), ("y", ""), ("z", "PSR")):
        dataset(tmp_path, name, make_subject, code)
    models = {}
    for name, options in (("stored", STORED), ("turned", {}), ("said", {"stored_axes": "RAS"})):
        data = dataset(tmp_path, f"of-{name}", make_subject, "", **options)
        models[name] = run_of(tmp_path / name, "train", {"data": data})
    for name, said in (("stored", "as they are stored (RAS: x)"), ("turned", "brought to LPS")):
        (doubt,) = doubts(models[name], tmp_path / "in-x")
        assert "training images lie is not recorded" in doubt and said in doubt
    refused = run_of(
        tmp_path / "no", "segment", inputs_of(models["stored"], tmp_path / "in-z"), subjects=["z"]
    ).result()
    assert refused is not None and "z are not axial as they are stored" in refused["error"]["what"]
    # What was said of the training images' arrays is taken for others that do not say it, with a word.
    assert doubts(models["said"], tmp_path / "in-y") == []
    done = run_of(tmp_path / "done", "segment", inputs_of(models["said"], tmp_path / "in-y"), subjects=["y"])
    assert "taken to be RAS, as --stored-axes said" in (done.path / "events.jsonl").read_text()


def test_datasets_that_lie_otherwise_are_not_compared(tmp_path: Path, make_subject: MakeSubject) -> None:
    one, other, unknown = (
        dataset(tmp_path, name, make_subject, code, **STORED) for name, code in (("a", "LPS"), ("b", "RAS"), ("c", ""))
    )
    heard: Any = Heard()
    check_axes({"real": one, "synthetic": one}, heard)
    assert heard.warnings == []
    with pytest.raises(DataError, match="different orientations") as caught:
        check_axes({"real": one, "synthetic": other}, heard)
    assert "real: LPS; synthetic: RAS" in caught.value.why and "--orientation" in caught.value.fix
    check_axes({"real": one, "synthetic": unknown}, heard)
    assert "synthetic lie is not known: it is taken to be as in real (LPS)" in heard.warnings[0]
    # The advice, carried out.
    check_axes({"real": one, "synthetic": dataset(tmp_path, "d", make_subject, "RAS")}, heard)
    check_axes({"real": other, "synthetic": dataset(tmp_path, "e", make_subject, "LPS", orientation="RAS")}, heard)
    assert len(heard.warnings) == 1
