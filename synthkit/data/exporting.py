"""Datasets in the formats of others: the study's PNG folders, NIfTI, nnU-Net's raw format; the last lines name them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthkit.contract import Sample
from synthkit.data import png_folders
from synthkit.data.dataset import Dataset
from synthkit.data.geometry import Geometry
from synthkit.data.labels import grey_levels, to_grey
from synthkit.data.orientation import LPS, directions
from synthkit.data.patients import patient_behind
from synthkit.data.picture_schemes import write_scheme
from synthkit.data.shards import map_threads
from synthkit.data.slices import GRID
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

OnProgress = Callable[[int, int], None]

_BATCH = 32
_N_FOLDS = 5


@dataclass(frozen=True)
class _Format:
    """How one format is written: ``begin`` makes folders and tables for all samples, ``write`` adds one sample."""

    begin: Callable[[Path, Dataset, Sequence[Sample]], None]
    write: Callable[[Path, Dataset, Sample, UInt8Array, UInt8Array], None]


def export_dataset(
    path: Path,
    out: Path,
    *,
    format: str,
    split: str | None = None,
    dry_run: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> int:
    """Write a dataset in another format; returns the number of samples. ``out`` appears whole or not at all.

    Parameters
    ----------
    format : "png" (the study's folders and a ``samples.csv``), "nifti" (a BraTS-style folder a sample, one slice
        each) or "nnunet" (nnU-Net v2 raw: consecutive labels, the holdout as its test set, and folds by patient).
    split : "train", "holdout" or "synthetic"; all if None.
    dry_run : check everything, write nothing.
    """
    chosen = _FORMATS.get(format)
    if chosen is None:
        raise UsageError(f"There is no format {format!r}.", fix=f"Choose one of {', '.join(FORMATS)}.")
    dataset = Dataset(path)
    indices = [i for i, row in enumerate(dataset.samples) if split in (None, row.split)]
    if not indices:
        splits = ", ".join(sorted({row.split for row in dataset.samples}))
        raise UsageError(f"{path} has no samples of the split {split!r}.", f"It has: {splits}.", "Choose one of them.")
    _refuse_full(out)
    if dry_run:
        return len(indices)
    with whole_folder(out) as folder:
        chosen.begin(folder, dataset, [dataset.samples[i] for i in indices])
        _write_table(folder, [dataset.samples[i] for i in indices])
        write_scheme(folder, dataset.scheme, dataset.contrasts)
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            images, labels = dataset.read(batch)

            def one(k: int, batch: list[int] = batch, images: UInt8Array = images, labels: UInt8Array = labels) -> None:
                chosen.write(folder, dataset, dataset.samples[batch[k]], images[k], labels[k])

            map_threads(one, range(len(batch)))
            on_progress(start + len(batch), len(indices))
    return len(indices)


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"The output folder {out} is not empty.", "Nothing is overwritten unasked.", "Choose another one."
        )


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary neighbour of ``out`` that takes its name at the end, so that no half of an export is ever seen."""
    _refuse_full(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_table(folder: Path, samples: Sequence[Sample]) -> None:
    """What an import as real images needs to know of each sample."""
    with (folder / png_folders.TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "split", "subject", "slice", "seed", "patient"))
        writer.writerows((row.id, row.split, row.subject, row.slice, row.seed, row.patient) for row in samples)


def _begin_png(folder: Path, dataset: Dataset, samples: Sequence[Sample]) -> None:
    levels = grey_levels(dataset.label_values)
    if len(set(levels.tolist())) < len(levels):
        raise DataError(
            "The labels of this dataset cannot be told apart as grey levels.",
            f"Their values are {', '.join(map(str, dataset.label_values))}.",
            "Export as nifti or nnunet.",
        )
    for contrast in dataset.contrasts:
        (folder / png_folders.folder_of(contrast)).mkdir()
    (folder / png_folders.LABELS).mkdir()


def _write_png(folder: Path, dataset: Dataset, row: Sample, image: UInt8Array, labels: UInt8Array) -> None:
    from PIL import Image

    for contrast, plane in zip(dataset.contrasts, image, strict=True):
        name = png_folders.folder_of(contrast)
        Image.fromarray(plane).save(folder / name / f"{row.id}_{name}.png", compress_level=1)
    grey = to_grey(labels, dataset.label_values)
    Image.fromarray(grey).save(folder / png_folders.LABELS / f"{row.id}_{png_folders.LABELS}.png", compress_level=1)


