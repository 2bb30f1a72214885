"""Inputs that users bring, by the commands: what is read, what is refused by name, and whether the advice helps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthkit.data.dataset import Dataset

MakeSubject = Callable[..., Path]
SMALL = ("--size", "32", "--brain-fraction", "0.001")
KINDS = ("t1", "t1ce", "t2", "flair", "seg")


def synthkit(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "SYNTHKIT_BACKEND": "inline"},
        timeout=120,
    )
    assert done.returncode == code, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def voxels(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {row["subject"]: row["label_voxels"] for row in document["subjects"]}


def prepared(folder: Path, *more: object, code: int = 0) -> dict[str, Any]:
    out = folder.parent / "data"
    shutil.rmtree(out, ignore_errors=True)
    document = synthkit("prepare", folder, "-o", out, "--holdout", "0", *SMALL, *more, code=code)
    assert out.exists() == (code == 0), "nothing is left behind on refusal"
    return document


def said(document: dict[str, Any]) -> str:
    error = document["error"]
    return " ".join([error["what"], error["why"], error["fix"], *error["details"]])


def renamed(source: Path, target: Path, names: dict[str, str]) -> None:
    """Files of a made subject by other names: ``{kind}`` -> path below the target."""
    for kind, name in names.items():
        path = target / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / f"{source.name}_{kind}.nii.gz", path)


TRUE = {"NCR": 16, "ED": 24, "ET": 8}


@pytest.mark.parametrize("four_d", [True, False])
def test_decathlon_and_nnunet(tmp_path: Path, make_subject: MakeSubject, four_d: bool) -> None:
    made = make_subject(tmp_path, "made")
    images = [nib.load(made / f"made_{kind}.nii.gz") for kind in ("flair", "t1", "t1ce", "t2")]
    seg = nib.load(made / "made_seg.nii.gz")
    theirs = np.zeros(256, np.uint8)
    theirs[[2, 1, 4]] = 1, 2, 3
    root = tmp_path / "raw"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in ("BRATS_001", "BRATS_002"):
        if four_d:
            volume = np.stack([np.asarray(image.dataobj) for image in images], -1)
            nib.save(nib.Nifti1Image(volume, seg.affine), root / "imagesTr" / f"{case}.nii.gz")
        for k, image in enumerate(images if not four_d else ()):
            nib.save(image, root / "imagesTr" / f"{case}_{k:04d}.nii.gz")
        labels = theirs[np.asarray(seg.dataobj)]
        nib.save(nib.Nifti1Image(labels, seg.affine), root / "labelsTr" / f"{case}.nii.gz")
    refused = prepared(root, code=3)
    assert "dataset.json" in said(refused)
    description = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    (root / "dataset.json").write_text(json.dumps(description))
    assert voxels(prepared(root)) == {"BRATS_001": TRUE, "BRATS_002": TRUE}
    plain = tmp_path / "plain"
    make_subject(plain, "BRATS_001")
    make_subject(plain, "BRATS_002")
    theirs_read = Dataset(tmp_path / "data").read([0, 1])
    assert voxels(prepared(plain)) == {"BRATS_001": TRUE, "BRATS_002": TRUE}
    ours_read = Dataset(tmp_path / "data").read([0, 1])
    for one, other in zip(theirs_read, ours_read, strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_of_tcia_and_of_nobody(tmp_path: Path, make_subject: MakeSubject) -> None:
    made = make_subject(tmp_path, "made")
    for s in ("UPENN-GBM-00001_11", "UPENN-GBM-00002_11"):
        names = {"t1": "T1", "t1ce": "T1GD", "t2": "T2", "flair": "FLAIR"}
        places = {kind: f"images_structural/{s}/{s}_{name}" for kind, name in names.items()}
        renamed(made, tmp_path / "upenn", {**places, "seg": f"images_segm/{s}_segm"})
        own = {kind: f"{s}/{s}_{kind[::-1]}X" for kind in KINDS}
        renamed(made, tmp_path / "own", own)
    everybody = dict.fromkeys(("UPENN-GBM-00001_11", "UPENN-GBM-00002_11"), TRUE)
    assert voxels(prepared(tmp_path / "upenn")) == everybody
    refused = said(prepared(tmp_path / "own", code=3))
    assert "_1tX.nii.gz" in refused and "--names" in refused
    names_given = [word for kind in KINDS for word in ("--names", f"{kind}=_{kind[::-1]}X")]
    assert voxels(prepared(tmp_path / "own", *names_given)) == everybody
    prepared(tmp_path / "own", "--names", "t1=_nothing", code=2)


def test_links_to_nothing_never_vanish(tmp_path: Path, make_subject: MakeSubject) -> None:
    root = tmp_path / "subjects"
    for name in ("TCGA-1", "sub-dead", "sub-segdead"):
        make_subject(root, name)
    for path in (*(root / "sub-dead").iterdir(), root / "sub-segdead" / "sub-segdead_seg.nii.gz"):
        path.unlink()
        path.symlink_to("../.git/annex/objects/aa/bb/MD5E-1/MD5E-1.nii.gz")
    details = prepared(root, code=3)["error"]["details"]
    assert [line.partition(":")[0] for line in details] == ["sub-dead", "sub-segdead"]
    assert all("git-annex" in line and "datalad get" in line for line in details)
    assert [bad["subject"] for bad in prepared(root, "--skip-bad")["bad_subjects"]] == ["sub-dead", "sub-segdead"]


@pytest.mark.parametrize("deep", [True, False])
def test_flat_and_deep_folders(tmp_path: Path, make_subject: MakeSubject, deep: bool) -> None:
    for number in range(1, 13):
        folder = make_subject(tmp_path / "subjects" / "archive" / "BraTS2020" / "Training", f"BraTS20_{number:03d}")
        if not deep:
            for path in folder.iterdir():
                path.rename(tmp_path / "subjects" / path.name)
    if not deep:
        shutil.rmtree(tmp_path / "subjects" / "archive")
    assert voxels(prepared(tmp_path / "subjects")) == {f"BraTS20_{n:03d}": TRUE for n in range(1, 13)}


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_labels_saved_by_get_fdata(tmp_path: Path, make_subject: MakeSubject, dtype: str) -> None:
    folder = make_subject(tmp_path / "subjects", "A")
    seg = nib.load(folder / "A_seg.nii.gz")
    image = nib.Nifti1Image(seg.get_fdata(), seg.affine)
    image.set_data_dtype(np.dtype(dtype))
    nib.save(image, folder / "A_seg.nii.gz")
    document = prepared(tmp_path / "subjects")
    assert voxels(document) == {"A": TRUE}
    stored = np.asarray(nib.load(folder / "A_seg.nii.gz").dataobj)
    n_off = int(np.count_nonzero(stored != np.rint(stored)))
    notes = " ".join(document["subjects"][0]["notes"])
    assert (f"{n_off} voxels are not quite whole numbers" in notes) == bool(n_off)


@pytest.mark.parametrize("own", [np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]), None])
def test_a_prediction_without_its_affine(tmp_path: Path, make_subject: MakeSubject, own: np.ndarray | None) -> None:
    pytest.importorskip("synthkit_overlap")
    affine = np.diag([-1.0, -1.0, 1.5, 1.0])
    affine[:2, 3] = 23, 19
    (tmp_path / "pred").mkdir()
    for name in ("A", "B"):
        folder = make_subject(tmp_path / "ref", name, affines=dict.fromkeys(KINDS, affine))
        labels = np.asarray(nib.load(folder / f"{name}_seg.nii.gz").dataobj)
        nib.save(nib.Nifti1Image(labels, own), tmp_path / "pred" / f"{name}.nii.gz")
    command = ("evaluate", "dice", "hausdorff", "--reference", tmp_path / "ref", "--prediction", tmp_path / "pred")
    refused = synthkit(*command, "-o", tmp_path / "refused", code=3)
    error = refused["result"]["error"] if "result" in refused else refused["error"]
    assert "The prediction's says nothing" in error["why"] and "--prediction-grid reference" in error["fix"]
    scores = synthkit(*command, "-o", tmp_path / "run", "--prediction-grid", "reference")["result"]["scores"]
    dice = [score["value"] for score in scores if score["name"].lower() == "dice" and score["value"] is not None]
    assert dice and set(dice) == {1.0}
    synthkit(*command, "-o", tmp_path / "other", "--prediction-grid", "mine", code=2)
    nib.save(nib.Nifti1Image(labels[:, :, :3], np.eye(4)), tmp_path / "pred" / "B.nii.gz")
    synthkit(*command, "-o", tmp_path / "shape", "--prediction-grid", "reference", code=3)


def test_evaluate_takes_names_for_its_reference(tmp_path: Path, make_subject: MakeSubject) -> None:
    pytest.importorskip("synthkit_overlap")
    folder = make_subject(tmp_path / "ref", "A")
    (tmp_path / "pred").mkdir()
    (folder / "A_seg.nii.gz").rename(folder / "A_truth.nii.gz")
    shutil.copy(folder / "A_truth.nii.gz", tmp_path / "pred" / "A.nii.gz")
    command = ("evaluate", "dice", "--reference", tmp_path / "ref", "--prediction", tmp_path / "pred")
    synthkit(*command, "-o", tmp_path / "refused", code=3)
    scores = synthkit(*command, "-o", tmp_path / "run", "--names", "seg=_truth")["result"]["scores"]
    assert {score["value"] for score in scores if score["value"] is not None and score["name"] == "dice"} <= {1.0}


def test_a_prediction_on_another_grid_is_resampled_as_advised(tmp_path: Path, make_subject: MakeSubject) -> None:
    pytest.importorskip("synthkit_overlap")
    processing = pytest.importorskip("nibabel.processing")
    pytest.importorskip("scipy")
    folder = make_subject(tmp_path / "ref", "A")
    reference = nib.load(folder / "A_seg.nii.gz")
    moved = np.roll(np.asarray(reference.dataobj), 2, axis=0)  # two voxels further, and an affine that knows it
    affine = reference.affine.copy()
    affine[0, 3] += 2
    (tmp_path / "pred").mkdir()
    path = tmp_path / "pred" / "A.nii.gz"
    nib.save(nib.Nifti1Image(moved, affine), path)
    command = ("evaluate", "dice", "--reference", tmp_path / "ref", "--prediction", tmp_path / "pred")
    refused = synthkit(*command, "-o", tmp_path / "refused", code=3)
    error = refused["result"]["error"] if "result" in refused else refused["error"]
    assert error["fix"].startswith("Resample the prediction to the grid of the reference")
    resampled = processing.resample_from_to(nib.Nifti1Image(moved, affine), reference, order=0)
    nib.save(nib.Nifti1Image(np.asarray(resampled.dataobj).astype(np.uint8), reference.affine), path)
    scores = synthkit(*command, "-o", tmp_path / "run")["result"]["scores"]
    assert {s["value"] for s in scores if s["name"].lower() == "dice" and s["value"] is not None} == {1.0}
