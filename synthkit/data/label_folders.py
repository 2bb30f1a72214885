"""Label volumes in a folder, segmentations of subjects or predictions side by side; whether two are on one grid."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.conventions import BRATS
from synthkit.data.nifti import read_volume
from synthkit.data.subjects import (
    AFFINE_TOLERANCE_MM,
    bad_subjects_error,
    content_of,
    grid_distance_mm,
    load_labels,
    nifti_files,
    scan_subjects,
)
from synthkit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

_PREDICTION_NAME = re.compile(rf"(.+?)([_-]({'|'.join(BRATS.label_endings)}))?\.nii(\.gz)?", re.IGNORECASE)


class LabelFolder:
    """Label volumes in a folder; satisfies :class:`synthkit.contract.Volumes`.

    The folder holds BraTS subjects (their segmentations are used, the contrasts need not be there), or predictions
    side by side, ``<subject>.nii.gz`` or ``<subject>_seg.nii.gz``.

    Parameters
    ----------
    folder : the folder.
    subjects : only these; what is wrong with others does not matter then.
    usable_only : leave out subjects without one usable label volume instead of refusing the folder.

    Raises
    ------
    DataError : no such folder, nothing in it, two files for one subject, or no labels for a subject asked for.
    """

    def __init__(self, folder: Path | str, subjects: Sequence[str] | None = None, *, usable_only: bool = False) -> None:
        self.folder = Path(folder)
        flat = nifti_files(self.folder) if self.folder.is_dir() else []
        if flat and not {content_of(path) for path in flat} & set(BRATS.contrast_names):
            found = [(_PREDICTION_NAME.fullmatch(path.name)[1], path) for path in flat]  # type: ignore[index]
        else:
            good, bad = scan_subjects(self.folder, contrasts=(), need_labels=True)
            if not usable_only and (bad := [b for b in bad if subjects is None or b.id in subjects]):
                raise bad_subjects_error(bad, len(good) + len(bad))
            found = [(subject.id, subject.seg) for subject in good if subject.seg]
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
        """Labels uint8 (x, y, z) with the convention's values, and the voxel spacing in mm."""
        labels, volume = load_labels(self.path(subject))
        return labels, volume.spacing_mm

    def grid(self, subject: str) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Shape in voxels, and the affine (4, 4) from voxel indices to mm; reads the header alone where it can."""
        import nibabel as nib

        path = self.path(subject)
        try:
            image: Any = nib.load(path)
            return tuple(image.shape), np.asarray(image.affine, dtype=np.float64)
        except Exception:  # misnamed or damaged: the whole reading copes with the one and explains the other
            volume = read_volume(path)
            return volume.data.shape, volume.affine

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
            raise DataError(
                f"Reference and prediction of {subject} are not on one grid.",
                f"Their affines put the same voxel up to {distance:.3g} mm apart.",
                "Resample the prediction to the grid of the reference, with its affine, and evaluate again.",
            )
