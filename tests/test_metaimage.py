""".mha and .mhd, as BraTS 2012 to 2015 has them: read by SimpleITK in the grid that it writes as NIfTI itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit.data.metaimage import contrast_of_vsd
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.nifti import VolumeError, read_volume, write_labels
from synthkit.data.patients import patient_of
from synthkit.data.subjects import find_subjects, load_subject, survey_folder
from synthkit.errors import DataError

CONTRASTS = ("t1", "t1ce", "t2", "flair")
VSD = {"t1": "XX.O.MR_T1", "t1ce": "XX.O.MR_T1c", "t2": "XX.O.MR_T2", "flair": "XX.O.MR_Flair"}
# Turned about all axes, of three different voxel sizes, away from the origin.
TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


@pytest.fixture
def sitk() -> Any:
    return pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (the extra mha)")


def _image(sitk: Any, data: np.ndarray, turned: bool = False) -> Any:
    """A SimpleITK image of an array (x, y, z)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing((1.0, 1.0, 1.0))
    image.SetOrigin((0.0, -239.0, 0.0))
    if turned:
        image.SetSpacing((0.9, 1.1, 2.5))
        image.SetOrigin((-12.5, 30.25, 7.0))
        image.SetDirection(TURN.ravel().tolist())
    return image


def _brain() -> np.ndarray:
    brain = np.zeros((24, 20, 4), np.int16)
    brain[2:-2, 2:-2] = 100 + np.arange(20)[:, None, None] + np.arange(16)[:, None]
    return brain


