"""Label maps from files: whole numbers, known values, and what the file's own table of labels says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.labels import canonical
from synthkit.data.nifti import Volume, VolumeError, read_volume
from synthkit.schemes import BRATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

#: Labels that went through floating point are off by as much: half a step of uint8 scaled to 0..4 is 0.008.
WHOLE_TOLERANCE = 0.01

_MASK_NAME = re.compile(r".*[-_]mask\.nii(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class ReadLabels:
    """A label map.

    Attributes
    ----------
    labels : uint8 (x, y, z), values of the scheme.
    stored : values as the file had them.
    n_rounded : voxels that were not whole numbers, by at most :data:`WHOLE_TOLERANCE`.
    """

    labels: UInt8Array
    stored: tuple[int, ...]
    n_rounded: int


def load_labels(path: Path | str, label_values: Mapping[int, int] | None = None) -> tuple[ReadLabels, Volume]:
    """Labels of one file, enhancing tumour as 4, and the volume they were read from.

    Parameters
    ----------
    label_values : value in the file -> value of the scheme, where something says so; else values are BraTS'.

    Raises
    ------
    VolumeError : the file is not a volume, or its values are not labels that are known.
    """
    volume = read_volume(path)
    try:
        return as_labels(volume.data, Path(path), label_values), volume
    except ValueError as error:
        raise VolumeError(Path(path), str(error)) from error


def as_labels(data: NDArray[Any], path: Path, label_values: Mapping[int, int] | None = None) -> ReadLabels:
    """Voxels as labels; ValueError says what is wrong. ``path`` is where they are from."""
    n_rounded = 0
    if data.dtype.kind == "f":  # stored so, or scaled by the header
        if not np.isfinite(data).all():
            raise ValueError("it holds NaN or infinity")
        whole = np.rint(data)
        off = data != whole
        if n_rounded := int(np.count_nonzero(off)):
            odd = data[off & (np.abs(data - whole) > WHOLE_TOLERANCE)]
            if odd.size:
                raise ValueError(f"labels are not whole numbers: {odd[0]:g} and {odd.size - 1} more")
        data = whole
    if label_values is not None:
        labels, present = _translated(data, label_values)
    else:
        labels, present = _by_value(data)
    if _MASK_NAME.fullmatch(path.name) and label_values is None and set(present) <= {0, 1}:
        raise ValueError(
            f"{path.name} is a mask of one value, which does not say what part of the tumour it is "
            f"({BRATS.family} has {BRATS.values_in_files})"
        )
    return ReadLabels(labels, present, n_rounded)


def _by_value(data: NDArray[Any]) -> tuple[UInt8Array, tuple[int, ...]]:
    """BraTS' values: enhancing tumour as 4, also where a file has 3."""
    known = {*BRATS.values, *(old for old, _ in BRATS.read_as)}
    labels, present = _small(data, known)
    if labels is None or not known.issuperset(present):
        raise ValueError(f"unknown label value {_unknown(data, known)} ({BRATS.family} has {BRATS.values_in_files})")
    for old, new in BRATS.read_as:
        if {old, new} <= set(present):
            raise ValueError(
                f"labels {old} and {new} together: in BraTS 2024 post-treatment data {new} is the resection cavity, "
                "which has no counterpart among the labels used here"
            )
    return (canonical(labels) if any(old in present for old, _ in BRATS.read_as) else labels), present


def _translated(data: NDArray[Any], label_values: Mapping[int, int]) -> tuple[UInt8Array, tuple[int, ...]]:
    known = {0, *label_values}
    labels, present = _small(data, known)
    if labels is None or not known.issuperset(present):
        named = ", ".join(map(str, sorted(known)))
        raise ValueError(f"unknown label value {_unknown(data, known)} (its table of labels names {named})")
    table = np.zeros(256, dtype=np.uint8)
    for stored in present:
        table[stored] = label_values.get(stored, 0)
    return table[labels], present


def _small(data: NDArray[Any], known: set[int]) -> tuple[UInt8Array | None, tuple[int, ...]]:
    """As uint8 with the values present; None where a value is beyond all that are known."""
    lowest, highest = int(data.min()), int(data.max())
    if lowest < 0 or highest > min(255, max(known)):
        return None, ()
    labels: UInt8Array = np.asarray(data, dtype=np.uint8)
    return labels, tuple(value for value in range(highest + 1) if (labels == value).any())


def _unknown(data: NDArray[Any], known: set[int]) -> str:
    return ", ".join([str(int(value)) for value in np.unique(data) if value not in known][:5])
