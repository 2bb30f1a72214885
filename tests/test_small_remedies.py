"""Small words of advice, carried out: masks of one value, affines that disagree, tables of samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_from_to

from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_pairs import check_prediction
from synthkit.data.prepare import prepare
from synthkit.data.sample_tables import read_rows
from synthkit.data.slices import SliceProtocol
from synthkit.errors import DataError

MakeSubject = Callable[..., Path]
SMALL = SliceProtocol(size=32, brain_fraction=0.001)


def test_a_mask_of_255_is_read_as_the_whole_tumour(tmp_path: Path) -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:5, 2:5, 2:5], labels[3, 3, 3] = 2, 4
    for folder, name, array in (("ref", "A_seg", labels), ("pred", "A", np.where(labels, 255, 0).astype(np.uint8))):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
    reference = LabelFolder(tmp_path / "ref", labels="brats2021")
    with pytest.raises(DataError, match="does not have") as caught:
        check_prediction(reference, LabelFolder(tmp_path / "pred", reference=reference), ["A"])
    assert "WT = 255 for a mask of the whole tumour" in caught.value.fix
    (tmp_path / "own.toml").write_text("[labels]\nWT = 255\n")
    advised = LabelFolder(tmp_path / "pred", labels=str(tmp_path / "own.toml"), reference=reference)
    check_prediction(reference, advised, ["A"])
    assert advised.scheme.label_values["WT"] == 255 and (advised.labels("A")[0] == 255).sum() == 27


@pytest.mark.parametrize("kind", ["identity", "RAS"])
def test_what_is_advised_where_affines_disagree_helps(tmp_path: Path, make_subject: MakeSubject, kind: str) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:2, 3] = 23, 19
    kinds = ("t1", "t1ce", "t2", "flair", "seg")
    folder = make_subject(tmp_path / "in", "A", affines=dict.fromkeys(kinds, affine))
    path = folder / "A_seg.nii.gz"
    labels = np.asarray(nib.load(path).dataobj)
    other = nib.Nifti1Image(labels, np.eye(4)) if kind == "identity" else nib.as_closest_canonical(nib.load(path))
    nib.save(nib.Nifti1Image(np.asarray(other.dataobj), other.affine), path)
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, holdout="0")
    assert "affines disagree" in caught.value.details[0]
    assert "resample the file to the grid of the others by its affine" in caught.value.fix
    if kind == "identity":
        nib.save(nib.Nifti1Image(np.asarray(other.dataobj), affine), path)
    else:
        found = resample_from_to(nib.load(path), (labels.shape, affine), order=0)
        nib.save(nib.Nifti1Image(np.asarray(found.dataobj).astype(np.uint8), affine), path)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, holdout="0").n_samples


def test_tables_of_samples_as_programs_leave_them(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("id,split,subject,slice\na,train,A,0.0\nb,train,B,17.0\n")
    assert [row["slice"] for row in read_rows(path).values()] == [0, 17]
    for begin in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        path.write_bytes(begin + b"[Content_Types].xml" * 3)
        with pytest.raises(DataError, match="an Excel workbook"):
            read_rows(path)


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (".A_t2.nii.gz.icloud", "t2: .A_t2.nii.gz.icloud is a placeholder of iCloud"),
        ("A_t2.nii.gz.url", "t2: A_t2.nii.gz.url is a link to a page"),
        ("A_t2.nii.gz.odd", "t2: A_t2.nii.gz.odd is not a volume by its ending (.odd)"),
        ("A_t2.nii.gz/", "t2: A_t2.nii.gz is a folder without a file"),
        ("A_t2/1.dcm", "t2: A_t2 is a folder of 1 .dcm file (convert them to NIfTI"),
        ("t2/notes.txt", "t2: t2 is a folder of 1 .txt file"),
    ],
)
def test_what_lies_where_a_contrast_is_expected_is_named(
    tmp_path: Path, make_subject: MakeSubject, left: str, says: str
) -> None:
    folder = make_subject(tmp_path / "in", "A")
    there = folder / "A_t2.nii.gz"
    content = there.read_bytes()
    there.unlink()
    placeholder = folder / left
    (placeholder if left.endswith("/") else placeholder.parent).mkdir(exist_ok=True)
    if not left.endswith("/"):
        placeholder.write_text("{}")
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert says in caught.value.details[0] and "--contrasts" not in caught.value.fix
    if left.endswith("/"):
        placeholder.rmdir()
    there.write_bytes(content)  # fetched
    assert prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL, dry_run=True).n_samples
