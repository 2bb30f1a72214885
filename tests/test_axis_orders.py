"""Perfect predictions whose arrays are in another order of axes: named, and what is advised makes them perfect."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkit import events
from synthkit.data.axis_orders import best_order, turn_by_affines
from synthkit.data.label_folders import LabelFolder
from synthkit.data.label_grids import OnOneGrid, check_same_grids
from synthkit.data.orientation import Turn
from synthkit.errors import DataError

# Kind -> how the array was saved, and whose affine it has: none, that of the reference, its own.
ORDERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "reversed": (lambda a: a.transpose(2, 1, 0), "none"),
    "exchanged": (lambda a: a.transpose(1, 0, 2), "none"),
    "mirrored": (lambda a: a[::-1], "none"),
    "mirrored, affine of the reference": (lambda a: a[:, ::-1], "reference"),
    "turned": (lambda a: a.transpose(1, 2, 0)[:, :, ::-1], "none"),
    "RAS": (lambda a: a[::-1, ::-1], "own"),
    "as the reference": (lambda a: a, "none"),
    "as the reference, affine of RAS": (lambda a: a, "own"),
}


def saved(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array, np.uint8), affine), path)


def told(folder: Path, grid: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The advice of an error or a warning; "" where there is none."""
    reference, prediction = LabelFolder(folder / "ref"), LabelFolder(folder / "pred")
    heard: list[str] = []
    monkeypatch.setattr(events, "message", lambda text, **_: heard.append(text))
    try:
        if grid == "own":
            check_same_grids(reference, prediction)
        OnOneGrid(prediction, reference, by_request=grid == "reference").labels("A")
    except DataError as error:
        return error.fix
    return " ".join(heard)


@pytest.mark.parametrize("grid", ["own", "reference"])
@pytest.mark.parametrize("kind", ORDERS)
def test_what_is_advised_puts_a_perfect_prediction_on_its_reference(
    tmp_path: Path, kind: str, grid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((24, 20, 12) if kind == "reversed" else (20, 20, 20), np.uint8)
    labels[3:9, 4:8, 1:6], labels[4:6, 5:7, 2:4], labels[3, 4:6, 1:4] = 2, 1, 4
    affine, correct = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4)
    affine[:3, 3] = 19, 19, 5
    correct[2, 3] = 5
    saved(tmp_path / "ref" / "A_seg.nii.gz", labels, affine)
    change, whose = ORDERS[kind]
    array, path = change(labels).copy(), tmp_path / "pred" / "A.nii.gz"
    saved(path, array, {"none": np.eye(4), "own": correct, "reference": affine}[whose])
    advice = told(tmp_path, grid, monkeypatch)
    if kind.startswith("as the reference"):
        assert (grid == "own") == ("--prediction-grid reference" in advice) and (advice != "") == (grid == "own")
        assert told(tmp_path, "reference", monkeypatch) == ""
        return
    if kind == "RAS":
        assert ("in the order of the reference" in advice) if grid == "reference" else "are turned to that" in advice
        assert "Resample" not in advice
        reference, prediction = LabelFolder(tmp_path / "ref"), LabelFolder(tmp_path / "pred")
        array, spacing_mm = OnOneGrid(prediction, reference, by_request=False).labels("A")
        assert spacing_mm == (1, 1, 1)
    else:
        found = re.search(r"array(\.transpose\([\d, ]+\))?(\[[-:, 1]+\])?(?= with the)", advice)
        assert found, advice
        array = eval(found[0], {"array": array})  # what the message has the user write
    np.testing.assert_array_equal(array, labels)
    saved(path, array, affine)
    assert told(tmp_path, "own", monkeypatch) == ""


