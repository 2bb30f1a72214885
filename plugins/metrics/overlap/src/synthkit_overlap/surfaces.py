"""Hausdorff distances and surface Dice of two masks: border voxels, their distances, what is made of them.

Pure functions of arrays. The distances are exact Euclidean distances between voxel centres, found in three
steps, each of which leaves fewer voxels to the next:

1. A border voxel that both masks share has distance 0.
2. Offsets of a voxel's neighbourhood in order of their length: the first that hits the other border is the
   distance. Most voxels of two similar masks end here, after a few look-ups in an array.
3. A k-d tree of the other border answers for the voxels that are left, or, where these are many, the distance
   transform of the whole box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

# Half-width in voxels of the neighbourhood searched by look-ups.
_REACH = 2
#: A query of the tree takes as long as this many voxels of the distance transform.
_VOXELS_A_QUERY = 30
#: Empty voxels around both masks, so that no look-up leaves the box; one more, since surface elements lie between them.
MARGIN = _REACH + 1


@dataclass(frozen=True, slots=True)
class Hausdorff:
    """Hausdorff distances in mm: the 95th percentile by both conventions in use, and the maximum.

    Attributes
    ----------
    pooled_mm : 95th percentile of the distances of both directions together (MedPy, BraTS).
    directed_mm : the larger of the 95th percentiles of the two directions (MONAI).
    maximum_mm : the largest distance of either direction.
    """

    pooled_mm: float
    directed_mm: float
    maximum_mm: float

    @staticmethod
    def of(to_prediction: Floats, to_reference: Floats) -> Hausdorff:
        """From the distances of :func:`surface_distances`."""
        pooled = np.percentile(np.concatenate((to_prediction, to_reference)), 95)
        directed = max(np.percentile(to_prediction, 95), np.percentile(to_reference, 95))
        maximum = max(to_prediction.max(), to_reference.max())
        return Hausdorff(pooled_mm=float(pooled), directed_mm=float(directed), maximum_mm=float(maximum))


def hausdorff(reference_mask: Mask, prediction_mask: Mask, spacing_mm: Sequence[float]) -> Hausdorff:
    """Hausdorff distances between two masks, in mm.

    The percentile is NumPy's default (linear between order statistics), over all border voxels with the zeros
    of the shared ones. A border voxel belongs to the mask and has a face neighbour that does not; what lies
    outside the volume does not belong, so a mask cut off by the volume has a border there (as in MedPy).

    Parameters
    ----------
    reference_mask, prediction_mask : bool ``(x, y, z)``, neither of them empty.
    spacing_mm : distance of neighbouring voxel centres along each axis, mm, positive.

    Raises
    ------
    ValueError : a mask is empty (the distance to nothing is undefined; :mod:`synthkit_overlap.comparison` decides
        what to do about it), or shapes or spacing do not fit.
    """
    return Hausdorff.of(*surface_distances(reference_mask, prediction_mask, spacing_mm))


def surface_dice(to_prediction: Floats, to_reference: Floats, tolerance_mm: float) -> float:
    """Share of both borders that lies within a tolerance of the other one (normalised surface distance).

    From the distances of :func:`surface_distances`, every border voxel counting the same (as in MONAI; Nikolov et al.,
    arXiv 1809.04430, weigh surface elements by their area instead). In 0..1; ``tolerance_mm`` is within.
    """
    within = np.count_nonzero(to_prediction <= tolerance_mm) + np.count_nonzero(to_reference <= tolerance_mm)
    return within / (to_prediction.size + to_reference.size)


def surface_distances(
    reference_mask: Mask, prediction_mask: Mask, spacing_mm: Sequence[float]
) -> tuple[Floats, Floats]:
    """Distance in mm of each border voxel to the nearest border voxel of the other mask.

    Returns
    -------
    reference to prediction ``(n_reference,)``, prediction to reference ``(n_prediction,)``; in no particular
    order. Arguments and errors as for :func:`hausdorff`.
    """
    return border_pair(reference_mask, prediction_mask, spacing_mm).distances_mm()


def bounding_box(mask: NDArray[Any]) -> tuple[slice, slice, slice] | None:
    """The smallest box ``(x, y, z)`` that holds all that is not zero; None if all is zero."""
    # Each axis is searched in what the axes before it have left: the first pass reads the volume, the rest little.
    box = [slice(None)] * 3
    for axis in sorted(range(3), key=lambda i: -mask.strides[i]):
        others = tuple(i for i in range(3) if i != axis)
        used = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if used.size == 0:
            return None
        box[axis] = slice(int(used[0]), int(used[-1]) + 1)
    return box[0], box[1], box[2]


# ------------------------------------------------------------------------------------------------- borders


@dataclass(frozen=True, slots=True)
class Border:
    """Border voxels of one mask: as a flat map of the joint box with margin, and as indices into it."""

    map: Mask
    voxels: Indices


@dataclass(frozen=True, slots=True)
class BorderPair:
    """Two borders in one box. ``shape`` and ``spacing_mm`` belong to the box, whose axes may be permuted."""

    reference: Border
    prediction: Border
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def distances_mm(self, up_to_mm: float = np.inf) -> tuple[Floats, Floats]:
        """Of each voxel of a border to the other one, ``(n_reference,)`` and ``(n_prediction,)``, in their order.

        Distances beyond ``up_to_mm`` may be infinite: who only asks which ones are within it is answered sooner.
        """
        return (
            _distances(self.reference, self.prediction, self, up_to_mm),
            _distances(self.prediction, self.reference, self, up_to_mm),
        )


def border_pair(
    reference: Mask,
    prediction: Mask,
    spacing_mm: Sequence[float],
    border_of: Callable[[Mask], Mask] | None = None,
) -> BorderPair:
    """The borders of two masks in their joint bounding box; arguments and errors as for :func:`hausdorff`.

    ``border_of`` finds them in a mask with :data:`MARGIN` empty voxels on each side: border voxels if not given.
    """
    reference, prediction = np.asarray(reference, dtype=bool), np.asarray(prediction, dtype=bool)
    spacing = tuple(float(value) for value in spacing_mm)
    if reference.ndim != 3 or reference.shape != prediction.shape:
        raise ValueError(f"the masks must be (x, y, z) and alike, not {reference.shape} and {prediction.shape}")
    if len(spacing) != 3 or not all(0 < value < np.inf for value in spacing):
        raise ValueError(f"spacing_mm must be three positive numbers, not {spacing}")
    first, second = bounding_box(reference), bounding_box(prediction)
    if first is None or second is None:
        raise ValueError("the distance between surfaces is undefined: a mask is empty")
    box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    # NIfTI volumes come in Fortran order: read them in the order of memory; a distance does not mind.
    order = sorted(range(3), key=lambda axis: -reference.strides[axis])
    reference, prediction = reference[box].transpose(order), prediction[box].transpose(order)
    x, y, z = (side + 2 * MARGIN for side in reference.shape)
    find = border_of or _border_voxels
    maps = [find(np.pad(mask, MARGIN)).reshape(-1) for mask in (reference, prediction)]
    return BorderPair(
        reference=Border(map=maps[0], voxels=np.flatnonzero(maps[0])),
        prediction=Border(map=maps[1], voxels=np.flatnonzero(maps[1])),
        shape=(x, y, z),
        spacing_mm=(spacing[order[0]], spacing[order[1]], spacing[order[2]]),
    )


def _border_voxels(box: Mask) -> Mask:
    """Mask minus its erosion by the six face neighbours, in a box with an empty margin."""
    flat = box.reshape(-1)
    # Thanks to the margin, a neighbour is a shift of the flat array, and no shift wraps into the mask.
    step_x, step_y, n = box.shape[1] * box.shape[2], box.shape[2], flat.size
    inside = flat[step_x : n - step_x].copy()
    for step in (step_x, step_y, 1):
        inside &= flat[step_x + step : n - step_x + step]
        inside &= flat[step_x - step : n - step_x - step]
    border = flat.copy()
    border[step_x : n - step_x] ^= inside
    return border.reshape(box.shape)


# ----------------------------------------------------------------------------------------------- distances


@lru_cache(maxsize=16)
def _neighbourhood(spacing_mm: tuple[float, float, float]) -> tuple[tuple[tuple[int, int, int], float], ...]:
    """Offsets within ``_REACH`` voxels and their lengths in mm, the shortest first.

    Only lengths below that of the shortest offset outside the cube, so that the first hit is the nearest voxel.
    """
    limit = (_REACH + 1) * min(spacing_mm)
    steps = range(-_REACH, _REACH + 1)
    found = []
    for x in steps:
        for y in steps:
            for z in steps:
                length = float(np.sqrt((x * spacing_mm[0]) ** 2 + (y * spacing_mm[1]) ** 2 + (z * spacing_mm[2]) ** 2))
                if 0 < length < limit:
                    found.append(((x, y, z), length))
    return tuple(sorted(found, key=lambda item: item[1]))


def _distances(source: Border, target: Border, pair: BorderPair, up_to_mm: float) -> Floats:
    """Distance in mm of each voxel of ``source`` to the nearest of ``target``: the three steps of the module's head."""
    shared = target.map[source.voxels]
    distances = np.zeros(source.voxels.size)
    rows = np.flatnonzero(~shared)
    voxels = source.voxels[rows]
    step_x, step_y = pair.shape[1] * pair.shape[2], pair.shape[2]
    for (x, y, z), length_mm in _neighbourhood(pair.spacing_mm):
        if not rows.size:
            break
        hit = target.map[voxels + (x * step_x + y * step_y + z)]
        if hit.any():
            distances[rows[hit]] = length_mm
            rows, voxels = rows[~hit], voxels[~hit]
    if rows.size and up_to_mm < (_REACH + 1) * min(pair.spacing_mm):
        distances[rows] = np.inf
    elif rows.size * _VOXELS_A_QUERY > target.map.size:
        far = ndimage.distance_transform_edt(~target.map.reshape(pair.shape), sampling=pair.spacing_mm)
        distances[rows] = far.reshape(-1)[voxels]
    elif rows.size:
        # Few queries for each tree: one that is quick to build serves better than one that is quick to search.
        tree = cKDTree(_points(target.voxels, pair), leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[rows] = tree.query(_points(voxels, pair))[0]
    return distances


def _points(voxels: Indices, pair: BorderPair) -> Floats:
    """Coordinates ``(n, 3)`` in mm of flat indices into the box."""
    points: Floats = np.stack(np.unravel_index(voxels, pair.shape), axis=1) * np.asarray(pair.spacing_mm)
    return points
