"""From slices back to volumes: what a segmenter found, in the grid that each subject is stored in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from synthkit.data.slices import SliceProtocol, arrangement_of, window
from synthkit.data.subjects import SubjectVolumes
from synthkit.errors import DataError

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array


def to_native(
    label_slices: Sequence[UInt8Array] | UInt8Array | Iterator[UInt8Array],
    slice_indices: Sequence[int],
    volumes: SubjectVolumes,
    protocol: SliceProtocol,
) -> UInt8Array:
    """Put label slices back into the volume they were cut from: padding undone, reduced sizes enlarged by repetition,
    resampling and orientation undone.

    Parameters
    ----------
    label_slices : uint8 (y, x) each, in the order of ``slice_indices``; any iterable.
    slice_indices : index of each along the third axis of the arranged volume; slices not named are background.
    volumes : the subject as it was read.

    Returns
    -------
    uint8 (x, y, z), in the array order of the subject's own files.

    Raises
    ------
    DataError : a slice has the wrong shape, or there are more or fewer than indices.
    """
    how = arrangement_of(volumes, protocol)
    nx, ny, nz = how.shape
    (to_x, from_x), (to_y, from_y) = window(nx), window(ny)
    volume = np.zeros((nz, ny, nx), dtype=np.uint8)
    n = 0
    for n, pixels in enumerate(label_slices, start=1):
        if n > len(slice_indices) or pixels.shape != (protocol.size, protocol.size):
            raise _misfit(f"slice {n} of {len(slice_indices)} has shape {pixels.shape}", protocol)
        if protocol.factor > 1:
            pixels = pixels.repeat(protocol.factor, axis=0).repeat(protocol.factor, axis=1)
        volume[slice_indices[n - 1], to_y, to_x] = pixels[from_y, from_x]
    if n != len(slice_indices):
        raise _misfit(f"there are {n} slices for {len(slice_indices)} indices", protocol)
    return how.back(volume.transpose(2, 1, 0))


def _misfit(why: str, protocol: SliceProtocol) -> DataError:
    return DataError(
        "The label slices do not make a volume.",
        f"{why[:1].upper()}{why[1:]}, expected are {protocol.size}x{protocol.size} pixels and one slice an index.",
        "Check the segmenter that made them.",
    )
