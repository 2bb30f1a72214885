"""The contact sheet: a slice of every subject, in the folder of a real dataset and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthkit.data import contact_sheet
from synthkit.data.contact_sheet import ContactSheet, is_contact_sheet
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.prepare import prepare
from synthkit.data.slices import SliceProtocol
from synthkit.data.writer import DatasetWriter, check_replaceable
from synthkit.schemes import BRATS

MakeSubject = Callable[..., Path]

SMALL = SliceProtocol(size=64, brain_fraction=0.004)
CONTRASTS = ("t1", "t1ce", "t2", "flair")


@pytest.fixture
def subjects(tmp_path: Path, make_subject: MakeSubject) -> Path:
    for n in range(3):
        make_subject(tmp_path / "in", f"s{n}", shape=(24, 20, 3 + n))
    return tmp_path / "in"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def one(subject: str, size: int = 128, axes: str | None = "LPS") -> ContactSheet:
    """A sheet of one subject of three slices: tumour is in all, most in the second."""
    images = np.zeros((3, 4, size, size), np.uint8)
    images[:] = np.array([10, 60, 120])[:, None, None, None]
    labels = np.zeros((3, size, size), np.uint8)
    labels[:, 0, 0] = 4
    labels[1, : size // 2, : size // 2] = 4
    sheet = ContactSheet(CONTRASTS, BRATS, axes)
    sheet.add(subject, "train", (7, 8, 9), images, labels)
    return sheet


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_the_slice_with_most_tumour_all_contrasts_and_labels(tmp_path: Path, size: int) -> None:
    (path,) = one("a", size, axes=None).write(tmp_path, ["a"])
    picture = pixels(path)
    tiles = [picture[28 : 28 + 128, k * 130 : k * 130 + 128] for k in range(5)]
    for tile in tiles[:4]:
        assert (tile == 60).all()
    assert (tiles[4][70:, 70:] == 60).all()
    red, green, blue = tiles[4][20, 20]
    assert red > 60 + 40 and red > green > blue  # vermilion over grey


def test_marks_stand_only_where_the_orientation_is_known(tmp_path: Path) -> None:
    plain, marked = (pixels(one("a", axes=axes).write(tmp_path, ["a"])[0]) for axes in (None, "LPS"))
    changed = np.argwhere((plain != marked).any(axis=2))
    assert len(changed) and changed[:, 0].min() >= 28


def test_without_tumour_the_slice_with_most_brain(tmp_path: Path) -> None:
    images = np.zeros((2, 4, 128, 128), np.uint8)
    images[0, :, :10], images[1, :, :100] = 200, 90
    sheet = ContactSheet(CONTRASTS, BRATS, None)
    sheet.add("a", "holdout", (0, 1), images, np.zeros((2, 128, 128), np.uint8))
    assert (pixels(sheet.write(tmp_path, ["a"])[0])[30:120, :128] == 90).all()


def test_ids_of_any_length_and_script_fit(tmp_path: Path) -> None:
    for name in ("x" * 300, "患者-001", "sub-01"):
        assert one(name).write(tmp_path, [name])[0].is_file()


def test_prepare_writes_it_and_the_dataset_stays_one(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    summary = prepare(subjects, out, protocol=SMALL, holdout="1")
    assert summary.contact_sheets == (out / "contact-sheet.png",)
    assert pixels(out / "contact-sheet.png").shape[2] == 3
    before = Dataset(out).digest
    (out / "contact-sheet.png").unlink()
    assert Dataset(out).digest == before
    again = prepare(subjects, out, protocol=SMALL, holdout="1", resume=True)  # all is written: the sheet is made again
    assert again.contact_sheets[0].is_file() and Dataset(out).digest == before
    check_replaceable(out)
    monkeypatch.setattr(contact_sheet, "PER_PAGE", 2)
    pages = prepare(subjects, out, protocol=SMALL, holdout="1", overwrite=True).contact_sheets
    assert [path.name for path in pages] == ["contact-sheet-01.png", "contact-sheet-02.png"]
    check_replaceable(out)
    monkeypatch.undo()
    assert prepare(subjects, out, protocol=SMALL, holdout="1", resume=True).contact_sheets[0].is_file()
    assert sorted(path.name for path in out.glob("*.png")) == ["contact-sheet.png"]
    assert not prepare(subjects, tmp_path / "no", protocol=SMALL, dry_run=True).contact_sheets
    assert not (tmp_path / "no").exists()


def test_a_resumed_dataset_has_all_subjects_on_it(
    tmp_path: Path, subjects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare(subjects, tmp_path / "whole", protocol=SMALL).contact_sheets[0].read_bytes()
    real, calls = DatasetWriter.append, []

    def append(self: DatasetWriter, *args: object) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        real(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "append", append)
        with pytest.raises(KeyboardInterrupt):
            prepare(subjects, tmp_path / "out", protocol=SMALL, workers=1)
    resumed = prepare(subjects, tmp_path / "out", protocol=SMALL, resume=True)
    assert resumed.n_resumed and resumed.contact_sheets[0].read_bytes() == whole


def test_no_export_takes_it_along(tmp_path: Path, subjects: Path) -> None:
    prepare(subjects, tmp_path / "out", protocol=SMALL)
    for format in ("png", "nifti", "nnunet"):
        export_dataset(tmp_path / "out", tmp_path / format, format=format)
        assert not [path for path in (tmp_path / format).rglob("*") if is_contact_sheet(path.name)]


def test_other_pictures_are_no_part_of_a_dataset() -> None:
    assert all(map(is_contact_sheet, ("contact-sheet.png", "contact-sheet-01.png", "contact-sheet-132.png")))
    assert not any(map(is_contact_sheet, ("contact-sheet.jpg", "my-contact-sheet.png", "contact-sheet-a.png")))
