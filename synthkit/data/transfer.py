"""Datasets in and out: the study's PNG folders, NIfTI, and nnU-Net's raw format.

The PNG layout is that of Akbar et al. (Scientific Data 2024): a folder for each contrast and one for the labels, 8-bit
files ``<stem>_<contrast>.png``, labels as grey levels (see :mod:`synthkit.data.labels`).
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthkit.contract import Sample
from synthkit.data.dataset import SPLITS, Dataset, DatasetWriter, check_replaceable, remove_dataset
from synthkit.data.labels import BRATS_LABELS, from_grey, grey_levels, to_grey
from synthkit.data.naming import Finding, identify
from synthkit.data.shards import map_threads
from synthkit.data.splits import patient_of
from synthkit.data.subjects import CONTRASTS
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

OnProgress = Callable[[int, int], None]

FORMATS = ("png", "nifti", "nnunet")
#: Folder of each contrast and of the labels in the study's layout; read without regard to case.
PNG_FOLDERS = {"t1": "T1", "t1ce": "T1CE", "t2": "T2", "flair": "FLAIR"}
PNG_LABELS = "Seg"
_TABLE = "samples.csv"
_BATCH = 32
_N_FOLDS = 5
# Images by which imported channels are judged, from all over the dataset.
_N_JUDGED = 128


@dataclass
class ImportSummary:
    """What came in. Off-level pixels sit between the grey levels of two labels: blurred edges of generated labels.

    ``contrast_findings`` says which channels look like another contrast, or cannot be told from one.
    """

    n_samples: int
    contrasts: tuple[str, ...]
    size: tuple[int, int]
    off_level_pixels: int = 0
    off_level_samples: int = 0
    label_pixels: dict[str, int] = field(default_factory=dict)
    contrast_findings: list[Finding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def import_png(
    folder: Path,
    out: Path,
    *,
    kind: Literal["real", "synthetic"] = "synthetic",
    without_labels: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> ImportSummary:
    """Import a PNG folder as a dataset.

    All files are matched before anything is written. ``kind="real"`` takes subjects, slices and splits from the
    ``samples.csv`` that :func:`export_dataset` wrote beside the pictures; "synthetic" ignores them. ``overwrite``
    replaces a dataset at ``out``, and nothing else, once the files are matched. ``dry_run`` matches the files and
    writes nothing; label pixels are not counted then.

    Raises
    ------
    DataError : a missing folder or picture, a picture of another size or depth, or one that cannot be read; of real
        samples, a picture without a row in the table, or a row whose split is neither train nor holdout.
    UsageError : ``out`` holds something that may not be replaced.
    """
    if overwrite:
        check_replaceable(out)
    layout = _find_layout(folder, without_labels)
    stems = layout.stems
    table = _rows_for(folder, stems) if kind == "real" else {}
    first = _read_png(layout.path(layout.contrasts[0], stems[0]))
    size = (first.shape[0], first.shape[1])
    values = sorted(BRATS_LABELS.values())
    summary = ImportSummary(len(stems), layout.contrasts, size, label_pixels=dict.fromkeys(BRATS_LABELS, 0))
    if dry_run:
        return summary
    if overwrite and not resume:
        remove_dataset(out)

    def load(stem: str) -> tuple[UInt8Array, UInt8Array, int]:
        planes = [_read_png(layout.path(contrast, stem), size) for contrast in layout.contrasts]
        if layout.labels is None:
            return np.stack(planes), np.zeros(size, np.uint8), 0
        decoded, off = from_grey(_read_png(layout.path(PNG_LABELS, stem), size), values)
        return np.stack(planes), decoded, off

    writer = DatasetWriter(
        out,
        contrasts=layout.contrasts,
        labels=BRATS_LABELS,
        size=size,
        kind=kind,
        provenance={
            "imported_from": "png",
            "grey_levels": grey_levels(values).tolist(),
            "labels": layout.labels is not None,
        },
        resume=resume,
    )
    with writer:
        done = {row.id for row in writer.samples}
        todo = [stem for stem in stems if stem not in done]
        for start in range(0, len(todo), _BATCH):
            batch = todo[start : start + _BATCH]
            loaded = map_threads(load, batch)
            rows = [table[stem] if table else {"id": stem, "split": "synthetic"} for stem in batch]
            writer.append(np.stack([x[0] for x in loaded]), np.stack([x[1] for x in loaded]), rows)
            on_progress(writer.n_samples, len(stems))
            for _, decoded, off in loaded:
                summary.off_level_pixels += off
                summary.off_level_samples += off > 0
                counts = np.bincount(decoded.ravel(), minlength=256)
                for name, value in BRATS_LABELS.items():
                    summary.label_pixels[name] += int(counts[value])
    judged = np.linspace(0, len(stems) - 1, min(len(stems), _N_JUDGED)).round().astype(np.intp)
    summary.contrast_findings = identify(*Dataset(out).read(judged), layout.contrasts)
    return summary


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
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}.", fix=f"Choose one of {', '.join(FORMATS)}.")
    dataset = Dataset(path)
    indices = [i for i, row in enumerate(dataset.samples) if split in (None, row.split)]
    if not indices:
        splits = ", ".join(sorted({row.split for row in dataset.samples}))
        raise UsageError(f"{path} has no samples of the split {split!r}.", f"It has: {splits}.", "Choose one of them.")
    write = {"png": _write_png, "nifti": _write_nifti, "nnunet": _write_nnunet}[format]
    _refuse_full(out)
    if dry_run:
        return len(indices)
    with _whole_folder(out) as folder:
        prepare = _prepare_nnunet if format == "nnunet" else _prepare_png if format == "png" else None
        if prepare is not None:
            prepare(folder, dataset, [dataset.samples[i] for i in indices])
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            images, labels = dataset.read(batch)

            def one(k: int, batch: list[int] = batch, images: UInt8Array = images, labels: UInt8Array = labels) -> None:
                write(folder, dataset, dataset.samples[batch[k]], images[k], labels[k])

            map_threads(one, range(len(batch)))
            on_progress(start + len(batch), len(indices))
    return len(indices)


# ------------------------------------------------------------------------------------------------------- import


@dataclass(frozen=True)
class _Layout:
    """Files of a PNG folder, by contrast and stem."""

    contrasts: tuple[str, ...]
    labels: str | None
    stems: list[str]
    files: dict[str, dict[str, Path]]

    def path(self, channel: str, stem: str) -> Path:
        return self.files[channel][stem]


def _find_layout(folder: Path, without_labels: bool) -> _Layout:
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", fix="Check the path.")
    present = {child.name.lower(): child for child in folder.iterdir() if child.is_dir()}
    contrasts = tuple(name for name in CONTRASTS if name in present)
    expected = ", ".join([*PNG_FOLDERS.values(), PNG_LABELS])
    if not contrasts:
        raise DataError(
            f"{folder} has none of the folders {expected}.",
            f"It has: {', '.join(present) or 'no folders'}.",
            "Rename them so.",
        )
    has_labels = PNG_LABELS.lower() in present
    if not has_labels and not without_labels:
        raise DataError(
            f"{folder} has no folder {PNG_LABELS}.",
            "The label channel is missing.",
            "Add it, or give --without-labels to import images alone (all labels background).",
        )
    channels = [*contrasts, *([PNG_LABELS] if has_labels and not without_labels else [])]
    files = {channel: _by_stem(present[channel.lower()], channel) for channel in channels}
    stems = sorted(set().union(*files.values()))
    missing = [
        f"{stem}: no picture in {present[channel.lower()].name}"
        for stem in stems
        for channel in channels
        if stem not in files[channel]
    ]
    if missing:
        shown = [*missing[:20], *([f"... and {len(missing) - 20} more"] if len(missing) > 20 else [])]
        raise DataError(
            f"{len(missing)} pictures are missing in {folder}.",
            "Every sample needs one picture of each contrast and of the labels, <stem>_<contrast>.png.",
            "Add them or remove their counterparts.",
            shown,
        )
    if not stems:
        raise DataError(f"There are no PNG files in the folders of {folder}.", fix="Files are <stem>_<contrast>.png.")
    return _Layout(contrasts, PNG_LABELS if len(channels) > len(contrasts) else None, stems, files)


def _by_stem(folder: Path, channel: str) -> dict[str, Path]:
    found = {}
    for path in folder.iterdir():
        if path.suffix.lower() == ".png" and not path.name.startswith("."):
            stem = path.stem
            if stem.lower().endswith(f"_{channel.lower()}"):
                stem = stem[: -len(channel) - 1]
            found[stem] = path
    return found


def _read_png(path: Path, size: tuple[int, int] | None = None) -> UInt8Array:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            if picture.mode in ("RGB", "RGBA", "P", "LA"):
                planes = np.asarray(picture.convert("RGB"))
                if (planes != planes[..., :1]).any():
                    raise DataError(
                        f"{path} is a colour picture.", "A contrast has one grey value a pixel.", "Convert it."
                    )
                array = planes[..., 0]
            elif picture.mode == "L":
                array = np.asarray(picture)
            else:
                raise DataError(
                    f"{path} is not an 8-bit picture.", f"Its mode is {picture.mode}.", "Convert it to 8-bit grey."
                )
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read.", f"{error}.", "The file is damaged or no PNG; replace it.") from error
    if size is not None and array.shape != size:
        raise DataError(
            f"{path} has {array.shape[1]} x {array.shape[0]} pixels.",
            f"The first picture has {size[1]} x {size[0]}.",
            "All pictures of a dataset have one size.",
        )
    return np.ascontiguousarray(array)


def _rows_for(folder: Path, stems: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The row of every picture; a guessed split could put a held-out subject into training."""
    table = _read_rows(folder)
    wrong = [f"{stem}: no row" for stem in stems if stem not in table]
    wrong += [
        f"{stem}: split {table[stem]['split']!r}"
        for stem in stems
        if stem in table and table[stem]["split"] not in SPLITS["real"]
    ]
    if wrong:
        raise DataError(
            f"{folder / _TABLE} does not fit the pictures.",
            f"{len(wrong)} of {len(stems)} pictures have no row, or a split that is neither train nor holdout.",
            "Correct the table, or import with --as synthetic.",
            [*wrong[:20], *([f"... and {len(wrong) - 20} more"] if len(wrong) > 20 else [])],
        )
    return table


