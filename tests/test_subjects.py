"""Finding and checking subjects: every known layout is found, every kind of damage is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_reading import WHOLE_TOLERANCE, as_labels
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.nifti import read_volume, write_labels
from synthkit.data.subject_files import Subject
from synthkit.data.subjects import SubjectError, find_subjects, load_subject, scan_subjects
from synthkit.errors import DataError

MakeSubject = Callable[..., Path]
CONTRASTS = ("t1", "t1ce", "t2", "flair")


# ------------------------------------------------------------------------------------------------------------ layouts


@pytest.mark.parametrize("new_names", [False, True])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_of_all_years(tmp_path: Path, make_subject: MakeSubject, new_names: bool, suffix: str) -> None:
    make_subject(tmp_path, "B", new_names=new_names, suffix=suffix)
    make_subject(tmp_path, "A", new_names=new_names, suffix=suffix)
    subjects = find_subjects(tmp_path)
    assert [s.id for s in subjects] == ["A", "B"]
    for subject in subjects:
        assert list(subject.contrasts) == list(CONTRASTS)
        assert subject.seg is not None
        grey = load_subject(subject).images
        assert {name: grey[name].max() for name in CONTRASTS} == {"t1": 119, "t1ce": 238, "t2": 120, "flair": 357}


def test_hgg_and_lgg_folders(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "HGG", "Brats18_CBICA_AAB_1")
    make_subject(tmp_path / "LGG", "Brats18_TCIA09_141_1")
    assert [s.id for s in find_subjects(tmp_path)] == ["Brats18_CBICA_AAB_1", "Brats18_TCIA09_141_1"]


def test_a_folder_that_is_one_subject(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_subject(tmp_path, "BraTS-GLI-00005-100", new_names=True)
    assert [s.id for s in find_subjects(folder)] == ["BraTS-GLI-00005-100"]
    monkeypatch.chdir(folder)
    assert [s.id for s in find_subjects(".")] == ["BraTS-GLI-00005-100"]


def test_case_and_the_odd_segmentation_of_brats_2020(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "BraTS20_Training_355", suffix=".nii")
    (folder / "BraTS20_Training_355_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    (folder / "BraTS20_Training_355_t1.nii").rename(folder / "BraTS20_Training_355_T1.NII")
    subject = find_subjects(tmp_path)[0]
    assert subject.seg is not None and subject.seg.name == "W39_1998.09.19_Segm.nii"
    assert subject.contrasts["t1"].name == "BraTS20_Training_355_T1.NII"


def test_other_files_and_folders_are_passed_over(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "A")
    (folder / "._A_t1.nii.gz").write_bytes(b"what macOS leaves behind")
    (folder / "A_seg_nnunet.nii.gz").write_bytes(b"another segmentation")
    (tmp_path / "survival.csv").write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "A_t1.nii.gz").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    assert [s.id for s in find_subjects(tmp_path)] == ["A"]


def test_some_contrasts_and_no_labels(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path, "A", t1ce=None, t2=None, seg=None)
    subject = find_subjects(tmp_path, contrasts=("flair", "t1"), need_labels=False)[0]
    volumes = load_subject(subject)
    assert list(volumes.images) == ["flair", "t1"] and volumes.labels is None and volumes.shape == (24, 20, 4)


# -------------------------------------------------------------------------------------------------- what names reveal


def _only_reason(root: Path) -> str:
    good, bad = scan_subjects(root)
    assert not good and len(bad) == 1
    return bad[0].reason


def test_missing_files(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path, "A", t1ce=None, seg=None)
    assert _only_reason(tmp_path) == "missing t1ce and segmentation (seg)"


def test_ambiguous_files(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "A")
    shutil.copy(folder / "A_t2.nii.gz", folder / "A-t2w.nii.gz")
    assert _only_reason(tmp_path).startswith("ambiguous t2: A-t2w.nii.gz and A_t2.nii.gz")


def test_files_of_unknown_names(tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "scan.nii.gz").write_bytes(b"")
    assert "no file in its folder has a name that is known" in _only_reason(tmp_path)


def test_one_id_twice(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "HGG", "A")
    make_subject(tmp_path / "LGG", "A")
    way = "remove a copy, else give one of them, its folder and files, another name"
    assert _only_reason(tmp_path) == f"two folders have this id: HGG/A and LGG/A ({way})"
    for path in [*(tmp_path / "LGG" / "A").iterdir(), tmp_path / "LGG" / "A"]:  # what it advises
        path.rename(path.with_name(path.name.replace("A", "B", 1)))
    assert [subject.id for subject in scan_subjects(tmp_path)[0]] == ["A", "B"]


def test_find_lists_every_bad_subject(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path, "A", t1=None)
    make_subject(tmp_path, "B")
    make_subject(tmp_path, "C", flair=None)
    with pytest.raises(DataError, match="2 of 3 subjects cannot be used") as caught:
        find_subjects(tmp_path)
    assert caught.value.details == ("A: missing t1", "C: missing flair")
    assert "Repair or remove" in caught.value.fix


@pytest.mark.parametrize("name", ["absent", "file", "empty"])
def test_no_subjects(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"There (is no folder|are no subjects)"):
        find_subjects(tmp_path / name)


# ------------------------------------------------------------------------------------------------ what reading reveals


def _reason(folder: Path) -> str:
    with pytest.raises(SubjectError) as caught:
        load_subject(find_subjects(folder)[0])
    assert caught.value.bad.id == folder.name == "A"
    return caught.value.bad.reason


def _brain(dtype: str = "f4") -> np.ndarray:
    data = np.zeros((24, 20, 4), dtype=dtype)
    data[4:20, 4:16] = 7
    return data


def test_shapes_disagree(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "A", t2=_brain()[:, :, :3])
    assert _reason(folder) == "shapes disagree: t1 is 24x20x4, t2 is 24x20x3"


def test_affines_disagree(tmp_path: Path, make_subject: MakeSubject) -> None:
    shifted = np.diag([-1.0, -1.0, 1.0, 1.0])
    shifted[2, 3] = 2.5
    folder = make_subject(tmp_path, "A", affines={"seg": shifted})
    assert _reason(folder) == "affines disagree: t1 and seg lie up to 2.5 mm apart"


def test_affines_that_disagree_by_rounding_are_fine(tmp_path: Path, make_subject: MakeSubject) -> None:
    nearly = np.diag([-1.0, -1.0, 1.0, 1.0])
    nearly[0, 3], nearly[0, 0] = 0.05, -1.001
    load_subject(find_subjects(make_subject(tmp_path, "A", affines={"flair": nearly}))[0])
    nearly[0, 0] = -0.995  # 0.05 mm at the first voxel, 0.165 at the last
    assert "0.165 mm apart" in _reason(make_subject(tmp_path, "A", affines={"flair": nearly}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number(tmp_path: Path, make_subject: MakeSubject, value: float) -> None:
    data = _brain()
    data[5, 5, 1:3] = value
    assert _reason(make_subject(tmp_path, "A", t2=data)) == "t2 holds NaN or infinity in 2 voxels"


def test_large_numbers_are_not_taken_for_infinity(tmp_path: Path, make_subject: MakeSubject) -> None:
    t2 = (_brain() > 0) * (np.arange(24)[:, None, None] + 1) * np.float32(1e37)  # finite, its sum is not
    folder = make_subject(tmp_path, "A", t2=t2.astype(np.float32))
    assert load_subject(find_subjects(folder)[0]).images["t2"].max() > 1e38


@pytest.mark.parametrize("value", [0, -3])
def test_empty_brain(tmp_path: Path, make_subject: MakeSubject, value: int) -> None:
    folder = make_subject(tmp_path, "A", t1ce=np.full((24, 20, 4), value, np.int16))
    assert _reason(folder) == f"t1ce is empty: all voxels are {value}"


@pytest.mark.parametrize(("value", "text"), [(-1, "-1"), (300, "300")])
def test_unknown_label(tmp_path: Path, make_subject: MakeSubject, value: int, text: str) -> None:
    labels = _brain("i2") // 7
    labels[6, 6, 0] = value
    assert f"unknown label value {text}" in _reason(make_subject(tmp_path, "A", seg=labels))


def test_labels_that_are_not_whole_or_not_numbers(tmp_path: Path, make_subject: MakeSubject) -> None:
    labels = _brain() / 7
    labels[6, 6, :2] = 1.5
    assert _reason(make_subject(tmp_path, "A", seg=labels)) == "seg: labels are not whole numbers: 1.5 and 1 more"
    labels[6, 6, 0] = np.nan
    assert _reason(make_subject(tmp_path, "A", seg=labels)) == "seg: it holds NaN or infinity"


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_label_values_stay_as_they_are_stored(tmp_path: Path, make_subject: MakeSubject, dtype: str) -> None:
    labels = _brain(dtype) / 7
    labels[6, 6], labels[7, 7] = 3, 2
    subject = find_subjects(make_subject(tmp_path, "A", seg=labels.astype(dtype)))[0]
    volumes = load_subject(subject)
    assert volumes.labels is not None and volumes.labels.dtype == np.uint8
    assert np.bincount(volumes.labels.ravel()).tolist() == [24 * 20 * 4 - 768, 768 - 8, 4, 4]
    assert volumes.stored_labels == (0, 1, 2, 3)
    read = load_subject(replace(subject, label_values={1: 1, 2: 2, 3: 4})).labels
    assert read is not None and np.bincount(read.ravel()).tolist() == [24 * 20 * 4 - 768, 768 - 8, 4, 0, 4]
    with pytest.raises(SubjectError, match=r"unknown label value 3 \(known are 0, 1, 2 and 4\)"):
        load_subject(replace(subject, label_values={1: 1, 2: 2, 4: 4}))


def test_damaged_files_are_named(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "A", t2=np.random.default_rng(0).integers(0, 99, (24, 20, 4), dtype=np.int16))
    path = folder / "A_t2.nii.gz"
    stored = path.read_bytes()
    path.write_bytes(stored[:-100])
    assert "A_t2.nii.gz: its gzip stream is truncated" in _reason(folder)
    path.write_bytes(b"GIF89a" + stored)
    assert "A_t2.nii.gz: it is not NIfTI" in _reason(folder)
    nib.save(nib.Nifti1Image(np.zeros((24, 20, 4, 2), np.int16), np.eye(4)), path)
    assert "A_t2.nii.gz: it is 4-D (24x20x4x2)" in _reason(folder)


def test_labels_need_not_be_read(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "A")
    (folder / "A_seg.nii.gz").write_bytes(b"broken")
    assert load_subject(find_subjects(folder)[0], labels=False).labels is None


def test_real_subjects(real_subjects: Path) -> None:
    subjects = find_subjects(real_subjects)
    assert [s.id for s in subjects] == [
        "BRATS_009",
        "BRATS_119",
        "Brats18_CBICA_AAB_1",
        "TCGA-DU-7294",
        "TCGA-FG-6692",
    ]
    volumes = load_subject(subjects[3])
    assert volumes.shape == (240, 240, 155) and volumes.spacing_mm == (1.0, 1.0, 1.0)
    assert volumes.stored_labels == (0, 1, 2)
    assert volumes.images["t2"].min() == -122


# ------------------------------------------------------------------------------------------- labels from floating point


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2"])
def test_labels_saved_by_get_fdata_are_whole_again(tmp_path: Path, make_subject: MakeSubject, dtype: str) -> None:
    folder = make_subject(tmp_path, "A")
    path = folder / "A_seg.nii.gz"
    truth = np.asarray(nib.load(path).dataobj)
    image = nib.Nifti1Image(truth.astype(np.float64), nib.load(path).affine)
    image.set_data_dtype(np.dtype(dtype))
    nib.save(image, path)
    stored = np.asarray(nib.load(path).dataobj)
    n_off = int(np.count_nonzero(stored != np.rint(stored)))
    volumes = load_subject(find_subjects(tmp_path)[0])
    assert volumes.labels is not None
    np.testing.assert_array_equal(volumes.labels, truth)
    assert volumes.n_rounded == n_off
    np.testing.assert_array_equal(LabelFolder(tmp_path).labels("A")[0], truth)


@settings(deadline=None)
@given(off=st.floats(-0.05, 0.05).filter(lambda x: x != 0 and abs(abs(x) - WHOLE_TOLERANCE) > 1e-6))
def test_labels_are_rounded_within_a_hundredth_and_no_further(off: float) -> None:
    data = np.array([[[0.0, 1.0, 2.0, 4.0 + off]]])
    if abs(off) < WHOLE_TOLERANCE:
        found = as_labels(data)
        assert found.labels.tolist() == [[[0, 1, 2, 4]]] and found.n_rounded == int(4.0 + off != 4.0)
    else:
        with pytest.raises(ValueError, match="not whole numbers: "):
            as_labels(data)


def test_a_fourth_axis_of_one_is_passed_over(tmp_path: Path, make_subject: MakeSubject) -> None:
    folder = make_subject(tmp_path, "A")
    image = nib.load(folder / "A_seg.nii.gz")
    data = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(data[..., None], image.affine), folder / "A_seg.nii.gz")
    np.testing.assert_array_equal(load_subject(find_subjects(tmp_path)[0]).labels, data)
    assert LabelFolder(tmp_path).grid("A")[0] == (24, 20, 4)


# ------------------------------------------------------------------------------------------------------ label folders


def test_labels_of_subject_folders(tmp_path: Path, make_subject: MakeSubject) -> None:
    for name in ("A", "B"):
        make_subject(tmp_path, name)
    (tmp_path / "B" / "B_t1.nii.gz").unlink()  # contrasts are not needed
    folder = LabelFolder(tmp_path)
    assert folder.subjects == ("A", "B")
    labels, spacing_mm = folder.labels("B")
    assert labels.shape == (24, 20, 4) and spacing_mm == (1.0, 1.0, 1.0)
    assert sorted(np.unique(labels)) == [0, 1, 2, 4]
    np.testing.assert_array_equal(folder.affine("B"), np.diag([-1, -1, 1, 1]))


def test_flat_predictions(tmp_path: Path, make_subject: MakeSubject) -> None:
    like = read_volume(make_subject(tmp_path / "in", "A") / "A_t1.nii.gz")
    labels = np.zeros((24, 20, 4), np.uint8)
    labels[3:5] = 3
    (tmp_path / "out").mkdir()
    for name in ("A.nii.gz", "BraTS-GLI-00005-100.nii", "C_seg.nii.gz"):
        write_labels(tmp_path / "out" / name, labels, like=like)
    notes = {"checkpoint_digest": "x", "scheme": SCHEMES["msd"].to_dict()}
    (tmp_path / "out" / "predictions.json").write_text(json.dumps(notes))
    folder = LabelFolder(tmp_path / "out")
    assert folder.subjects == ("A", "BraTS-GLI-00005-100", "C")
    assert folder.labels("C")[0].max() == 3 and folder.scheme == SCHEMES["msd"]
    assert LabelFolder(tmp_path / "out", subjects=["C"]).subjects == ("C",)
    write_labels(tmp_path / "out" / "A.nii", labels, like=like)
    with pytest.raises(DataError, match="two label volumes of A"):
        LabelFolder(tmp_path / "out")
    LabelFolder(tmp_path / "out", subjects=["C"])


def test_a_subject_that_is_not_there(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path, "BraTS20_Training_001")
    with pytest.raises(DataError, match="among them BraTS20_Training_001"):
        LabelFolder(tmp_path).labels("BraTS20_Training_01")
    with pytest.raises(DataError, match="no labels of X"):
        LabelFolder(tmp_path, subjects=["X"])


def test_label_folder_names_bad_labels(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path, "A", seg=np.full((24, 20, 4), 9, np.uint8))
    make_subject(tmp_path, "B", seg=None)
    with pytest.raises(DataError) as caught:
        LabelFolder(tmp_path)
    assert caught.value.details == ("B: missing segmentation (seg)",)
    with pytest.raises(DataError, match="not known which labels A has"):
        LabelFolder(tmp_path, subjects=["A"]).labels("A")


def test_subject_errors_cross_process_borders() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(SubjectError("A", "missing t1")))
    assert str(error.bad) == "A: missing t1"


def test_subjects_compare_by_value(tmp_path: Path) -> None:
    assert Subject("A", tmp_path, {}, None) == Subject("A", tmp_path, {}, None)