def _begin_nifti(folder: Path, dataset: Dataset, samples: Sequence[Sample]) -> None:
    """Nothing: every sample has a folder of its own."""


def _write_nifti(folder: Path, dataset: Dataset, row: Sample, image: UInt8Array, labels: UInt8Array) -> None:
    (folder / row.id).mkdir()
    for contrast, plane in zip(dataset.contrasts, image, strict=True):
        (folder / row.id / f"{row.id}_{contrast}.nii.gz").write_bytes(_nifti_bytes(plane, dataset))
    (folder / row.id / f"{row.id}_seg.nii.gz").write_bytes(_nifti_bytes(labels, dataset))


def _begin_nnunet(folder: Path, dataset: Dataset, samples: Sequence[Sample]) -> None:
    training = [row for row in samples if row.split != "holdout"]
    for part in ("Tr", "Ts") if len(training) < len(samples) else ("Tr",):
        (folder / f"images{part}").mkdir()
        (folder / f"labels{part}").mkdir()
    description = {
        "channel_names": {str(i): name for i, name in enumerate(dataset.contrasts)},
        # nnU-Net wants consecutive values, so ET of BraTS 2018 becomes 3.
        "labels": {name: i for i, name in enumerate(sorted(dataset.labels, key=lambda n: dataset.labels[n]))},
        "numTraining": len(training),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    # nnU-Net's own folds would put slices of one patient on both sides.
    groups = sorted({_group(row) for row in training})
    folds = []
    for k in range(min(_N_FOLDS, len(groups))):
        validation = set(groups[k :: min(_N_FOLDS, len(groups))])
        folds.append(
            {
                "train": [row.id for row in training if _group(row) not in validation],
                "val": [row.id for row in training if _group(row) in validation],
            }
        )
    (folder / "splits_final.json").write_text(json.dumps(folds, indent=1) + "\n", encoding="utf-8")


def _group(row: Sample) -> str:
    """What a fold keeps together: a patient; a synthetic sample stands for itself."""
    return patient_behind(row) or row.id


def _write_nnunet(folder: Path, dataset: Dataset, row: Sample, image: UInt8Array, labels: UInt8Array) -> None:
    part = "Ts" if row.split == "holdout" else "Tr"
    for i, plane in enumerate(image):
        (folder / f"images{part}" / f"{row.id}_{i:04d}.nii.gz").write_bytes(_nifti_bytes(plane, dataset))
    consecutive = np.searchsorted(np.asarray(dataset.label_values), labels).astype(np.uint8)
    (folder / f"labels{part}" / f"{row.id}.nii.gz").write_bytes(_nifti_bytes(consecutive, dataset))


def _nifti_bytes(plane: UInt8Array, dataset: Dataset) -> bytes:
    """One slice (y, x) as a NIfTI volume (x, y, 1), in the orientation and voxel size that the dataset records."""
    import nibabel

    image = nibabel.Nifti1Image(plane.T[:, :, None], _affine(dataset))  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _affine(dataset: Dataset) -> NDArray[np.float64] | None:
    """Affine (4, 4) of a slice (x, y, 1) in mm; None, for a header that names no place, where axes are not known.

    Datasets from before orientation was recorded are taken to be as BraTS stores them, 1 mm.
    """
    protocol = dataset.description.get("protocol") or {}
    geometry = Geometry.of(protocol)
    if "geometry" in protocol and geometry.axes is None:
        return None
    spacing = np.ones(3)
    if geometry.spacing_mm:
        spacing[:] = geometry.spacing_mm
        spacing[:2] *= GRID / dataset.size[0]
    affine = np.eye(4)
    affine[:3, :3] = directions(geometry.axes or LPS) * spacing
    return affine


_FORMATS = {
    "png": _Format(_begin_png, _write_png),
    "nifti": _Format(_begin_nifti, _write_nifti),
    "nnunet": _Format(_begin_nnunet, _write_nnunet),
}
#: Names of the formats that :func:`export_dataset` knows.
FORMATS = tuple(_FORMATS)
