"""Volumes on voxels of another size, about the same centre, and labels back on the voxels they came from.

Axes keep their directions. Images are interpolated linearly; labels take the value of the nearest voxel, so that no
value arises that was not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

#: Spacings closer than this, relatively, are one: nothing is resampled for the rounding of a header.
SAME = 1e-3


@dataclass(frozen=True)
class Resampling:
    """From voxels of ``spacing_mm`` to voxels of ``to_mm``.

    Attributes
    ----------
    shape : of the volume before.
    spacing_mm, to_mm : voxel size along each axis, before and after.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    to_mm: tuple[float, float, float]

    @property
    def is_needed(self) -> bool:
        return not np.allclose(self.spacing_mm, self.to_mm, rtol=SAME, atol=0)

    @property
    def new_shape(self) -> tuple[int, int, int]:
        """Of the volume after: as many voxels as fill the same box, at least one."""
        x, y, z = (max(1, round(n * a / b)) for n, a, b in zip(self.shape, self.spacing_mm, self.to_mm, strict=True))
        return x, y, z

    def image(self, volume: NDArray[Any]) -> NDArray[np.float32]:
        """A volume on the new voxels, float32."""
        from scipy import ndimage

        scale, offset = self._steps()
        # Half a voxel beyond the last one there is nothing to interpolate with: its value goes on.
        resampled: NDArray[np.float32] = ndimage.affine_transform(
            np.asarray(volume, dtype=np.float32), scale, offset, self.new_shape, order=1, mode="nearest"
        )
        return resampled

    def labels(self, labels: UInt8Array) -> UInt8Array:
        """Labels on the new voxels."""
        scale, offset = self._steps()
        return _nearest(labels, self.new_shape, scale, offset)

    def labels_back(self, labels: UInt8Array) -> UInt8Array:
        """Labels of the new voxels on those from before."""
        scale, offset = self._steps()
        return _nearest(labels, self.shape, 1 / scale, -offset / scale)

    def _steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the new voxel ``i`` lies among the old ones: at ``scale * i + offset`` along each axis."""
        old, new = np.asarray(self.shape, float), np.asarray(self.new_shape, float)
        scale = np.asarray(self.to_mm) / np.asarray(self.spacing_mm)
        return scale, (old - 1) / 2 - scale * (new - 1) / 2


def _nearest(
    labels: UInt8Array, shape: Sequence[int], scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> UInt8Array:
    places = [
        np.clip(np.floor(scale[axis] * np.arange(shape[axis]) + offset[axis] + 0.5), 0, labels.shape[axis] - 1)
        for axis in range(3)
    ]
    picked: UInt8Array = labels[np.ix_(*(place.astype(np.intp) for place in places))]
    return picked