@settings(max_examples=60, deadline=None)
@given(
    st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.6])
)
def test_an_array_in_any_order_with_the_affine_of_that_is_turned_back(
    axes: list[int], flips: tuple[bool, bool, bool], seed: int, off_mm: float
) -> None:
    rng = np.random.default_rng(seed)
    turn = Turn((axes[0], axes[1], axes[2]), flips)
    image = nib.Nifti1Image(rng.integers(0, 5, (6, 7, 8)).astype(np.uint8), np.eye(4))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = nib.affines.from_matvec(rotation @ np.diag([1.0, 1.2, 3.0]), rng.normal(0, 90, 3))
    image = nib.Nifti1Image(image.get_fdata().astype(np.uint8), affine)
    codes = np.array([[axes.index(k), -1 if flips[axes.index(k)] else 1] for k in range(3)])
    other = image.as_reoriented(codes)
    np.testing.assert_array_equal(np.asarray(other.dataobj), turn.apply(np.asarray(image.dataobj)))
    moved = other.affine.copy()
    moved[0, 3] += off_mm
    back = turn_by_affines(affine, image.shape, moved, other.shape)
    assert (back is None) == (off_mm > 0.1)
    if back is not None:
        np.testing.assert_array_equal(back.apply(np.asarray(other.dataobj)), np.asarray(image.dataobj))


def test_no_order_is_named_for_labels_that_are_elsewhere_or_nearly_right() -> None:
    """Mirror images of a tumour are not found by chance, and what overlaps somewhat is left alone."""
    rng = np.random.default_rng(0)
    grid = np.indices((48, 48, 31))

    def tumour() -> np.ndarray:
        centre = rng.integers(8, 24, 3)
        parts = centre[:, None] + rng.integers(-4, 5, (3, 3))
        far = [np.square(grid - part[:, None, None, None]).sum(axis=0) for part in parts.T]
        return (np.min(far, axis=0) < 16).astype(np.uint8)

    for _ in range(40):
        here, there = tumour(), tumour()
        assert not best_order(here, there).fits
        assert not best_order(here, np.roll(here, 1, axis=0)).fits
        assert best_order(here, here[::-1]).fits == (best_order(here, here[::-1]).dice_as_stored < 0.8)
    assert not best_order(here, np.zeros_like(here)).fits


def test_what_lies_nowhere_on_the_reference_is_not_told_to_be_resampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, found = np.zeros((2, 20, 20, 20), np.uint8)
    truth[2:8, 2:6, 2:9], found[9:12, 9:12, 9:12] = 1, 1
    affine = np.eye(4)
    affine[0, 3] = 30
    saved(tmp_path / "ref" / "A_seg.nii.gz", truth, np.eye(4))
    saved(tmp_path / "pred" / "A.nii.gz", found, affine)
    advice = told(tmp_path, "own", monkeypatch)
    assert advice.startswith("Neither its affine nor any order of its axes") and "Predict again" in advice


def test_predictions_that_were_exchanged_between_subjects_are_named_with_whose_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(events, "message", lambda text, **_: heard.append(text))
    whose = {"A": "B", "B": "A", "C": "C", "D": "D"}
    for k, (name, other) in enumerate(whose.items()):
        for folder, of in (("ref", name), ("pred", other)):
            labels = np.zeros((20, 20, 20), np.uint8)
            labels[3 + 3 * "ABCD".index(of) :][:6, 4:9, 2:8] = 2
            if folder == "pred":  # C hits little, and nobody else's either
                labels = labels[:, ::-1] if of == "C" else np.roll(labels, 1, 2)
            saved(tmp_path / folder / f"{name}_seg.nii.gz", labels, np.eye(4) * (1 + k % 2))
    reference, prediction = LabelFolder(tmp_path / "ref"), LabelFolder(tmp_path / "pred")
    both = OnOneGrid(prediction, reference, by_request=False)
    for name in [*whose, *whose]:  # as two metrics ask
        both.labels(name)
    assert [text.partition(",")[0].split()[0] for text in heard if "exchanged" in text] == ["A:", "B:"]
    assert "with that of B" in heard[0] and "with that of A" in heard[1]
    for name in "AB":  # the advice
        (tmp_path / "pred" / f"{name}_seg.nii.gz").rename(tmp_path / f"{name}_seg.nii.gz")
    for name, other in ("AB", "BA"):
        (tmp_path / f"{name}_seg.nii.gz").rename(tmp_path / "pred" / f"{other}_seg.nii.gz")
    heard.clear()
    both = OnOneGrid(LabelFolder(tmp_path / "pred"), reference, by_request=False)
    assert [both.labels(name) for name in whose] and not any("exchanged" in text for text in heard)
