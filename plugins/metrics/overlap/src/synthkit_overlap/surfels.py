"""Hausdorff distances and surface Dice over surface elements, as surface-distance and the challenges take them.

The surface of a mask is drawn by marching cubes with vertices halfway between voxel centres: every 2 x 2 x 2 voxels
that are neither all inside nor all outside hold an element, whose place is the cube's and whose weight is its area.
Distances are between the cubes' places; percentiles and shares are of area (Nikolov et al., arXiv 1809.04430).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from synthkit_overlap.surfaces import Hausdorff, border_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Floats = NDArray[np.float64]

_Corner = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SurfaceElements:
    """Of each element of a surface ``(n,)``: its distance in mm to the nearest one of the other surface, its area."""

    distances_mm: Floats
    areas_mm2: Floats

    def percentile_mm(self) -> float:
        """The distance of the first element with which 95 % of the area is reached, in order of distance."""
        order = np.argsort(self.distances_mm)
        share = np.cumsum(self.areas_mm2[order]) / self.areas_mm2.sum()
        return float(self.distances_mm[order[min(int(np.searchsorted(share, 0.95)), order.size - 1)]])


def surface_elements(
    reference_mask: Mask, prediction_mask: Mask, spacing_mm: Sequence[float]
) -> tuple[SurfaceElements, SurfaceElements]:
    """The surface elements of the reference and of the prediction, in no particular order.

    Parameters
    ----------
    reference_mask, prediction_mask : bool ``(x, y, z)``, neither of them empty.
    spacing_mm : distance of neighbouring voxel centres along each axis, mm, positive.

    Raises
    ------
    ValueError : a mask is empty, or shapes or spacing do not fit.
    """
    codes: list[NDArray[np.uint8]] = []

    def border_of(box: Mask) -> Mask:
        code = _codes(box)
        codes.append(code)
        border: Mask = (code != 0) & (code != 255)
        return border

    pair = border_pair(reference_mask, prediction_mask, spacing_mm, border_of)
    areas = _areas_mm2(pair.spacing_mm)
    reference, prediction = (
        SurfaceElements(distances, areas[code.reshape(-1)[border.voxels]])
        for distances, code, border in zip(pair.distances_mm(), codes, (pair.reference, pair.prediction), strict=True)
    )
    return reference, prediction


def surfel_hd95(reference_mask: Mask, prediction_mask: Mask, spacing_mm: Sequence[float]) -> float:
    """The larger of the two directed 95th percentiles in mm; arguments and errors as for :func:`surface_elements`."""
    return max(side.percentile_mm() for side in surface_elements(reference_mask, prediction_mask, spacing_mm))


def surfel_hausdorff(reference: SurfaceElements, prediction: SurfaceElements) -> Hausdorff:
    """Hausdorff distances between two surfaces; the pooled percentile is that of the area of both together."""
    both = SurfaceElements(
        np.concatenate((reference.distances_mm, prediction.distances_mm)),
        np.concatenate((reference.areas_mm2, prediction.areas_mm2)),
    )
    return Hausdorff(
        pooled_mm=both.percentile_mm(),
        directed_mm=max(reference.percentile_mm(), prediction.percentile_mm()),
        maximum_mm=float(both.distances_mm.max()),
    )


def surfel_dice(reference: SurfaceElements, prediction: SurfaceElements, tolerance_mm: float) -> float:
    """Share, 0..1, of the area of both surfaces that lies within a tolerance (included) of the other one."""
    sides = (reference, prediction)
    within = sum(float(side.areas_mm2[side.distances_mm <= tolerance_mm].sum()) for side in sides)
    return within / sum(float(side.areas_mm2.sum()) for side in sides)


def _codes(box: Mask) -> NDArray[np.uint8]:
    """Which of the 2 x 2 x 2 voxels from each voxel on are inside: bit ``4 x + 2 y + z`` for the one at ``(x, y, z)``.

    The last voxel of an axis has its margin's neighbours for granted, which are outside.
    """
    code = box.astype(np.uint8)
    code[:, :, :-1] |= code[:, :, 1:] << 1
    code[:, :-1] |= code[:, 1:] << 2
    code[:-1] |= code[1:] << 4
    return code


# ------------------------------------------------------------------------------------------------- areas

_CORNERS: tuple[_Corner, ...] = tuple((x, y, z) for x, y, z in product((0, 1), repeat=3))


@lru_cache(maxsize=16)
def _areas_mm2(spacing_mm: tuple[float, float, float]) -> Floats:
    """Area in mm2 of the surface in a cube, for each code ``(256,)``.

    The corners of the minority, inside or outside, fall into pieces that hang together by edges of the cube, and each
    piece is cut off by a surface of its own: where both diagonals of a face are possible, corners stay apart.
    """
    areas = np.zeros(256)
    for code in range(256):
        inside = [corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1]
        few = inside if len(inside) <= 4 else [corner for corner in _CORNERS if corner not in inside]
        areas[code] = sum(_piece_mm2(piece, spacing_mm) for piece in _pieces(few))
    return areas


def _pieces(corners: Sequence[_Corner]) -> list[list[_Corner]]:
    pieces: list[list[_Corner]] = []
    for corner in corners:
        near = [piece for piece in pieces if any(_edge(corner, other) is not None for other in piece)]
        pieces = [piece for piece in pieces if piece not in near] + [[corner, *(c for piece in near for c in piece)]]
    return pieces


def _edge(first: _Corner, second: _Corner) -> int | None:
    """The axis of the edge between two corners; None if none joins them."""
    axes = [axis for axis in range(3) if first[axis] != second[axis]]
    return axes[0] if len(axes) == 1 else None


def _piece_mm2(piece: Sequence[_Corner], spacing_mm: tuple[float, float, float]) -> float:
    """Area of the triangles that cut a piece off: each from its vector area, in faces of the cube along each axis."""
    x, y, z = spacing_mm
    faces = np.array([y * z, x * z, x * y])
    whole = float(np.linalg.norm(faces))
    edges = [(_edge(a, b), a, b) for i, a in enumerate(piece) for b in piece[i + 1 :]]
    joined = [(axis, a, b) for axis, a, b in edges if axis is not None]

    def without(axis: int) -> float:
        return float(np.linalg.norm(np.delete(faces, axis)))

    if len(piece) == 1:  # a triangle
        return whole / 8
    if len(piece) == 2:  # two triangles, parallel to the edge
        return without(joined[0][0]) / 2
    if len(piece) == 3:  # three triangles; one in the plane of the corners, which has the third axis for its normal
        normal = 3 - joined[0][0] - joined[1][0]
        return float(faces[normal]) / 2 + whole * 3 / 8
    if len(joined) == 4:  # the four corners of a face
        normal = 3 - sum({axis for axis, _, _ in joined})
        return float(faces[normal])
    ends = [sum(corner in (a, b) for _, a, b in joined) for corner in piece]
    if max(ends) == 3:  # a corner and its three neighbours: a hexagon
        return whole * 3 / 4
    # A chain of three edges: four triangles, two of them parallel to an edge at the end.
    last = [corner for corner, n in zip(piece, ends, strict=True) if n == 1]
    return whole / 2 + sum(without(axis) for axis, a, b in joined if a in last or b in last) / 4