def _read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / _TABLE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["id"]: {
                    "id": row["id"],
                    "split": row["split"],
                    "subject": row["subject"] or None,
                    "slice": int(row["slice"]) if row["slice"] else None,
                }
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.",
            f"{error!r}. Real samples need their subject, slice and split.",
            "Import with --as synthetic, or add the table (id, split, subject, slice) that `synthkit export` writes.",
        ) from error


# ------------------------------------------------------------------------------------------------------- export


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"The output folder {out} is not empty.", "Nothing is overwritten unasked.", "Choose another one."
        )


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
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


def _prepare_png(folder: Path, dataset: Dataset, samples: Sequence[Sample]) -> None:
    for contrast in dataset.contrasts:
        (folder / PNG_FOLDERS.get(contrast, contrast)).mkdir()
    (folder / PNG_LABELS).mkdir()
    with (folder / _TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "split", "subject", "slice", "seed"))
        writer.writerows((row.id, row.split, row.subject, row.slice, row.seed) for row in samples)


def _write_png(folder: Path, dataset: Dataset, row: Sample, image: UInt8Array, labels: UInt8Array) -> None:
    from PIL import Image

    for contrast, plane in zip(dataset.contrasts, image, strict=True):
        name = PNG_FOLDERS.get(contrast, contrast)
        Image.fromarray(plane).save(folder / name / f"{row.id}_{name}.png", compress_level=1)
    grey = to_grey(labels, dataset.label_values)
    Image.fromarray(grey).save(folder / PNG_LABELS / f"{row.id}_{PNG_LABELS}.png", compress_level=1)


