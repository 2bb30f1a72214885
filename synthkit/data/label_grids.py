"""Whether a reference and a prediction have each voxel at one place, by their headers and by what lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthkit import events
from synthkit.data.axis_orders import best_order, dice_by_affines, orders_of_shape, turn_by_affines
from synthkit.data.label_folders import LabelFolder
from synthkit.data.orientation import Turn
from synthkit.data.volume_checks import AFFINE_TOLERANCE_MM, grid_distance_mm, is_default_affine, two_affines_of_file
from synthkit.errors import DataError
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

# Dice of all labels together below which a way to lay a prediction on its reference is no help, and difference from
# which one way is better than another whoever segments.
_HELPS, _CLEARLY = 0.1, 0.1
# A prediction is of another subject where it overlaps with that one's reference by this Dice coefficient, all labels
# together, and by so much more than with its own: tumours of two people hardly do by chance. About so many places along
# the shortest axis are looked at.
_OF_ANOTHER, _MORE_THAN_OWN, _PLACES = 0.6, 0.4, 64
_TURNED = "by its affine its array is in another order of axes than the reference's"
_AGAIN = "Predict again on the subject's own grid, and save the prediction with the reference's affine."


def check_same_grids(reference: LabelFolder, prediction: LabelFolder) -> None:
    """See that both have each subject's voxels at the same places, be it in another order of axes.

    The order is that of the affines, unless the labels contradict it. Headers that hold two affines which contradict
    each other are named, each text once.

    Raises
    ------
    DataError : names the first subject whose shapes differ or whose corners lie further apart than
        ``AFFINE_TOLERANCE_MM``, and what lays its labels on the reference's.
    """
    there = set(prediction.subjects)
    said: set[str] = set()
    for subject in (name for name in reference.subjects if name in there):
        (shape, affine), (other_shape, other) = reference.grid(subject), prediction.grid(subject)
        for path in (reference.path(subject), prediction.path(subject)):
            if (note := two_affines_of_file(path)) and note not in said:
                said.add(note)
                events.message(
                    f"{path.name}: {note}; of other files with the same one this is not said.", level="warning"
                )
        if shape != other_shape:
            why = f"The reference has {_voxels(shape)}, the prediction {_voxels(other_shape)}."
        elif (distance := grid_distance_mm(affine, other, shape)) > AFFINE_TOLERANCE_MM:
            why = f"Their affines put the same voxel up to {distance:.3g} mm apart."
        else:
            continue
        if turn_of(reference, prediction, subject) is not None and not _is_contradicted(reference, prediction, subject):
            if _TURNED not in said:
                said.add(_TURNED)
                events.message(
                    f"{subject}: {_TURNED}; its labels are turned to that of the reference, as are those of other "
                    "predictions of which the same is true."
                )
            continue
        if is_default_affine(other, other_shape):
            why += " The prediction's says nothing (1 mm, no origin), as of arrays that were saved without one."
        raise DataError(
            f"Reference and prediction of {subject} are not on one grid.", why, _way(reference, prediction, subject)
        )


def turn_of(reference: LabelFolder, prediction: LabelFolder, subject: str) -> Turn | None:
    """The turn of a prediction's array to the order of the reference's, by their affines; None where none is enough."""
    (shape, affine), (own_shape, own) = reference.grid(subject), prediction.grid(subject)
    return turn_by_affines(affine, shape, own, own_shape)


def _is_contradicted(reference: LabelFolder, prediction: LabelFolder, subject: str) -> bool:
    """Whether labels overlap more with the reference's in another order of axes than in that of the affines.

    An affine that programs write that know of no place is believed where they overlap more by it alone.
    """
    truth, labels = reference.stored(subject).labels, prediction.stored(subject).labels
    order, own = best_order(truth, labels), prediction.affine(subject)
    by_affines = dice_by_affines(truth, reference.affine(subject), labels, own)
    if is_default_affine(own, labels.shape):
        return by_affines < order.dice_as_stored + _CLEARLY
    return max(order.dice_as_stored, order.dice if order.fits else 0.0) > by_affines + _CLEARLY


def _voxels(shape: tuple[int, ...]) -> str:
    return f"{'x'.join(map(str, shape))} voxels"


def _way(reference: LabelFolder, prediction: LabelFolder, subject: str) -> str:
    """What lays a prediction on its reference: tried on the labels, so that nothing is advised that does not help."""
    truth, labels = reference.stored(subject).labels, prediction.stored(subject).labels
    affine, own = reference.affine(subject), prediction.affine(subject)
    order = best_order(truth, labels)
    by_affines = dice_by_affines(truth, affine, labels, own)
    if turn_of(reference, prediction, subject) is not None and not _is_contradicted(reference, prediction, subject):
        return "By its affine it is read in the order of the reference."
    resample = "Resample the prediction to the grid of the reference, by its affine and with nearest neighbours"
    if order.dice > by_affines and order.fits:
        return (
            f"Its array is in another order: {order.in_words} its labels lie on the reference's (Dice "
            f"{order.dice:.2f}, resampled by its affine {by_affines:.2f}). Save {order.in_numpy} with the reference's "
            "affine."
        )
    if max(order.dice_as_stored, by_affines) >= _HELPS:
        if by_affines >= order.dice_as_stored:
            return f"{resample} (all labels together then have Dice {by_affines:.2f}), and evaluate again."
        return (
            f"Evaluate with --prediction-grid reference: in the order of its array its labels lie on the reference's "
            f"(Dice {order.dice_as_stored:.2f}); resampled by its affine they would not ({by_affines:.2f})."
        )
    if truth.any() and labels.any():
        return f"Neither its affine nor any order of its axes lays its labels on the reference's. {_AGAIN}"
    if truth.shape != labels.shape and orders_of_shape(labels.shape, truth.shape):
        return f"Its axes may be in another order, as of SimpleITK's arrays (z, y, x). {_AGAIN}"
    if truth.shape != labels.shape or not is_default_affine(own, labels.shape):
        return f"{resample}, and evaluate again."
    return "If its array is in the order of the reference's, evaluate with --prediction-grid reference."


class OnOneGrid:
    """Predictions beside their reference, whose places are looked at; satisfies :class:`synthkit.contract.Volumes`.

    Two volumes of one shape may be mirrored or turned against each other, or of two subjects, which no header tells:
    where labels hardly overlap with the reference's, but do in another order of axes, or with the reference of somebody
    else, that is said.

    Parameters
    ----------
    by_request : arrays are taken to be in the order of the reference's, whatever their affines say (for predictions
        that were saved without it); then one that is in another order is refused.
    """

    def __init__(self, prediction: LabelFolder, reference: LabelFolder, *, by_request: bool) -> None:
        self._prediction, self._reference = prediction, reference
        self._by_request = by_request
        self._said: set[str] = set()
        self._truths: dict[str, _Foreground] = {}

    @property
    def scheme(self) -> Scheme:
        return self._prediction.scheme

    @property
    def subjects(self) -> tuple[str, ...]:
        return self._prediction.subjects

    def labels(self, subject: str) -> tuple[UInt8Array, tuple[float, float, float]]:
        """Labels uint8 (x, y, z) of the prediction in the reference's order of axes, and the voxel spacing in mm."""
        labels, spacing_mm = self._prediction.labels(subject)
        if subject not in self._reference.subjects:
            return labels, spacing_mm
        shape, affine = self._reference.grid(subject)
        if self._by_request:
            if labels.shape != shape:
                raise DataError(
                    f"The prediction of {subject} has another shape than its reference.",
                    f"It has {_voxels(labels.shape)}, the reference {_voxels(shape)}.",
                    f"Leave --prediction-grid out. {_way(self._reference, self._prediction, subject)}",
                )
            x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
            spacing_mm = (x, y, z)
        elif (turn := turn_of(self._reference, self._prediction, subject)) is not None:
            labels, spacing_mm = np.ascontiguousarray(turn.apply(labels)), turn.of_each_axis(spacing_mm)
        self._see_places(subject, labels)
        return labels, spacing_mm

    def _see_places(self, subject: str, labels: UInt8Array) -> None:
        """Say, or by request refuse, that labels lie on the reference's in another order of axes alone."""
        truth = self._reference.stored(subject).labels
        order = best_order(truth, labels)
        if not order.fits:
            self._see_whose(subject, labels)
            return
        why = (
            f"its labels overlap with the reference's by Dice {order.dice_as_stored:.2f}, and by {order.dice:.2f} "
            f"{order.in_words}"
        )
        if self._by_request:
            raise DataError(
                f"The array of the prediction of {subject} is not in the order of its reference's.",
                f"{why[0].upper()}{why[1:]}.",
                f"Leave --prediction-grid out. {_way(self._reference, self._prediction, subject)}",
            )
        if order.in_numpy not in self._said:
            self._said.add(order.in_numpy)
            events.message(
                f"{subject}: {why}. Its array is in another order than its affine says: save {order.in_numpy} with "
                "the affine that it has; of other predictions of which the same is true this is not said.",
                level="warning",
            )

    def _see_whose(self, subject: str, labels: UInt8Array) -> None:
        """Say, once a subject, that labels are rather those of another subject's reference."""
        found = _Foreground.of(labels)
        if subject in self._said or not len(found.places):
            return
        self._said.add(subject)
        own = found.dice(self._truth(subject))
        if own > 1 - _MORE_THAN_OWN:
            return
        both = set(self._reference.subjects) & set(self.subjects)
        others = {name: found.dice(self._truth(name)) for name in sorted(both - {subject})}
        best = max(others, key=lambda name: others[name], default=subject)
        if others.get(best, 0.0) >= max(_OF_ANOTHER, own + _MORE_THAN_OWN):
            events.message(
                f"{subject}: its prediction overlaps with its reference by Dice {own:.2f}, all labels together, and by "
                f"{others[best]:.2f} with that of {best}, as of files that were exchanged: see which prediction is "
                "whose, give the files the names of their subjects, and evaluate again.",
                level="warning",
            )

    def _truth(self, subject: str) -> _Foreground:
        if subject not in self._truths:
            self._truths[subject] = _Foreground.of(self._reference.stored(subject).labels)
        return self._truths[subject]


@dataclass(frozen=True, eq=False)
class _Foreground:
    """Where anything is labelled: places in a volume of this shape that was thinned, counted through."""

    shape: tuple[int, ...]
    places: NDArray[np.intp]

    @classmethod
    def of(cls, labels: UInt8Array) -> _Foreground:
        step = max(1, min(labels.shape) // _PLACES)
        return cls(labels.shape, np.flatnonzero(labels[::step, ::step, ::step]))

    def dice(self, other: _Foreground) -> float:
        """Dice coefficient; 0 of volumes of two shapes."""
        if self.shape != other.shape or not len(other.places):
            return 0.0
        both = len(np.intersect1d(self.places, other.places, assume_unique=True))
        return 2 * both / (len(self.places) + len(other.places))
