"""What has to hold of the volumes of one subject: one grid, and voxels that are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.intensities import border_of, sampled
from synthkit.data.nifti import Volume
from synthkit.data.orientation import Turn, axis_codes, says_nothing
from synthkit.schemes import enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

# From so many mm on, at a corner, qform and sform contradict each other: single precision moves it by a hundredth.
_CONTRADICTS_MM = 1.0

# A mask has two values, a label map no more than this, of small whole numbers; of a mask that was resampled, between
# these percentiles of what is not background all is one. So many voxels tell it, and fewer of the brain say nothing.
_FEW_VALUES, _MOST_LABEL, _NEARLY_ALL, _LOOKED_AT, _FEWEST = 8, 31, (10, 90), 4000, 100

_LARGEST, _ROUNDING = float(np.finfo(np.float32).max), 1e-4

#: Begins what is said of a contrast that is none.
NO_IMAGE = "is no image"

#: Two grids are the same if no corner of the volume lies farther apart than this: a tenth of a BraTS voxel, a hundred
#: times what single precision in a header can move it.
AFFINE_TOLERANCE_MM = 0.1


def check_grid(first_name: str, first: Volume, name: str, volume: Volume) -> None:
    """ValueError, in words, unless two volumes are on one grid."""
    if volume.data.shape != first.data.shape:
        shapes = [f"{n} is {'x'.join(map(str, v.data.shape))}" for n, v in ((first_name, first), (name, volume))]
        raise ValueError(f"shapes disagree: {', '.join(shapes)}")
    distance = grid_distance_mm(first.affine, volume.affine, first.data.shape)
    if distance > AFFINE_TOLERANCE_MM:
        raise ValueError(f"affines disagree: {first_name} and {name} lie up to {distance:.3g} mm apart")


def on_the_grid_of(first: Volume, volume: Volume) -> Volume:
    """A volume in the array order of another where both have the same voxels by their affines; else as it is.

    Nothing is resampled. An affine that programs write which know of no orientation turns nothing.
    """
    turn = Turn.between(axis_codes(volume.affine), axis_codes(first.affine))
    data = turn.apply(volume.data) if volume.data.ndim == 3 else volume.data
    affine = volume.affine @ turn.places(volume.data.shape)
    is_same = data.shape == first.data.shape and grid_distance_mm(first.affine, affine, data.shape) <= (
        AFFINE_TOLERANCE_MM
    )
    if turn == Turn() or not is_same or says_nothing(volume.affine, volume.header, volume.data.shape):
        return volume
    return replace(volume, data=data, affine=affine, spacing_mm=turn.of_each_axis(volume.spacing_mm))


def grid_distance_mm(a: NDArray[np.float64], b: NDArray[np.float64], shape: Sequence[int]) -> float:
    """Largest distance in mm between the same corner voxel of a volume in two affines (4, 4)."""
    if np.array_equal(a, b):
        return 0.0
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape), [1])).reshape(4, -1)
    return float(np.linalg.norm(((a - b) @ corners)[:3], axis=0).max())


def two_affines(header: Any, shape: Sequence[int]) -> str | None:
    """That the qform and the sform of a header put voxels elsewhere, and which is used; None where they agree.

    Lengths are those of the header's unit. NIfTI lets both be set, for two spaces; programs differ in which one they
    read, and nothing here can tell which one is true.
    """
    if not int(header["qform_code"]) or not int(header["sform_code"]):
        return None
    by_qform, by_sform = header.get_qform(), header.get_sform()
    distance = grid_distance_mm(by_qform, by_sform, shape[:3])
    if distance <= _CONTRADICTS_MM:
        return None
    return (
        f"qform and sform contradict each other, by up to {distance:.3g} mm: the sform ({axis_codes(by_sform)}) is "
        f"used, the qform ({axis_codes(by_qform)}) is not; if the qform is true, write it to the sform"
    )


def two_affines_of_file(path: Path) -> str | None:
    """As :func:`two_affines`, by the header of a file; None for one that is no NIfTI, which says so when it is read."""
    import nibabel as nib

    try:
        image: Any = nib.load(path)  # type: ignore[attr-defined]
        return two_affines(image.header, image.shape)
    except Exception:  # nibabel's parsers raise whatever the bytes make them stumble over
        return None


def is_default_affine(affine: NDArray[np.float64], shape: Sequence[int]) -> bool:
    """Whether an affine is what programs write that know of no place: 1 mm, no turn, origin in a corner or centre."""
    origin = np.abs(affine[:3, 3])
    centre = (np.asarray(shape[:3]) - 1) / 2
    unturned = np.allclose(np.abs(affine[:3, :3]), np.eye(3), atol=1e-4)
    return bool(unturned and (np.allclose(origin, 0, atol=1e-4) or np.allclose(origin, centre, atol=1e-4)))


def check_content(name: str, data: NDArray[Any]) -> None:
    """ValueError, in words, for NaN, infinity, and a volume with one value everywhere or in its brain, or with few."""
    # float32 sums do not miss a NaN or infinity, and a sum needs no array of booleans; an overflow is looked at again.
    with np.errstate(all="ignore"):
        suspect = data.dtype.kind == "f" and not np.isfinite(data.sum())
    if suspect and (n_bad := int(data.size - np.count_nonzero(np.isfinite(data)))):
        raise ValueError(f"{name} holds NaN or infinity in {n_bad} voxel{'s' if n_bad > 1 else ''}{_around(data)}")
    first = data[0, 0, 0]
    if (data[:, :, data.shape[2] // 2] == first).all() and (data == first).all():
        raise ValueError(f"{name} is empty: all voxels are {first:g}")
    if kind := _no_image(data):
        raise ValueError(
            f"{name} {NO_IMAGE}: {kind}; put the image there, or say which file it is by --names {name}=..."
        )


def _around(data: NDArray[Any]) -> str:
    """What to do where NaN stands for the background; "" where it does not."""
    if np.count_nonzero(np.isnan(border_of(data))) * 2 < border_of(data).size or np.isinf(data).any():
        return ""
    low = float(np.nanmin(data))
    value = 0.0 if low >= 0 else np.floor(low) - 1
    return (
        ", which stand for its background: write one value to them that is no part of the brain, such as "
        f"`np.nan_to_num(array, nan={value:g})`"
    )


def _no_image(data: NDArray[Any]) -> str:
    """That a volume holds what masks and label maps hold, in words; "" if it does not."""
    every = sampled(data).ravel()
    some = every[:: max(1, every.size // _LOOKED_AT)]
    if data.dtype.kind == "f" and (largest := float(np.abs(some).max())) > _LARGEST:
        return f"its values reach {largest:.2g}, more than single precision holds"
    brain = some[some != np.median([data[corner] for corner in product((0, -1), repeat=3)])]
    if brain.size < _FEWEST:
        return ""
    if len(np.unique(brain)) < _FEW_VALUES:
        values = np.unique(every)
        is_of_labels = np.abs(values).max() <= _MOST_LABEL and not np.any(values % 1)
        if len(values) <= 2 or (len(values) <= _FEW_VALUES and is_of_labels):
            listed = enumerated([f"{value:g}" for value in values])
            return f"it holds {listed} alone, as a mask or a label map"
    low, high = np.percentile(brain, _NEARLY_ALL)
    if high - low <= _ROUNDING * abs(high):
        return f"nearly all of what is not background is {high:.4g}, as of a mask"
    return ""
