"""Label volumes in a folder, segmentations of subjects or predictions side by side; whether two are on one grid."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthkit import events
from synthkit.data.file_names import SEG, base_name, named_file
from synthkit.data.label_reading import load_labels
from synthkit.data.label_tables import table_of_labels
from synthkit.data.nifti import read_grid
from synthkit.data.raw_layouts import DESCRIPTION, description_of, label_values_named, refuse_part
from synthkit.data.subjects import bad_subjects_error, scan_subjects
from synthkit.data.volume_checks import AFFINE_TOLERANCE_MM, grid_distance_mm, is_default_affine
from synthkit.errors import DataError
from synthkit.schemes import BRATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


class LabelFolder:
    """Label volumes in a folder; satisfies :class:`synthkit.contract.Volumes`.

    The folder holds subjects in any layout that ``prepare`` reads (their segmentations are used, the contrasts need not
    be there), or predictions side by side, ``<subject>.nii.gz`` or ``<subject>_seg.nii.gz``. Where nnU-Net left its
    ``dataset.json`` beside predictions, their values are what it names them.

    Parameters
    ----------
    folder : the folder.
    subjects : only these; what is wrong with others does not matter then.
    usable_only : leave out subjects without one usable label volume instead of refusing the folder.
    names : what files are by their endings, as for :func:`synthkit.data.subjects.survey_folder`.

    Raises
    ------
    DataError : no such folder, nothing in it, two files for one subject, or no labels for a subject asked for.
    """

    def __init__(
        self,
        folder: Path | str,
        subjects: Sequence[str] | None = None,
        *,
        usable_only: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder)
        self.scheme = BRATS
        self._label_values: dict[str, dict[int, int]] = {}
        self._rounding_said = False
        found = [] if names else self._predictions()
        if not found:
            good, bad = scan_subjects(self.folder, contrasts=(), need_labels=True, names=names)
            if not usable_only and (bad := [b for b in bad if subjects is None or b.id in subjects]):
                raise bad_subjects_error(bad, len(good) + len(bad))
            found = [(subject.id, subject.seg) for subject in good if subject.seg]
            self._label_values = {s.id: s.label_values for s in good if s.label_values is not None}
        self._files: dict[str, Path] = {}
        for name, path in found:
            if subjects is not None and name not in subjects:
                continue
            if name in self._files:
                raise DataError(
                    f"{self.folder} holds two label volumes of {name}.",
                    f"They are {self._files[name].name} and {path.name}.",
                    "Remove one of them.",
                )
            self._files[name] = path
        for name in subjects or ():
            self.path(name)

    def _predictions(self) -> list[tuple[str, Path]]:
        """Subject and file of label volumes side by side; nothing if the folder holds something else."""
        files = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        flat = [p for p in files if base_name(p.name) and not p.name.startswith(".") and not p.is_dir()]
        said = [named_file(path) for path in flat]
        if not flat or any(file and file.content != SEG for file in said):
            return []
        refuse_part(self.folder)
        found = [
            (file.stem if file and file.stem else base_name(path.name) or "", path)
            for path, file in zip(flat, said, strict=True)
        ]
        tables: dict[Path, dict[int, int] | None] = {}
        for name, path in found:
            if values := table_of_labels(path, self.folder, tables):
                self._label_values[name] = values
        if description := description_of(self.folder):
            values = label_values_named(description["labels"], self.folder / DESCRIPTION)
            self._label_values = {name: values for name, _ in found}
        return found

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def path(self, subject: str) -> Path:
        """File of a subject; raises :class:`DataError` if there is none."""
        try:
            return self._files[subject]
        except KeyError:
            close = difflib.get_close_matches(subject, self._files, n=3)
            raise DataError(
                f"There are no labels of {subject} in {self.folder}.",
                f"It holds {len(self._files)} subjects" + (f", among them {', '.join(close)}." if close else "."),
                "Give folders whose subjects have the same names.",
            ) from None

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels uint8 (x, y, z) with the scheme's values, and the voxel spacing in mm."""
        read, volume = load_labels(self.path(subject), self._label_values.get(subject))
        if read.n_rounded and not self._rounding_said:
            self._rounding_said = True
            events.message(
                f"{self.path(subject).name}: {read.n_rounded:,} voxels are not quite whole numbers and were rounded, "
                "as of labels that were saved from floating point; of other files here this is not said again.",
                level="warning",
            )
        return read.labels, volume.spacing_mm

    def grid(self, subject: str) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape in voxels, and the affine (4, 4) from voxel indices to mm; reads the header alone where it can."""
        shape, affine, _ = read_grid(self.path(subject))
        return shape, affine

    def affine(self, subject: str) -> NDArray[np.float64]:
        """(4, 4) voxel indices -> mm."""
        return self.grid(subject)[1]


def check_same_grids(reference: LabelFolder, prediction: LabelFolder) -> None:
    """See that both have each subject's voxels at the same places; shapes that differ are left to the comparison.

    Two volumes of one shape may be mirrored or shifted against each other, which no comparison of arrays can see.

    Raises
    ------
    DataError : names the first subject whose corners lie further apart than ``AFFINE_TOLERANCE_MM``.
    """
    there = set(prediction.subjects)
    for subject in (name for name in reference.subjects if name in there):
        (shape, affine), (other_shape, other) = reference.grid(subject), prediction.grid(subject)
        if shape == other_shape and (distance := grid_distance_mm(affine, other, shape)) > AFFINE_TOLERANCE_MM:
            lost = is_default_affine(other, shape)
            raise DataError(
                f"Reference and prediction of {subject} are not on one grid.",
                f"Their affines put the same voxel up to {distance:.3g} mm apart."
                + (
                    " The prediction's says nothing (1 mm, no origin), as of arrays that were saved without one."
                    if lost
                    else ""
                ),
                "If its array is in the order of the reference's, evaluate with --prediction-grid reference; "
                "resampling it by such an affine would put it elsewhere."
                if lost
                else "Resample the prediction to the grid of the reference, with its affine, and evaluate again. If "
                "its array is in the order of the reference's and only its affine is wrong, evaluate with "
                "--prediction-grid reference.",
            )


class OnGridOf:
    """Label volumes whose arrays are taken to be on the grid of others; satisfies :class:`synthkit.contract.Volumes`.

    For predictions that were saved without their affine. A shape that differs is refused when the subject is read.
    """

    def __init__(self, volumes: LabelFolder, reference: LabelFolder) -> None:
        self._volumes, self._reference = volumes, reference
        self.scheme = volumes.scheme

    @property
    def subjects(self) -> tuple[str, ...]:
        return self._volumes.subjects

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels uint8 (x, y, z) of the volumes, and the voxel spacing in mm of the reference."""
        labels, _ = self._volumes.labels(subject)
        shape, affine = self._reference.grid(subject)
        if labels.shape != shape:
            raise DataError(
                f"The prediction of {subject} has another shape than its reference.",
                f"It has {'x'.join(map(str, labels.shape))} voxels, the reference {'x'.join(map(str, shape))}.",
                "Resample the prediction to the grid of the reference, and leave --prediction-grid out.",
            )
        x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
        return labels, (x, y, z)
