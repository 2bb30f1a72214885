"""Import of real pictures: the table beside them as exports write it, as Excel saves it, and each way to be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkit import api
from synthkit.data import importing
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import FORMATS, export_dataset
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, SynthkitError, UsageError
from synthkit.schemes import BRATS

N, SIDE = 6, 16


def refused(pictures: Path, out: Path) -> SynthkitError:
    with pytest.raises(DataError) as caught:
        api.import_images(pictures, out, kind="real")
    assert not out.exists() and caught.value.fix
    return caught.value


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    rows = [
        {"id": f"P{i}_000", "split": "holdout" if i > 3 else "train", "subject": f"P{i}", "slice": 0} for i in range(N)
    ]
    with DatasetWriter(tmp_path / "data", contrasts=BRATS.contrast_names, scheme=BRATS, size=(SIDE, SIDE)) as writer:
        rng = np.random.default_rng(0)
        labels = rng.choice(np.array(BRATS.values, np.uint8), (N, SIDE, SIDE))
        writer.append(rng.integers(0, 256, (N, 4, SIDE, SIDE), dtype=np.uint8), labels, rows)
    export_dataset(tmp_path / "data", tmp_path / "png", format="png")
    return tmp_path / "png"


@pytest.mark.parametrize("saved", ["bom", "semicolon", "crlf", "tabs", "sep", "title", "blank", "order"])
def test_a_table_that_excel_saved_is_read(exported: Path, tmp_path: Path, saved: str) -> None:
    path = exported / "samples.csv"
    text = path.read_text()
    encoding = "utf-8-sig"
    if saved in ("semicolon", "sep"):
        text = ("sep=;\n" if saved == "sep" else "") + text.replace(",", ";")
    elif saved == "tabs":
        text, encoding = text.replace(",", "\t"), "utf-16"
    elif saved == "title":
        text = text.replace("id,split", " ID ,Split")
    elif saved == "blank":
        text += ",,,,\n\n"
    elif saved == "order":
        text = "\n".join(",".join([*line.split(",")[::-1], "more"]) for line in text.splitlines())
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8" if saved == "crlf" else encoding))
    api.import_images(exported, tmp_path / "out", kind="real")
    assert Dataset(tmp_path / "out").digest == Dataset(tmp_path / "data").digest


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id,split", "name,split", "no column id"),
        ("P1_000,", "P0_000,", "two rows of P0_000"),
        ("P1,0", "P1,0.5", "'0.5'"),
        ("id,split,subject,slice,seed", "", "no column"),
        ("P1", "P\udcff", "cannot be read"),
    ],
)
def test_a_table_that_is_wrong_is_named(exported: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    path = exported / "samples.csv"
    path.write_bytes(path.read_text().replace(old, new, 1).encode(errors="surrogateescape"))
    error = refused(exported, tmp_path / "out")
    assert said in str(error)
    if "no column id" in said:
        assert "name, split, subject, slice, seed" in error.why
    if "--as synthetic" in error.fix:
        assert api.import_images(exported, tmp_path / "out").n_samples == N


def test_no_table_at_all(exported: Path, tmp_path: Path) -> None:
    table = (exported / "samples.csv").rename(tmp_path / "elsewhere.csv")
    error = refused(exported, tmp_path / "out")
    assert "add the table (id, split, subject, slice)" in error.fix and "--as synthetic" in error.fix
    assert api.import_images(exported, tmp_path / "synthetic").n_samples == N
    table.rename(exported / "samples.csv")
    api.import_images(exported, tmp_path / "out", kind="real")
    assert Dataset(tmp_path / "out").digest == Dataset(tmp_path / "data").digest


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("labels", "ED", "a/b"),  # no name
        ("labels", "ET", [1, 3]),  # a region
        ("channel_names", "1", "a/b"),
        ("channel_names", "1", "T1"),  # twice
    ],
)
def test_nnunet_by_names_alone(exported: Path, tmp_path: Path, key: str, old: str, new: Any) -> None:
    export_dataset(tmp_path / "data", tmp_path / "raw", format="nnunet")
    path = tmp_path / "raw" / "dataset.json"
    right = json.loads(path.read_text())
    wrong = json.loads(path.read_text())
    if key == "labels" and isinstance(new, str):
        wrong[key][new] = wrong[key].pop(old)
    else:
        wrong[key][old] = new
    path.write_text(json.dumps(wrong))
    error = refused(tmp_path / "raw", tmp_path / "out")
    assert error.what.startswith(f"The {'labels' if key == 'labels' else 'channels'} ")
    if "--without-labels" in error.fix:
        assert not api.import_images(tmp_path / "raw", tmp_path / "alone", without_labels=True).label_pixels
    if key == "labels":  # values in another order, named: they are what their names say
        right[key] = {"background": 0, "ED": 1, "NCR": 2, "ET": 3}
    path.write_text(json.dumps(right))
    api.import_images(tmp_path / "raw", tmp_path / "out", kind="real")
    (labels,), (truth,) = (Dataset(tmp_path / name).read([0])[1] for name in ("out", "data"))
    swapped = np.array([0, 2, 1, 0, 4], np.uint8)[truth] if key == "labels" else truth
    np.testing.assert_array_equal(labels, swapped)


def test_nnunet_by_regions(exported: Path, tmp_path: Path) -> None:
    export_dataset(tmp_path / "data", tmp_path / "raw", format="nnunet")
    path = tmp_path / "raw" / "dataset.json"
    regions = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
    (tmp_path / "raw" / "scheme.json").unlink()
    for labels, order in (
        (regions, [2, 1, 3]),
        ({"background": 0, "head": [1, 2, 3], "core": [1, 3], "rim": 3}, [2, 1, 3]),
    ):
        path.write_text(json.dumps({**json.loads(path.read_text()), "labels": labels, "regions_class_order": order}))
        api.import_images(tmp_path / "raw", tmp_path / "out", kind="real", overwrite=True)
        found, data = Dataset(tmp_path / "out"), Dataset(tmp_path / "data")
        np.testing.assert_array_equal(found.read([0])[1], np.array([0, 1, 2, 0, 3], np.uint8)[data.read([0])[1]])
        names = {"ED", "NCR", "ET"} if labels is regions else {"rest_of_head", "rest_of_core", "rim"}
        assert set(found.labels) == {"background", *names} and len(found.scheme.nested) == 2


def test_an_interrupted_import_goes_on(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_BATCH", 2)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "write" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importing.import_images(exported, tmp_path / "out", kind="real", on_progress=interrupt)
    with pytest.raises(UsageError, match="--resume"):
        api.import_images(exported, tmp_path / "out", kind="real")
    summary = api.import_images(exported, tmp_path / "out", kind="real", resume=True)
    assert Dataset(tmp_path / "out").digest == Dataset(tmp_path / "data").digest
    assert summary.n_samples == N and sum(summary.label_pixels.values()) == N * SIDE * SIDE


@pytest.mark.parametrize("format", FORMATS)
def test_every_export_has_a_row_a_sample(exported: Path, tmp_path: Path, format: str) -> None:
    export_dataset(tmp_path / "data", tmp_path / "out", format=format)
    assert (tmp_path / "out" / "samples.csv").read_text() == (exported / "samples.csv").read_text()


def test_ids_that_may_be_one_patient_are_asked_about_as_in_prepare(exported: Path, tmp_path: Path) -> None:
    path = exported / "samples.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    subject, patient = rows[0].index("subject"), rows[0].index("patient")
    for row, name in zip(rows[1:], ("T0_Ray", "T1_Ray", "Lee", "Ann_BL", "Tom", "Kim"), strict=True):
        row[subject] = name
    path.write_text("\n".join(map(",".join, rows)))
    error = refused(exported, tmp_path / "out")
    assert error.details == ("T0_Ray, T1_Ray",) and "column patient of samples.csv" in error.fix
    for row in rows[1:]:  # what it advises
        row[patient] = row[subject].removeprefix("T0_").removeprefix("T1_")
    path.write_text("\n".join(map(",".join, rows)))
    summary = api.import_images(exported, tmp_path / "out", kind="real")
    assert set(Dataset(tmp_path / "out").patients.values()) == {"Ray", "Lee", "Ann_BL", "Tom", "Kim"}
    assert any("6 of 6 subjects have too few slices" in note for note in summary.notes)


def test_the_same_pictures_of_subjects_with_few_slices_are_named(exported: Path, tmp_path: Path) -> None:
    for picture in exported.rglob("P0_000*"):
        picture.with_name(picture.name.replace("P0", "P1")).write_bytes(picture.read_bytes())
    notes = api.import_images(exported, tmp_path / "out", kind="real").notes
    assert any(note.startswith("P0, P1 hold the same pictures") for note in notes)