def _brats2015(sitk: Any, root: Path, name: str, ot: str = "VSD.Brain_3more.XX.O.OT", shift: int = 0) -> Path:
    """A subject as BraTS 2015 has it: each volume, with a text, in a folder of its own."""
    labels = np.zeros((24, 20, 4), np.uint8)
    labels[10, 4:10], labels[11, 4:8], labels[12, 4:6] = 2, 1, 4
    volumes = {f"VSD.Brain.{part}": _brain() + shift * (_brain() > 0) + k for k, part in enumerate(VSD.values())}
    volumes = {stem: np.where(_brain() > 0, data, 0) for stem, data in volumes.items()}
    for number, (stem, data) in enumerate({**volumes, ot: labels}.items(), start=54512):
        folder = root / name / f"{stem}.{number}"
        folder.mkdir(parents=True)
        sitk.WriteImage(_image(sitk, data), str(folder / f"{stem}.{number}.mha"))
        (folder / f"{stem}.{number}.txt").write_text("licence")
    return root / name


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_the_grid_is_that_of_the_nifti_which_simpleitk_writes(
    tmp_path: Path, sitk: Any, suffix: str, dtype: type
) -> None:
    data = np.arange(4 * 3 * 2).reshape(4, 3, 2).astype(dtype)
    image = _image(sitk, data, turned=True)
    for name in (f"a{suffix}", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    ours, theirs = read_volume(tmp_path / f"a{suffix}"), read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(ours.data, data)
    assert ours.data.dtype == dtype
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    np.testing.assert_allclose(ours.spacing_mm, theirs.spacing_mm, atol=1e-6)

    write_labels(tmp_path / "labels.nii.gz", np.ones(data.shape, np.uint8), like=ours)
    written = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    assert np.allclose(written.GetDirection(), image.GetDirection(), atol=1e-5)
    assert np.allclose(written.GetOrigin(), image.GetOrigin(), atol=1e-4)


def test_subjects_of_brats_2015(tmp_path: Path, sitk: Any) -> None:
    _brats2015(sitk, tmp_path / "HGG", "brats_tcia_pat260_0129")
    _brats2015(sitk, tmp_path / "HGG", "brats_2013_pat0001_1", ot="VSD.Brain_3more.XX.XX.OT", shift=3)
    _brats2015(sitk, tmp_path / "LGG", "brats_2013_pat0001_1", shift=5)
    found = survey_folder(tmp_path)
    assert not found.bad and not found.notes
    ids = ["HGG_brats_2013_pat0001_1", "LGG_brats_2013_pat0001_1", "brats_tcia_pat260_0129"]
    assert [subject.id for subject in found.good] == ids
    for subject in found.good:
        volumes = load_subject(subject)
        assert tuple(volumes.images) == CONTRASTS and volumes.labels is not None
        assert volumes.images["flair"].max() - volumes.images["t1"].max() == 3
        np.testing.assert_array_equal(volumes.affine[:2, :2], -np.eye(2))


def test_a_flat_folder_of_one_subject(tmp_path: Path, sitk: Any) -> None:
    folder = _brats2015(sitk, tmp_path / "in", "brats_2013_pat0001_1")
    for path in sorted(folder.rglob("*.mha")):
        path.rename(folder / path.name)
    assert [subject.id for subject in find_subjects(tmp_path / "in")] == ["brats_2013_pat0001_1"]


def test_other_names_may_be_mha_too(tmp_path: Path, sitk: Any) -> None:
    for name in (*CONTRASTS, "seg"):
        data = _brain() if name != "seg" else np.zeros((24, 20, 4), np.uint8)
        (tmp_path / "P01").mkdir(exist_ok=True)
        sitk.WriteImage(_image(sitk, data), str(tmp_path / "P01" / f"P01_{name}.mhd"))
    found = survey_folder(tmp_path)
    assert [subject.id for subject in found.good] == ["P01"] and not found.notes
    (tmp_path / "P01" / "P01_t2.raw").unlink()
    with pytest.raises(DataError, match=r"P01_t2\.mhd: SimpleITK does not read it|cannot be used"):
        load_subject(find_subjects(tmp_path)[0])


def test_what_is_no_scalar_volume_is_named(tmp_path: Path, sitk: Any) -> None:
    rgb = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True)
    sitk.WriteImage(rgb, str(tmp_path / "rgb.mha"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(tmp_path / "flat.mha"))
    (tmp_path / "text.mha").write_text("no image at all")
    for name, reason in (("rgb", "vectors? of 8-bit"), ("flat", "2-D"), ("text", "SimpleITK does not read it")):
        with pytest.raises(VolumeError, match=reason):
            read_volume(tmp_path / f"{name}.mha")


# ------------------------------------------------------------------------------------------------ without SimpleITK


def test_without_simpleitk_the_files_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    (tmp_path / "a.mha").write_text("ObjectType = Image\n")
    with pytest.raises(VolumeError, match=r"needs SimpleITK .*pip install SimpleITK"):
        read_volume(tmp_path / "a.mha")


def test_a_pointer_is_a_pointer_in_any_format(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "b.mha").write_bytes(b"")
    for name, reason in (("a", "Git LFS pointer"), ("b", "empty")):
        with pytest.raises(VolumeError, match=reason):
            read_volume(tmp_path / f"{name}.mha")


def test_names() -> None:
    assert contrast_of_vsd("VSD.Brain.XX.O.MR_T1c.54514") == "t1ce"
    assert contrast_of_vsd("VSD.Brain.XX.O.MR_T1.54513") == "t1"
    assert contrast_of_vsd("VSD.Brain_3more.XX.XX.OT.6560") == "seg"
    assert contrast_of_vsd("BraTS_t1") is None


def test_follow_ups_are_one_patient() -> None:
    assert patient_of("brats_tcia_pat260_0129") == patient_of("brats_tcia_pat260_0244") == "brats_tcia_pat260"
    assert patient_of("HGG_brats_2013_pat0001_1") != patient_of("LGG_brats_2013_pat0001_1")
    assert patient_of("brats_2013_pat0001_1") != patient_of("brats_2013_pat0002_1")


def test_the_labels_of_brats_2013_have_a_scheme() -> None:
    scheme = SCHEMES["brats2013"]
    assert {name: value for name, value in scheme.label_values.items() if value} == {
        "NCR": 1,
        "ED": 2,
        "NET": 3,
        "ET": 4,
    }
    regions = {region.name: region.labels for region in scheme.nested}
    assert regions == {"TC": ("NCR", "NET", "ET"), "WT": ("NCR", "ED", "NET", "ET")}
