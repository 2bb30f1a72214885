"""Names of predictions: endings of a scheme of one's own, and what is advised where they are not known."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_pairs import no_subject_in_common
from synthkit.errors import DataError

TOML = 'label_endings = ["gt"]\n[labels]\nmyocardium = 1\nblood = 5\n'


def labels_saved(*paths: Path) -> None:
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[1:3], labels[3] = 1, 5
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(labels, np.eye(4)), path)


@pytest.mark.parametrize(
    "place",
    [
        "{0}/{0}_gt.nii.gz",
        "{0}_pred.nii.gz",
        "{0}/prediction.nii.gz",
        "{0}_gt.nii.gz",
        "{0}/{0}_seg.nii.gz",
        "{0}.nii.gz",
    ],
)
@pytest.mark.parametrize("said_of", ["reference", "prediction"])
def test_predictions_may_have_the_endings_of_their_scheme(tmp_path: Path, place: str, said_of: str) -> None:
    (tmp_path / "own.toml").write_text(TOML)
    for name in "AB":
        labels_saved(tmp_path / "ref" / f"{name}_gt.nii.gz", tmp_path / "pred" / place.format(name))
    own = str(tmp_path / "own.toml")
    reference = LabelFolder(tmp_path / "ref", labels=own)
    prediction = LabelFolder(tmp_path / "pred", labels=own if said_of == "prediction" else None, reference=reference)
    assert prediction.subjects == reference.subjects == ("A", "B")
    assert [label.name for label in prediction.scheme.labels] == ["myocardium", "blood"]
    # As the run opens them, by what was decided.
    decided = LabelFolder(tmp_path / "ref", decided=reference.decision())
    again = LabelFolder(tmp_path / "pred", reference=decided, decided=prediction.decision())
    assert again.subjects == ("A", "B") and set(np.unique(again.labels("A")[0])) == {0, 1, 5}


def test_predictions_of_unknown_names_are_told_from_references(tmp_path: Path) -> None:
    labels_saved(tmp_path / "ref" / "A" / "A_seg.nii.gz", tmp_path / "pred" / "A" / "A_mine.nii.gz")
    (tmp_path / "pred" / "A" / "A_t1.nii.gz").write_bytes(b"")
    reference = LabelFolder(tmp_path / "ref")
    with pytest.raises(DataError, match="The predictions in") as caught:
        LabelFolder(tmp_path / "pred", reference=reference)
    assert "--prediction-labels FILE.toml" in caught.value.fix and "--names" not in caught.value.fix
    (tmp_path / "own.toml").write_text('label_endings = ["mine"]\n[labels]\nA = 1\nB = 5\n')  # the advice
    advised = LabelFolder(tmp_path / "pred", labels=str(tmp_path / "own.toml"), reference=reference)
    assert advised.subjects == ("A",)
    (tmp_path / "pred" / "A" / "A_mine.nii.gz").rename(tmp_path / "pred" / "A.nii.gz")  # and the other one
    (tmp_path / "pred" / "A" / "A_t1.nii.gz").unlink()
    assert LabelFolder(tmp_path / "pred", reference=reference).subjects == ("A",)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("{}_seg_pred", "_seg is no ending of a prediction's name"),
        ("pred_{}", "pred_ is no ending"),
        ("{}-t1c_pred", "-t1c is no ending"),
        ("{}_0000", "_0000 is how nnU-Net names a channel"),
    ],
)
def test_what_names_hold_besides_the_subjects_is_said_and_renaming_helps(tmp_path: Path, file: str, says: str) -> None:
    for name in ("P_01", "P_02"):
        labels_saved(tmp_path / "ref" / f"{name}_seg.nii.gz", tmp_path / "pred" / f"{file.format(name)}.nii.gz")
    reference = LabelFolder(tmp_path / "ref")
    error = no_subject_in_common(reference, LabelFolder(tmp_path / "pred", reference=reference))
    assert says in error.why and "files a label" not in error.why
    advised = re.search(r"rename (\S+) to (\S+), and the others", error.fix)
    assert advised
    for name in ("P_01", "P_02"):
        old, new = (word.replace("P_01", name) for word in advised.groups())
        (tmp_path / "pred" / old).rename(tmp_path / "pred" / new)
    assert LabelFolder(tmp_path / "pred", reference=reference).subjects == reference.subjects


def test_several_files_a_subject_are_told_from_label_maps(tmp_path: Path) -> None:
    labels_saved(tmp_path / "ref" / "P_01_seg.nii.gz", *(tmp_path / "pred" / f"P_01_{k}.nii.gz" for k in range(3)))
    reference = LabelFolder(tmp_path / "ref")
    error = no_subject_in_common(reference, LabelFolder(tmp_path / "pred", reference=reference))
    assert "P_01 has P_01_0, P_01_1 and P_01_2: files a label" in error.why and "rename" not in error.fix
