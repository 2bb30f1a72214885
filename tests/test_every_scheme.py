"""Labels of every kind go through all commands: a cavity, a cyst, and another anatomy of one contrast.

Subjects are made here; the methods are the real ones, trained for a moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from synthkit import api
from synthkit.data.dataset import Dataset
from synthkit.data.exporting import export_dataset
from synthkit.data.named_schemes import scheme_named

for needed in ("torch", "monai", "synthkit_progan", "synthkit_unet", "synthkit_memorization", "synthkit_overlap"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

SIDE, N_SLICES, N_SUBJECTS = 208, 5, 6

HEART = """
name = "heart"
[labels]
myocardium = { value = 7, meaning = "heart muscle" }
blood = 3
[regions]
heart = ["myocardium", "blood"]
[contrasts]
cine = ["cine"]
"""


@dataclass(frozen=True)
class Kind:
    """Subjects of one scheme: how they are called, and the radius in pixels of each label around its lesion."""

    scheme: str
    subject: str
    files: Mapping[str, str]
    radii: Mapping[str, float]
    means: str


NEW_NAMES = {"t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "flair": "-t2f", "seg": "-seg"}
KINDS = (
    Kind(
        "gli2024",
        "BraTS-GLI-0206{i}-100",
        NEW_NAMES,
        {"ED": 40, "ET": 28, "NCR": 20, "RC": 12},
        "resection cavity",
    ),
    Kind("ped", "BraTS-PED-0006{i}-000", NEW_NAMES, {"ED": 40, "NET": 28, "ET": 20, "CC": 12}, "cystic component"),
    Kind(
        "heart.toml", "volunteer{i}", {"cine": "_cine", "seg": "_seg"}, {"myocardium": 40, "blood": 25}, "heart muscle"
    ),
)

#: How bright each label is, in each contrast; other tissue is about 300.
_BRIGHT = {
    ("ED", "flair"): 600,
    ("ED", "t2"): 500,
    ("ET", "t1ce"): 700,
    ("NCR", "t1ce"): 150,
    ("RC", "t2"): 700,
    ("RC", "flair"): 60,
    ("RC", "t1"): 60,
    ("RC", "t1ce"): 60,
    ("CC", "t2"): 700,
    ("blood", "cine"): 800,
}


def volumes(kind: Kind, values: Mapping[str, int], seed: int) -> dict[str, NDArray[np.generic]]:
    """Contrasts int16 and labels uint8 (x, y, z) of one subject: an ellipse of soft noise with discs in it."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    inside = (x / (70 + rng.uniform(0, 15))) ** 2 + (y / (80 + rng.uniform(0, 15))) ** 2 < 1
    labels = np.zeros((SIDE, SIDE, N_SLICES), np.uint8)
    centre = rng.uniform(-20, 20, 2)
    distance = np.hypot(x - centre[0], y - centre[1])
    for name, radius in kind.radii.items():
        labels[distance < radius * rng.uniform(0.9, 1.1)] = values[name]
    soft = np.kron(rng.normal(0, 40, (26, 26, N_SLICES)), np.ones((8, 8, 1)))
    found: dict[str, NDArray[np.generic]] = {"seg": labels}
    for contrast in (name for name in kind.files if name != "seg"):
        volume = (300 + soft) * inside[:, :, None]
        for name in kind.radii:
            volume[labels == values[name]] = _BRIGHT.get((name, contrast), 320)
        noise = rng.normal(0, 8, volume.shape) * inside[:, :, None]
        found[contrast] = np.clip(volume + noise, 0, None).astype(np.int16)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.scheme)
def test_labels_go_through_every_command(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthkit_progan import CONFORMANCE_PARAMS as PROGAN
    from synthkit_unet import CONFORMANCE_PARAMS as UNET

    monkeypatch.setenv("SYNTHKIT_BACKEND", "inline")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "heart.toml").write_text(HEART)
    given = str(tmp_path / kind.scheme) if kind.scheme.endswith(".toml") else kind.scheme
    scheme = scheme_named(given)
    subjects = tmp_path / "subjects"
    voxels = dict.fromkeys(kind.radii, 0)
    for i in range(N_SUBJECTS):
        name = kind.subject.format(i=i)
        (subjects / name).mkdir(parents=True)
        for content, data in volumes(kind, scheme.label_values, seed=i).items():
            image = nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0]))
            nib.save(image, subjects / name / f"{name}{kind.files[content]}.nii.gz")
            if content == "seg":
                voxels = {label: n + int((data == scheme.label_values[label]).sum()) for label, n in voxels.items()}

    # prepare: what the ids say, or what is given, is in the dataset; every voxel keeps its label
    asked = {"labels": given} if kind.scheme.endswith(".toml") else {}
    real = tmp_path / "real"
    summary = api.prepare(subjects, real, holdout="2", size=32, **asked)
    data = Dataset(real)
    assert data.scheme == scheme and data.labels == scheme.label_values and data.contrasts == scheme.contrast_names
    counted = dict.fromkeys(kind.radii, 0)
    for row in summary.subjects:
        counted = {label: n + row.label_voxels[label] for label, n in counted.items()}
    assert counted == voxels
    assert set(np.unique(data.read(range(len(data)))[1])) == set(scheme.values)

    # train and generate: samples have the labels and no others
    model, synthetic = tmp_path / "model", tmp_path / "synthetic"
    api.train("progan", [real], model, params=PROGAN)
    api.generate(model, "0-15", synthetic)
    made = Dataset(synthetic)
    assert made.scheme == scheme and made.contrasts == data.contrasts
    assert set(np.unique(made.read(range(len(made)))[1])) <= set(scheme.values)

    # segment: values of the scheme, which the predictions say
    segmenter, predicted = tmp_path / "segmenter", tmp_path / "predicted"
    api.train("unet", [real], segmenter, params=UNET)
    api.segment(segmenter, subjects, predicted)
    folder = predicted / "outputs" / "predictions"
    files = sorted(folder.glob("*.nii.gz"))
    assert len(files) == 2
    assert set(np.unique(nib.load(files[0]).dataobj)) <= set(scheme.values)  # type: ignore[attr-defined]
    assert json.loads((folder / "predictions.json").read_text())["scheme"] == json.loads(json.dumps(scheme.to_dict()))

    # evaluate: every region by its name; the truth itself is perfect
    regions = set(scheme.region_values)
    labelled = {"labels": given} if kind.scheme.endswith(".toml") else {}
    (scored,) = api.evaluate(["dice"], tmp_path / "scored", reference=subjects, prediction=predicted, **labelled)
    assert {score["of"].get("region") for score in scored.result["scores"]} - {None, "mean"} == regions
    both = {**labelled, **({"prediction_labels": given} if labelled else {})}
    (perfect,) = api.evaluate(["dice"], tmp_path / "perfect", reference=subjects, prediction=subjects, **both)
    means = {s["of"]["region"]: s["value"] for s in perfect.result["scores"] if s["name"] == "dice_mean"}
    assert means == dict.fromkeys([*regions, "mean"], 1.0)

    # audit, report, export
    audit = api.audit_memorization(real, synthetic, tmp_path / "audit", params={"plants": 0})
    assert audit.result["verdict"]["outcome"]
    page = tmp_path / "report.html"
    api.report([scored.run.path, audit.run.path, tmp_path / "synthetic"], page)
    text = page.read_text()
    assert kind.means in text and all(region in text for region in regions)
    export_dataset(real, tmp_path / "nnunet", format="nnunet")
    described = json.loads(next((tmp_path / "nnunet").rglob("dataset.json")).read_text())
    assert set(described["labels"]) >= {"background", *kind.radii}
