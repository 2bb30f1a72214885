"""Whether a segmenter sees voxels of the size and orientation that it was trained on, and what becomes of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthkit.data.geometry import AS_STORED, Geometry, Spacing, differ, in_mm
from synthkit.data.header_scale import StoredGrid, check_scales
from synthkit.data.nifti import VolumeError, read_grid
from synthkit.data.orientation import axis_codes, says_nothing
from synthkit.data.slices import SliceProtocol, arrangement_of
from synthkit.data.subject_files import Subject
from synthkit.data.subjects import SubjectError, SubjectVolumes
from synthkit.errors import DataError
from synthkit.running.listening import Listener


@dataclass(frozen=True)
class ModelVoxels:
    """How a model's protocol cuts subjects whose voxels may have another size, or lie otherwise, than those it knows.

    Attributes
    ----------
    protocol : resamples subjects to the model's voxels, if that was asked for or was done to the training images, and
        brings them to the orientation of these, also where they were as stored.
    spacing_mm : voxel size of the training images along x, y and between slices; None where it is not recorded.
    axes : where axes of the training images lead; None where it is not recorded, or not the same in all.
    """

    protocol: SliceProtocol
    spacing_mm: Spacing | None
    axes: str | None

    @classmethod
    def of(cls, metadata: Mapping[str, Any], resample: bool) -> ModelVoxels:
        """From the notes of a checkpoint; :class:`DataError` without a protocol, or a voxel size to resample to."""
        if not metadata.get("protocol"):
            raise DataError(
                f"The model {metadata['plugin']} cannot segment subjects.",
                "Its training data record no protocol, and volumes are not sliced to their size.",
                "Train it on data of 256, 128, 64 or 32 pixels a side.",
            )
        protocol = SliceProtocol.from_dict(metadata["protocol"])
        geometry = Geometry.of(metadata["protocol"])
        spacing = geometry.spacing_mm
        if resample and spacing is None:
            raise DataError(
                "The model does not record the voxel size of its training images.",
                "Subjects cannot be resampled to it.",
                "Leave --resample out, if the subjects' voxels are as large as those of its training images; else "
                "bring the subjects to that size yourself.",
            )
        if resample and protocol.spacing_mm is None:
            protocol = dataclasses.replace(protocol, spacing_mm=spacing)
        if protocol.orientation == AS_STORED and geometry.axes is not None:
            # Arrays that were as stored all lay this way: others that lie otherwise are not what the model has seen.
            protocol = dataclasses.replace(protocol, orientation=geometry.axes)
        return cls(protocol, spacing, geometry.axes)

    def check(self, volumes: SubjectVolumes) -> str | None:
        """:class:`DataError` unless the subject is cut into voxels of the model's size; what is to be said of it."""
        self._check_scales({volumes.id: StoredGrid(volumes.shape, volumes.spacing_mm)})
        try:
            how = arrangement_of(volumes, self.protocol)
        except SubjectError as error:
            raise DataError(
                f"The slices of {volumes.id} are not axial as they are stored.",
                "The model does not record which way its training images lie, so subjects are not turned to it.",
                "Store its volumes in the order of the training images, its third axis from feet to head.",
            ) from error
        if self.spacing_mm and differ(how.spacing_mm, self.spacing_mm):
            raise self._error([f"{volumes.id}: {in_mm(how.spacing_mm)}"])
        if self.protocol.orientation == AS_STORED or not says_nothing(volumes.affine, volumes.header, volumes.shape):
            return None
        taken = (
            f"it is taken to be {self.protocol.stored_axes}, as --stored-axes said of the training images"
            if self.protocol.stored_axes
            else f"its slices are taken in the stored order of the array, as if that were {self.protocol.orientation}"
        )
        return (
            f"{volumes.id}: its affine says nothing of orientation, so {taken}; if it is another, write it in the "
            "affine. Of other subjects this is not said again."
        )

    def announce(self, subjects: Mapping[str, Subject], listener: Listener) -> None:
        """Say what becomes of subjects and what is not known, by their headers alone; raises as :meth:`checked`."""
        for note in self.checked(subjects):
            listener.note(note)
        if self.axes is None:
            listener.warning(self._doubt(subjects))

    def _doubt(self, subjects: Mapping[str, Subject]) -> str:
        """What it means that the orientation of the training images is not known."""
        unknown = "Which way the model's training images lie is not recorded, or not the same in all"
        if self.protocol.orientation != AS_STORED:
            return (
                f"{unknown}: subjects are brought to {self.protocol.orientation} by their affines, as those of its "
                "images were whose affines say it."
            )
        orders: dict[str, list[str]] = {}
        for name, subject in subjects.items():
            try:
                shape, affine, _ = read_grid(next(iter(subject.contrasts.values())))
            except VolumeError:  # said with its reason when it is read
                continue
            order = (
                "an order that their affines do not say" if says_nothing(affine, None, shape) else axis_codes(affine)
            )
            orders.setdefault(order, []).append(name)
        found = "; ".join(
            f"{order}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            for order, names in sorted(orders.items())
        )
        return (
            f"{unknown}: subjects are segmented as they are stored ({found}). Where its images lay otherwise, "
            "these are turned or mirrored to it, and their labels are wrong."
        )

    def checked(self, subjects: Mapping[str, Subject]) -> list[str]:
        """See by the headers alone that all subjects have voxels of the model's size; what is to be said of it.

        Which axis is which is not looked at here, but by :meth:`check`.
        """
        if self.spacing_mm is None:
            return [
                "The model does not record the voxel size of its training images, so that of the subjects is not "
                "compared with it."
            ]
        grids: dict[str, StoredGrid] = {}
        for name, subject in subjects.items():
            try:
                shape, _, spacing = read_grid(next(iter(subject.contrasts.values())))
            except VolumeError:  # said with its reason when it is read
                continue
            grids[name] = StoredGrid(shape[:3], spacing)
        self._check_scales(grids)
        if self.protocol.spacing_mm is not None:
            return [f"Subjects are resampled to voxels of {in_mm(self.protocol.spacing_mm)}, and their labels back."]
        wrong = [
            f"{name}: {in_mm(grid.spacing_mm)}"
            for name, grid in grids.items()
            if differ(sorted(grid.spacing_mm), sorted(self.spacing_mm))
        ]
        if wrong:
            raise self._error(wrong)
        return []

    def _check_scales(self, grids: Mapping[str, StoredGrid]) -> None:
        if self.spacing_mm is not None:
            check_scales(grids, self.spacing_mm, "the model's training images")

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
