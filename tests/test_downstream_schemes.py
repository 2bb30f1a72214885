"""Label schemes of any values, names and contrasts in what comes after a dataset: export, import, report, joining."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.named_schemes import scheme_named
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError
from synthkit.report.pictures import sample_row
from synthkit.schemes import Scheme

HEART = """
name = "heart"
[labels]
myocardium = { value = 7, meaning = "heart muscle", colour = "#123456" }
blood = 3
[regions]
heart = ["myocardium", "blood"]
[contrasts]
cine = ["cine", "sa"]
"""
N, SIDE = 6, 32


@pytest.fixture(params=["gli2024", "ped", "whole-tumour", "men-rt", "heart.toml"])
def scheme(request: pytest.FixtureRequest, tmp_path: Path) -> Scheme:
    (tmp_path / "heart.toml").write_text(HEART)
    name = request.param
    return scheme_named(str(tmp_path / name) if name.endswith(".toml") else name)


@pytest.fixture
def dataset(scheme: Scheme, tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    contrasts = scheme.contrast_names
    images = rng.integers(0, 256, (N, len(contrasts), SIDE, SIDE), np.uint8)
    labels = np.kron(rng.choice(np.array(scheme.values, np.uint8), (N, 8, 8)), np.ones((1, 4, 4), np.uint8))
    with DatasetWriter(tmp_path / "data", contrasts=contrasts, scheme=scheme, size=(SIDE, SIDE)) as writer:
        writer.append(
            images, labels, [{"id": f"s{i}", "split": "train", "subject": f"p{i}", "slice": i} for i in range(N)]
        )
    return Dataset(tmp_path / "data")


@pytest.mark.parametrize("format", ["png", "nifti", "nnunet"])
def test_an_export_comes_back_with_its_scheme(dataset: Dataset, scheme: Scheme, tmp_path: Path, format: str) -> None:
    export_dataset(dataset.path, tmp_path / "out", format=format)
    api.import_images(tmp_path / "out", tmp_path / "back", kind="real")
    back = Dataset(tmp_path / "back")
    assert back.scheme == scheme and back.contrasts == dataset.contrasts
    for one, other in zip(back.read(range(N)), dataset.read(range(N)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nnunet_has_each_label_by_name_and_consecutive_values(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "out", format="nnunet")
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert set(described["labels"]) == set(dataset.labels)
    assert sorted(described["labels"].values()) == list(range(len(dataset.labels)))
    (tmp_path / "out" / "scheme.json").unlink()  # as from elsewhere: names are all there is
    api.import_images(tmp_path / "out", tmp_path / "back")
    back = Dataset(tmp_path / "back")
    assert set(back.labels) == set(dataset.labels)
    table = np.zeros(256, np.uint8)
    table[[dataset.labels[name] for name in back.labels]] = [*back.labels.values()]
    np.testing.assert_array_equal(back.read([0])[1], table[dataset.read([0])[1]])


def test_pictures_without_a_description_are_read_by_the_scheme_that_is_named(
    dataset: Dataset, scheme: Scheme, tmp_path: Path
) -> None:
    export_dataset(dataset.path, tmp_path / "out", format="png")
    (tmp_path / "out" / "scheme.json").unlink()
    name = str(tmp_path / "heart.toml") if scheme.name == "heart" else scheme.name
    api.import_images(tmp_path / "out", tmp_path / "back", labels=name)
    back = Dataset(tmp_path / "back")
    assert back.scheme == scheme
    np.testing.assert_array_equal(back.read(range(N))[1], dataset.read(range(N))[1])


def test_a_damaged_description_is_refused_and_leaves_nothing(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "out", format="png")
    (tmp_path / "out" / "scheme.json").write_text('{"contrasts": []}')
    with pytest.raises(DataError, match=r"scheme\.json does not describe labels.*--labels"):
        api.import_images(tmp_path / "out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_pictures_of_a_report_have_the_labels_and_colours_of_the_scheme(dataset: Dataset, scheme: Scheme) -> None:
    shown = [path for row in range(N) for path in sample_row(dataset, row)["paths"]]
    assert {path["name"]: path["colour"] for path in shown} == {label.name: label.colour for label in scheme.labels}
    base = sample_row(dataset, 0)["base"]
    assert base == (dataset.contrasts.index("t1ce") if "t1ce" in dataset.contrasts else len(dataset.contrasts) - 1)


def test_contrasts_of_any_name_are_imported_by_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "heart.toml").write_text(HEART)
    images = np.random.default_rng(1).integers(0, 256, (N, 2, SIDE, SIDE), np.uint8)
    labels = np.zeros((N, SIDE, SIDE), np.uint8)
    labels[:, :9, :9], labels[:, 9:19] = 7, 3
    np.savez(tmp_path / "a.npz", images=np.concatenate([images, labels[:, None]], axis=1))
    options = {"channels": "sa,late,labels", "labels": str(tmp_path / "heart.toml")}
    summary = api.import_images(tmp_path / "a.npz", tmp_path / "out", **options)
    assert summary.contrasts == ("cine", "late")
    assert any("Nothing is known of the contrast late" in note for note in summary.notes)
    back = Dataset(tmp_path / "out")
    np.testing.assert_array_equal(back.read(range(N))[1], labels)
    assert summary.label_pixels["myocardium"] == int((labels == 7).sum())