def _write_nifti(folder: Path, dataset: Dataset, row: Sample, image: UInt8Array, labels: UInt8Array) -> None:
    (folder / row.id).mkdir()
    for contrast, plane in zip(dataset.contrasts, image, strict=True):
        (folder / row.id / f"{row.id}_{contrast}.nii.gz").write_bytes(_nifti_bytes(plane))
    (folder / row.id / f"{row.id}_seg.nii.gz").write_bytes(_nifti_bytes(labels))


def _prepare_nnunet(folder: Path, dataset: Dataset, samples: Sequence[Sample]) -> None:
    training = [row for row in samples if row.split != "holdout"]
    for part in ("Tr", "Ts") if len(training) < len(samples) else ("Tr",):
        (folder / f"images{part}").mkdir()
        (folder / f"labels{part}").mkdir()
    description = {
        "channel_names": {str(i): name for i, name in enumerate(dataset.contrasts)},
        # nnU-Net wants consecutive values, so ET becomes 3.
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
    return row.id if row.subject is None else patient_of(row.subject)


def _write_nnunet(folder: Path, dataset: Dataset, row: Sample, image: UInt8Array, labels: UInt8Array) -> None:
    part = "Ts" if row.split == "holdout" else "Tr"
    for i, plane in enumerate(image):
        (folder / f"images{part}" / f"{row.id}_{i:04d}.nii.gz").write_bytes(_nifti_bytes(plane))
    consecutive = np.searchsorted(np.asarray(dataset.label_values), labels).astype(np.uint8)
    (folder / f"labels{part}" / f"{row.id}.nii.gz").write_bytes(_nifti_bytes(consecutive))


def _nifti_bytes(plane: UInt8Array) -> bytes:
    """One slice (y, x) as a NIfTI volume (x, y, 1), 1 mm, in the orientation that BraTS stores."""
    import nibabel

    image = nibabel.Nifti1Image(plane.T[:, :, None], np.diag([-1.0, -1.0, 1.0, 1.0]))  # type: ignore[no-untyped-call]
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
