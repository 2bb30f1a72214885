"""Label maps from files: whole numbers from 0 to 255, and the values that they are read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.nifti import Volume, VolumeError, read_volume
from synthkit.data.orientation import forward
from synthkit.schemes import enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

#: Labels that went through floating point are off by as much: half a step of uint8 scaled to 0..4 is 0.008.
WHOLE_TOLERANCE = 0.01

# Fractions of more different values than these, among so many, are probabilities; fewer are labels that were blurred.
_FEW, _LOOKED_AT = 16, 10_000
_WRITE_LABELS = (
    "Write one 3-D map of whole numbers a subject: in each voxel the value that its scheme gives the label with the "
    "largest probability, 0 for background. Regions that lie inside one another (whole tumour, core, enhancing) are "
    "written one after the other, the largest first, each where it is 0.5 and more."
)


@dataclass(frozen=True, eq=False)
class ReadLabels:
    """A label map.

    Attributes
    ----------
    labels : uint8 (x, y, z), values as they are read.
    stored : values as the file had them.
    n_rounded : voxels that were not whole numbers, by at most :data:`WHOLE_TOLERANCE`.
    """

    labels: UInt8Array
    stored: tuple[int, ...]
    n_rounded: int


def load_labels(path: Path | str, label_values: Mapping[int, int] | None = None) -> tuple[ReadLabels, Volume]:
    """Labels of one file, and the volume they were read from.

    Parameters
    ----------
    label_values : every value that the file may hold -> the value that it is read as; None: values stay as they are.

    Raises
    ------
    VolumeError : the file is not a volume, or its values are not labels that are known.
    """
    volume = read_label_volume(path)
    try:
        return as_labels(volume.data, label_values), volume
    except ValueError as error:
        raise VolumeError(Path(path), str(error), _WRITE_LABELS) from error


def read_label_volume(path: Path | str) -> Volume:
    """The volume of a label map, as :func:`synthkit.data.nifti.read_volume`; channels of labels are named as such."""
    try:
        return read_volume(path)
    except VolumeError as error:
        if len(error.shape) < 4:
            raise
        shape = "x".join(map(str, error.shape))
        reason = (
            f"it is {len(error.shape)}-D ({shape}), as one-hot maps or probabilities with a channel a label, where one "
            "3-D label map is expected: write the label of the largest channel (argmax); where none of them is the "
            "background, put one in front, 1 minus their sum"
        )
        raise VolumeError(Path(path), reason, _WRITE_LABELS, error.shape) from error


def values_of_file(path: Path | str) -> tuple[int, ...]:
    """Label values that a file holds, ascending; VolumeError as for :func:`load_labels`."""
    return load_labels(path)[0].stored


def as_labels(data: NDArray[Any], label_values: Mapping[int, int] | None = None) -> ReadLabels:
    """Voxels as labels; ValueError says what is wrong."""
    n_rounded = 0
    if data.dtype.kind == "f":  # stored so, or scaled by the header
        if not np.isfinite(data).all():
            raise ValueError("it holds NaN or infinity")
        whole = np.rint(data)
        off = data != whole
        if n_rounded := int(np.count_nonzero(off)):
            odd = data[off & (np.abs(data - whole) > WHOLE_TOLERANCE)]
            if odd.size:
                raise ValueError(_not_whole(data, odd))
        data = whole
    lowest, highest = (0, 255) if data.dtype == np.uint8 else (data.min(), data.max())
    if lowest < 0 or highest > 255:
        raise ValueError(f"unknown label value {lowest if lowest < 0 else highest:g} (labels are 0 to 255)")
    labels: UInt8Array = np.asarray(data, dtype=np.uint8)
    present = tuple(counts_of(labels))
    if label_values is None:
        return ReadLabels(labels, present, n_rounded)
    if unknown := [value for value in present if value and value not in label_values]:
        known = enumerated([str(value) for value in sorted({0, *label_values})])
        raise ValueError(f"unknown label value {', '.join(map(str, unknown[:5]))} (known are {known})")
    return ReadLabels(read_as(labels, present, label_values), present, n_rounded)


def _not_whole(data: NDArray[Any], odd: NDArray[Any]) -> str:
    """Why values are not labels, by the range they come from; ``odd`` are those that are not whole."""
    low, high = float(data.min()), float(data.max())
    several = len(np.unique(odd[:_LOOKED_AT])) > _FEW
    if several and low >= -WHOLE_TOLERANCE and high <= 1 + WHOLE_TOLERANCE:
        return (
            f"it holds probabilities ({low:.2g} to {high:.2g}), not labels: write the most probable label, or that "
            "of this file where it is 0.5 and more"
        )
    if several and low < 0:
        return f"it holds the raw output of a network ({low:.4g} to {high:.4g}), not labels"
    return f"labels are not whole numbers: {odd[0]:g} and {odd.size - 1} more"


def read_as(labels: UInt8Array, present: Sequence[int], label_values: Mapping[int, int]) -> UInt8Array:
    """Labels whose values ``present`` are read as others."""
    if all(label_values.get(value, value) == value for value in present):
        return labels
    table = np.zeros(256, dtype=np.uint8)
    for value in present:
        table[value] = label_values.get(value, 0)
    translated: UInt8Array = table[labels]
    return translated


def counts_of(labels: UInt8Array) -> dict[int, int]:
    """Label value -> voxels, ascending, of the values that there are."""
    flat = labels[forward(labels)].ravel(order="K")
    # Nearly all is background, and eight voxels of it are one number.
    words = flat[: flat.size // 8 * 8].view(np.uint64)
    some = np.concatenate([words[words != 0].view(np.uint8), flat[words.size * 8 :]])
    counts = np.bincount(some, minlength=256)
    counts[0] += flat.size - some.size
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
