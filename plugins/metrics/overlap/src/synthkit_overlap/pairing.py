"""Which subjects a reference and a prediction share, and their labels on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import synthkit
from synthkit.contract import Volumes
from synthkit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LabelPair(NamedTuple):
    """Labels ``(x, y, z)`` of one subject, each with the values of its side's scheme; the spacing is of both."""

    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]


def pair_subjects(reference: Volumes, prediction: Volumes) -> tuple[list[str], list[str]]:
    """Subjects in both sets, in the order of the reference; and a description of each that is in one only."""
    in_reference, in_prediction = set(reference.subjects), set(prediction.subjects)
    common = [subject for subject in reference.subjects if subject in in_prediction]
    if not common:
        raise DataError(
            "Reference and prediction have no subject in common.",
            f"The reference has {_some(in_reference)}; the prediction has {_some(in_prediction)}.",
            "Give both the same subject names; predictions written by `synthkit segment` keep those of their input.",
        )
    unpaired = [f"{subject}: no prediction" for subject in sorted(in_reference - in_prediction)]
    unpaired += [f"{subject}: no reference" for subject in sorted(in_prediction - in_reference)]
    if unpaired:
        synthkit.message(
            f"{len(unpaired)} of {len(unpaired) + len(common)} subjects are not scored: {'; '.join(unpaired)}",
            level="warning",
        )
    return common, unpaired


def _some(subjects: set[str]) -> str:
    """Up to three names and the number of the others."""
    names = sorted(subjects)
    if not names:
        return "none"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_pair(reference: Volumes, prediction: Volumes, subject: str) -> LabelPair:
    """One subject of both sets.

    Raises
    ------
    DataError : the two are not on one grid.
    """
    reference_labels, spacing_mm = reference.labels(subject)
    prediction_labels, prediction_spacing_mm = prediction.labels(subject)
    if reference_labels.shape != prediction_labels.shape or not np.allclose(
        spacing_mm, prediction_spacing_mm, rtol=1e-3
    ):
        raise DataError(
            f"Reference and prediction of {subject} are not on one grid.",
            f"The reference has {reference_labels.shape} voxels of {_mm(spacing_mm)}, "
            f"the prediction {prediction_labels.shape} of {_mm(prediction_spacing_mm)}.",
            "Predict on the subject's own grid, or resample the prediction with nearest neighbours.",
        )
    return LabelPair(reference_labels, prediction_labels, spacing_mm)


def _mm(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in spacing_mm) + " mm"
