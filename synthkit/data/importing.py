"""Datasets from pictures that others made: the study's PNG folders, see :mod:`synthkit.data.png_folders`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthkit.data import png_folders
from synthkit.data.conventions import BRATS
from synthkit.data.dataset import Dataset
from synthkit.data.format import SPLITS
from synthkit.data.labels import from_grey, grey_levels
from synthkit.data.naming import NameFinding, identify
from synthkit.data.shards import map_threads
from synthkit.data.splits import check_sides
from synthkit.data.writer import DatasetWriter, check_replaceable, remove_dataset
from synthkit.errors import DataError

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

OnProgress = Callable[[int, int], None]

_BATCH = 32
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
    contrast_findings: list[NameFinding] = field(default_factory=list)

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
    values = sorted(BRATS.label_values.values())
    summary = ImportSummary(len(stems), layout.contrasts, size, label_pixels=dict.fromkeys(BRATS.label_values, 0))
    if dry_run:
        return summary
    if overwrite and not resume:
        remove_dataset(out)

    def load(stem: str) -> tuple[UInt8Array, UInt8Array, int]:
        planes = [_read_png(layout.path(contrast, stem), size) for contrast in layout.contrasts]
        if layout.labels is None:
            return np.stack(planes), np.zeros(size, np.uint8), 0
        decoded, off = from_grey(_read_png(layout.path(png_folders.LABELS, stem), size), values)
        return np.stack(planes), decoded, off

    writer = DatasetWriter(
        out,
        contrasts=layout.contrasts,
        labels=BRATS.label_values,
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
                for name, value in BRATS.label_values.items():
                    summary.label_pixels[name] += int(counts[value])
    judged = np.linspace(0, len(stems) - 1, min(len(stems), _N_JUDGED)).round().astype(np.intp)
    summary.contrast_findings = identify(*Dataset(out).read(judged), layout.contrasts)
    return summary


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
    contrasts = tuple(name for name in BRATS.contrast_names if name in present)
    expected = ", ".join([*png_folders.FOLDERS.values(), png_folders.LABELS])
    if not contrasts:
        raise DataError(
            f"{folder} has none of the folders {expected}.",
            f"It has: {', '.join(present) or 'no folders'}.",
            "Rename them so.",
        )
    has_labels = png_folders.LABELS.lower() in present
    if not has_labels and not without_labels:
        raise DataError(
            f"{folder} has no folder {png_folders.LABELS}.",
            "The label channel is missing.",
            "Add it, or give --without-labels to import images alone (all labels background).",
        )
    channels = [*contrasts, *([png_folders.LABELS] if has_labels and not without_labels else [])]
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
    return _Layout(contrasts, png_folders.LABELS if len(channels) > len(contrasts) else None, stems, files)


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
            f"{folder / png_folders.TABLE} does not fit the pictures.",
            f"{len(wrong)} of {len(stems)} pictures have no row, or a split that is neither train nor holdout.",
            "Correct the table, or import with --as synthetic.",
            [*wrong[:20], *([f"... and {len(wrong) - 20} more"] if len(wrong) > 20 else [])],
        )
    check_sides(table[stem] for stem in stems)
    return table


def _read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / png_folders.TABLE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                row["id"]: {
                    "id": row["id"],
                    "split": row["split"],
                    "subject": row["subject"] or None,
                    "slice": int(row["slice"]) if row["slice"] else None,
                    "patient": row.get("patient") or None,
                }
                for row in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read.",
            f"{error!r}. Real samples need their subject, slice and split.",
            "Import with --as synthetic, or add the table (id, split, subject, slice) that `synthkit export` writes.",
        ) from error
