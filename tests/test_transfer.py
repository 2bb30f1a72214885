"""Import and export: exact round trips, and each way in which a PNG folder can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from synthkit.data.channel_options import Channels
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.importing import import_images
from synthkit.data.writer import DatasetWriter
from synthkit.errors import DataError, UsageError
from synthkit.schemes import BRATS

CONTRASTS = ("t1", "t1ce", "t2", "flair")
N = 7


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, 4, 32, 32), dtype=np.uint8)
    labels = rng.choice(np.array([0, 1, 2, 4], np.uint8), (N, 32, 32))
    rows = [
        {"id": f"P{i // 3}_{i:03d}", "split": "holdout" if i >= 6 else "train", "subject": f"P{i // 3}", "slice": i}
        for i in range(N)
    ]
    with DatasetWriter(tmp_path / "data", contrasts=CONTRASTS, scheme=BRATS, size=(32, 32)) as writer:
        writer.append(images, labels, rows)
    return Dataset(tmp_path / "data")


def test_png_round_trip_is_exact(dataset: Dataset, tmp_path: Path) -> None:
    assert export_dataset(dataset.path, tmp_path / "png", format="png") == N
    summary = import_images(tmp_path / "png", tmp_path / "back", kind="real")
    assert Dataset(tmp_path / "back").digest == dataset.digest
    assert (summary.n_samples, summary.off_level_pixels) == (N, 0)
    labels = dataset.read(range(N))[1]
    assert summary.label_pixels["ET"] == (labels == 4).sum()
    assert summary.label_samples["ET"] == N
    assert sum(summary.label_pixels.values()) == N * 32 * 32


def test_png_layout_is_the_study_s(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    assert {p.name for p in (tmp_path / "png").iterdir()} == {
        "T1",
        "T1CE",
        "T2",
        "FLAIR",
        "Seg",
        "samples.csv",
        "scheme.json",
    }
    grey = np.asarray(Image.open(tmp_path / "png" / "Seg" / "P0_000_Seg.png"))
    assert set(np.unique(grey)) == {0, 51, 102, 204}


def test_import_as_synthetic_forgets_subjects_and_splits(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png", split="holdout")
    import_images(tmp_path / "png", tmp_path / "back")
    back = Dataset(tmp_path / "back")
    assert back.kind == "synthetic"
    assert [(row.split, row.subject) for row in back.samples] == [("synthetic", None)]
    assert back.samples[0].digest == dataset.samples[6].digest


def test_off_level_label_pixels_are_counted(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    path = tmp_path / "png" / "Seg" / "P0_000_Seg.png"
    grey = np.zeros((32, 32), np.uint8)
    grey[0, :4] = [25, 26, 153, 154]  # the study's cut points lie at 25.5, 76.5 and 153
    Image.fromarray(grey).save(path)
    summary = import_images(tmp_path / "png", tmp_path / "back")
    assert (summary.off_level_pixels, summary.off_level_samples) == (4, 1)
    labels = Dataset(tmp_path / "back").read([0])[1][0]
    assert labels[0, :4].tolist() == [0, 1, 2, 4]


def test_folder_names_are_read_without_regard_to_case(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    (tmp_path / "png" / "T1CE").rename(tmp_path / "png" / "t1ce")
    (tmp_path / "png" / "Seg").rename(tmp_path / "png" / "SEG")
    import_images(tmp_path / "png", tmp_path / "back")
    assert Dataset(tmp_path / "back").contrasts == CONTRASTS


def test_import_with_fewer_contrasts_and_without_labels(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    for name in ("T2", "Seg"):
        for path in (tmp_path / "png" / name).iterdir():
            path.unlink()
        (tmp_path / "png" / name).rmdir()
    with pytest.raises(DataError, match="no folder Seg"):
        import_images(tmp_path / "png", tmp_path / "back")
    import_images(tmp_path / "png", tmp_path / "back", channels=Channels(without_labels=True))
    back = Dataset(tmp_path / "back")
    assert back.contrasts == ("t1", "t1ce", "flair")
    assert not back.read(range(N))[1].any()


@pytest.mark.parametrize("damage", ["missing", "truncated", "size", "colour", "16 bit", "text"])
def test_a_bad_picture_is_named_and_leaves_no_dataset(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    path = tmp_path / "png" / "FLAIR" / "P0_001_FLAIR.png"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "size":
        Image.fromarray(np.zeros((16, 32), np.uint8)).save(path)
    elif damage == "colour":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    elif damage == "16 bit":
        Image.fromarray(np.full((32, 32), 4000, np.uint16)).save(path)
    else:
        path.write_text("no picture")
    with pytest.raises(DataError) as caught:
        import_images(tmp_path / "png", tmp_path / "back")
    assert "P0_001" in " ".join([str(caught.value), *caught.value.details])
    assert not (tmp_path / "back").exists()


def test_nifti_export_is_exact(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "nifti", format="nifti")
    images, labels = dataset.read([2])
    folder = tmp_path / "nifti" / "P0_002"
    for channel, contrast in enumerate(CONTRASTS):
        volume = nib.load(folder / f"P0_002_{contrast}.nii.gz")
        assert volume.header.get_zooms() == (1.0, 1.0, 1.0)
        assert np.array_equal(np.asarray(volume.dataobj)[:, :, 0].T, images[0, channel])
    assert np.array_equal(np.asarray(nib.load(folder / "P0_002_seg.nii.gz").dataobj)[:, :, 0].T, labels[0])


def test_nnunet_export_has_consecutive_labels_and_folds_by_subject(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "nnunet", format="nnunet")
    description = json.loads((tmp_path / "nnunet" / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
    assert description["channel_names"] == {"0": "t1", "1": "t1ce", "2": "t2", "3": "flair"}
    parts = {p.name: len(list(p.iterdir())) for p in (tmp_path / "nnunet").iterdir() if p.is_dir()}
    assert parts == {
        "imagesTr": 6 * 4,
        "labelsTr": 6,
        "imagesTs": 4,
        "labelsTs": 1,
    }  # the held-out slice is the test set
    assert description["numTraining"] == 6
    stored = np.asarray(nib.load(tmp_path / "nnunet" / "labelsTr" / "P0_000.nii.gz").dataobj)[:, :, 0].T
    expected = dataset.read([0])[1][0].copy()
    expected[expected == 4] = 3
    assert np.array_equal(stored, expected)
    subject = {row.id: row.subject for row in dataset.samples}
    folds = json.loads((tmp_path / "nnunet" / "splits_final.json").read_text())
    assert len(folds) == 2
    for fold in folds:
        assert {*fold["train"], *fold["val"]} == {row.id for row in dataset.samples if row.split == "train"}
        assert not {subject[i] for i in fold["train"]} & {subject[i] for i in fold["val"]}


def test_nnunet_folds_keep_the_scans_of_a_patient_together(tmp_path: Path) -> None:
    subjects = [f"BraTS-GLI-{patient:05d}-{scan}" for patient in range(3) for scan in (100, 101)]
    rows = [{"id": f"{name}_000", "split": "train", "subject": name, "slice": 0} for name in subjects]
    blank = np.zeros((6, 4, 32, 32), np.uint8)
    with DatasetWriter(tmp_path / "data", contrasts=CONTRASTS, scheme=BRATS, size=(32, 32)) as writer:
        writer.append(blank, blank[:, 0], rows)
    export_dataset(tmp_path / "data", tmp_path / "nnunet", format="nnunet")
    folds = json.loads((tmp_path / "nnunet" / "splits_final.json").read_text())
    assert len(folds) == 3
    for fold in folds:
        assert len(fold["val"]) == 2 and len({name[:15] for name in fold["val"]}) == 1
    assert not (tmp_path / "nnunet" / "imagesTs").exists()


def test_import_overwrite_replaces_a_dataset_only_once_the_pictures_are_good(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    import_images(tmp_path / "png", tmp_path / "back", kind="real")
    with pytest.raises(UsageError):
        import_images(tmp_path / "png", tmp_path / "back", kind="real")
    picture = tmp_path / "png" / "FLAIR" / "P0_001_FLAIR.png"
    content = picture.read_bytes()
    picture.unlink()
    with pytest.raises(DataError):
        import_images(tmp_path / "png", tmp_path / "back", overwrite=True)
    assert Dataset(tmp_path / "back").digest == dataset.digest
    picture.write_bytes(content)
    import_images(tmp_path / "png", tmp_path / "back", overwrite=True)
    assert Dataset(tmp_path / "back").kind == "synthetic"


def test_import_overwrite_leaves_what_is_not_ours(dataset: Dataset, tmp_path: Path) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    export_dataset(dataset.path, tmp_path / "nnunet", format="nnunet")  # has a dataset.json as well
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "dataset.json").write_text((dataset.path / "dataset.json").read_text())
    (tmp_path / "mixed" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("nnunet", "mixed", "file"):
        with pytest.raises(UsageError, match="is not a dataset"):
            import_images(tmp_path / "png", tmp_path / name, overwrite=True)
    assert (tmp_path / "nnunet" / "splits_final.json").is_file()
    assert (tmp_path / "mixed" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("split", ["test", "Holdout", "synthetic", "", None])
def test_import_of_real_pictures_guesses_no_split(dataset: Dataset, tmp_path: Path, split: str | None) -> None:
    export_dataset(dataset.path, tmp_path / "png", format="png")
    path = tmp_path / "png" / "samples.csv"
    lines = [
        line if not line.startswith("P2_006") else line.replace("holdout", split)
        for line in path.read_text().splitlines()
        if split is not None or not line.startswith("P2_006")
    ]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="1 of 7 pictures") as caught:
        import_images(tmp_path / "png", tmp_path / "back", kind="real")
    assert "P2_006" in " ".join(caught.value.details)
    assert not (tmp_path / "back").exists()


def test_export_refuses_a_full_folder_and_an_unknown_split(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        export_dataset(dataset.path, tmp_path / "full", format="png")
    with pytest.raises(UsageError, match="no samples of the split"):
        export_dataset(dataset.path, tmp_path / "out", format="png", split="synthetic")
    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_leaves_nothing(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synthkit.data.exporting._nifti_bytes", full)
    with pytest.raises(OSError, match="No space"):
        export_dataset(dataset.path, tmp_path / "out", format="nifti")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
