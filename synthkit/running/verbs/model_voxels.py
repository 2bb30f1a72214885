"""Whether a segmenter sees voxels of the size that it was trained on, and what becomes of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthkit.data.geometry import AS_STORED, Geometry, Spacing, differ, in_mm
from synthkit.data.nifti import VolumeError, read_grid
from synthkit.data.slices import SliceProtocol, arrangement_of
from synthkit.data.subject_files import Subject
from synthkit.data.subjects import SubjectVolumes
from synthkit.errors import DataError


@dataclass(frozen=True)
class ModelVoxels:
    """How a model's protocol cuts subjects whose voxels may be of another size than those it was trained on.

    Attributes
    ----------
    protocol : resamples subjects to the model's voxels, if that was asked for or was done to the training images.
    spacing_mm : voxel size of the training images along x, y and between slices; None where it is not recorded.
    """

    protocol: SliceProtocol
    spacing_mm: Spacing | None

    @classmethod
    def of(cls, metadata: Mapping[str, Any], resample: bool) -> ModelVoxels:
        """From the notes of a checkpoint; :class:`DataError` if it does not record what to resample to."""
        protocol = SliceProtocol.from_dict(metadata["protocol"])
        spacing = Geometry.of(metadata["protocol"]).spacing_mm
        if resample and spacing is None:
            raise DataError(
                "The model does not record the voxel size of its training images.",
                "Subjects cannot be resampled to it.",
                "Leave --resample out, if the subjects' voxels are as large as those of its training images; else "
                "bring the subjects to that size yourself.",
            )
        if resample and protocol.spacing_mm is None:
            protocol = dataclasses.replace(protocol, spacing_mm=spacing)
        return cls(protocol, spacing)

    def check(self, volumes: SubjectVolumes) -> str | None:
        """:class:`DataError` unless the subject is cut into voxels of the model's size; what is not known of it."""
        how = arrangement_of(volumes, self.protocol)
        if self.spacing_mm and differ(how.spacing_mm, self.spacing_mm):
            raise self._error([f"{volumes.id}: {in_mm(how.spacing_mm)}"])
        if how.axes is None and self.protocol.orientation != AS_STORED:
            return (
                f"{volumes.id}: its affine says nothing of orientation, so its slices are taken in the stored order of "
                "the array, as if that were LPS; if it is another, write it in the affine. Of other subjects this is "
                "not said again."
            )
        return None

    def checked(self, subjects: Mapping[str, Subject]) -> list[str]:
        """See by the headers alone that all subjects have voxels of the model's size; what is to be said of it.

        Which axis is which is not looked at here, but by :meth:`check`.
        """
        if self.spacing_mm is None:
            return [
                "The model does not record the voxel size of its training images, so that of the subjects is not "
                "compared with it."
            ]
        if self.protocol.spacing_mm is not None:
            return [f"Subjects are resampled to voxels of {in_mm(self.protocol.spacing_mm)}, and their labels back."]
        wrong = []
        for name, subject in subjects.items():
            try:
                _, _, spacing = read_grid(next(iter(subject.contrasts.values())))
            except VolumeError:  # said with its reason when it is read
                continue
            if differ(sorted(spacing), sorted(self.spacing_mm)):
                wrong.append(f"{name}: {in_mm(spacing)}")
        if wrong:
            raise self._error(wrong)
        return []

    def _error(self, wrong: list[str]) -> DataError:
        assert self.spacing_mm is not None
        more = [f"... and {len(wrong) - 20} more"] if len(wrong) > 20 else []
        return DataError(
            f"{len(wrong)} subjects have voxels of another size than the model's training images."
            if len(wrong) > 1
            else "A subject has voxels of another size than the model's training images.",
            f"The model was trained on voxels of {in_mm(self.spacing_mm)}.",
            "Give --resample, which resamples the subjects and brings the labels back to their own grid.",
            [*wrong[:20], *more],
        )
