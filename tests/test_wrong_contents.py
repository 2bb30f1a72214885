"""Contents that are wrong and would pass: each is named, with what helps, and no right one is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthkit import events
from synthkit.data.label_folders import LabelFolder, check_same_grids
from synthkit.data.label_pairs import check_prediction
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol
from synthkit.errors import DataError

MakeSubject = Callable[..., Path]
SMALL = SliceProtocol(size=64, brain_fraction=0.004)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def labels_of(folder: Path, name: str) -> np.ndarray:
    return np.asanyarray(nib.load(folder / name / f"{name}_seg.nii.gz").dataobj)


# ------------------------------------------------------------------------------------- predictions that are no labels


def test_predictions_that_are_no_label_maps_are_named_and_the_remedy_helps(
    tmp_path: Path, make_subject: MakeSubject
) -> None:
    name = make_subject(tmp_path / "ref").name
    truth = labels_of(tmp_path / "ref", name)
    values = np.array([0, 1, 2, 4], np.uint8)
    one_hot = np.stack([truth == value for value in values], -1).astype(np.float32)
    noise = np.random.default_rng(0).random(one_hot.shape).astype(np.float32)
    soft = 0.7 * one_hot + 0.3 * noise / noise.sum(-1, keepdims=True)
    reference = LabelFolder(tmp_path / "ref")
    for k, (data, says, axis) in enumerate(
        (
            (one_hot.astype(np.uint8), "it is 4-D (24x20x4x4), as one-hot", -1),
            (soft, "4-D (24x20x4x4), as one-hot maps or probabilities", -1),
            (np.moveaxis(soft, -1, 0), "4-D (4x24x20x4)", 0),
            (soft[..., None, :], "5-D", -1),
            (soft[..., 1], "holds probabilities (", None),
            (20 * soft[..., 1] - 10, "the raw output of a network (-", None),
        )
    ):
        folder = tmp_path / f"pred{k}"
        save(folder / f"{name}.nii.gz", data)
        prediction = LabelFolder(folder, reference=reference)
        with pytest.raises(DataError) as caught:
            check_prediction(reference, prediction, prediction.subjects)
        assert says in caught.value.why.replace("It ", "it ") and "largest probability" in caught.value.fix
        if axis is not None:  # the advice, carried out
            save(folder / f"{name}.nii.gz", values[data.argmax(axis)].reshape(truth.shape))
            right = LabelFolder(folder, reference=reference)
            check_prediction(reference, right, right.subjects)
            np.testing.assert_array_equal(right.labels(name)[0], truth)


def test_probabilities_of_8_bits_are_not_listed_value_by_value(tmp_path: Path, make_subject: MakeSubject) -> None:
    name = make_subject(tmp_path / "ref").name
    save(tmp_path / "pred" / f"{name}.nii.gz", np.arange(24 * 20 * 4).reshape(24, 20, 4).astype(np.uint8))
    reference = LabelFolder(tmp_path / "ref")
    with pytest.raises(DataError) as caught:
        check_prediction(reference, LabelFolder(tmp_path / "pred", reference=reference), [name])
    assert "values, as of grey levels or probabilities" in caught.value.why and len(caught.value.why) < 300


def test_a_segmentation_with_channels_is_a_bad_subject(tmp_path: Path, make_subject: MakeSubject) -> None:
    make_subject(tmp_path / "in", seg=np.zeros((24, 20, 4, 3), np.uint8))
    with pytest.raises(DataError, match="cannot be used") as caught:
        prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL)
    assert "it is 4-D (24x20x4x3), as one-hot" in caught.value.details[0]


# -------------------------------------------------------------------------------------------------------- two affines


def with_qform(path: Path, qform: np.ndarray) -> None:
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), image.affine)
    image.set_sform(image.affine, 2)
    image.set_qform(qform, 1)
    nib.save(image, path)


def test_two_affines_that_contradict_each_other_are_named(
    tmp_path: Path, make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, qform in (("A", np.diag([1.0, -1, 1, 1])), ("B", AFFINE), ("C", AFFINE + np.eye(4, k=3) * 0.5)):
        folder = make_subject(tmp_path / "in", name)
        for kind in ("t1", "seg"):
            with_qform(folder / f"{name}_{kind}.nii.gz", qform)
    notes = {row.id: row.notes for row in prepare(tmp_path / "in", tmp_path / "out", protocol=SMALL).subjects}
    told = [note for note in notes["A"] if "qform" in note]
    assert told == [
        "t1, seg: qform and sform contradict each other, by up to 46 mm: the sform (LPS) is used, the qform (RPS) is "
        "not; if the qform is true, write it to the sform"
    ]
    assert not any("qform" in note for name in "BC" for note in notes[name])
    said: list[str] = []
    monkeypatch.setattr(events, "message", lambda text, **_: said.append(text))
    save(tmp_path / "pred" / "A.nii.gz", labels_of(tmp_path / "in", "A"))
    check_same_grids(LabelFolder(tmp_path / "in", ["A"]), LabelFolder(tmp_path / "pred"))
    assert len(said) == 1 and said[0].startswith("A_seg.nii.gz: qform and sform contradict")
    for kind in ("t1", "t1ce", "t2", "flair", "seg"):  # the advice, carried out: then nothing is contradicted
        path = tmp_path / "in" / "A" / f"A_{kind}.nii.gz"
        data = np.asanyarray(nib.load(path).dataobj).copy()
        save(path, data, np.diag([1.0, -1, 1, 1]))
    again = prepare(tmp_path / "in", tmp_path / "again", protocol=SMALL, dry_run=True).subjects[0].notes
    assert not any("qform" in note for note in again)
