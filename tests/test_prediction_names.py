"""Names of predictions: endings of a scheme of one's own, and what is advised where they are not known."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthkit.data.label_folders import LabelFolder
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
