"""The head of a phantom without its tumour: the ICBM 152 template, warped and re-drawn in a way of its own.

Each subject warps the template (affine, lobes to gyri, ventricles, the room that its tumour takes) and puts the
boundaries between its tissues somewhere else. Arrays are ``(z, y, x)``, lengths mm from the middle of the head.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit.data.phantom_fields import HALF_MM, Axes, FloatArray, noise, spline
from synthkit.errors import UsageError

#: Where the anchor of the template, the middle of the head, lies in it (voxels).
_ANCHOR = np.array([80.0, 114.0, 98.0])
#: Size of a BraTS head (SRI24 space) relative to MNI152.
_SCALE = np.array([0.92, 0.945, 0.94])
#: Distance between the nodes at which the warp is computed before a spline carries it to the voxels.
_NODE_MM = 4.0


# ------------------------------------------------------------------------------------------------- template


@dataclass(frozen=True)
class _Template:
    """ICBM 152 in the orientation of BraTS arrays, ``(z, y, x)``; ``depth_mm`` on every second voxel."""

    t1: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    white: NDArray[np.uint8]
    depth_mm: FloatArray
    #: Least-squares T1 of pure CSF, grey and white matter: what the template holds beyond this is detail.
    t1_of_tissues: FloatArray


def template_files() -> dict[str, Path]:
    """The maps ``t1``, ``gm`` and ``wm`` inside the nilearn wheel, found without importing nilearn.

    Raises
    ------
    UsageError : nilearn, or the template in it, is not installed.
    """
    spec = importlib.util.find_spec("nilearn")
    folders = [Path(folder, "datasets", "data") for folder in (spec and spec.submodule_search_locations) or ()]
    files = {}
    for kind in ("t1", "gm", "wm"):
        found = [path for folder in folders for path in folder.glob(f"mni_icbm152_{kind}_tal_nlin_sym_*.nii.gz")]
        if not found:
            raise UsageError(
                "The phantom needs the MNI152 template that comes inside nilearn.",
                f"{'nilearn is not installed' if spec is None else f'This nilearn has no {kind} template'}.",
                "Install the extra that brings it: pip install 'synthkit-core[local]'.",
            )
        files[kind] = min(found)
    return files


@lru_cache(maxsize=1)
def _template() -> _Template:
    """Read the template, once a process (0.5 s)."""
    import nibabel

    maps: dict[str, NDArray[np.uint8]] = {}
    for kind, path in template_files().items():
        image: Any = nibabel.load(path)
        # BraTS arrays run from right to left and from front to back, the template the other way round.
        maps[kind] = np.ascontiguousarray(np.asarray(image.dataobj, dtype=np.uint8)[::-1, ::-1].T)
    brain = maps["t1"][::2, ::2, ::2] > 0
    inside = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1, 1:-1]
    depth = (2.0 * (inside - ndimage.distance_transform_edt(~brain))).astype(np.float32)
    rows = np.flatnonzero(maps["t1"])[::97]
    grey, white = (maps[kind].ravel()[rows] / 255.0 for kind in ("gm", "wm"))
    fractions = np.stack([1 - grey - white, grey, white], axis=1)
    pure = np.linalg.lstsq(fractions, maps["t1"].ravel()[rows].astype(float), rcond=None)[0].astype(np.float32)
    return _Template(maps["t1"], maps["gm"], maps["wm"], depth, pure)


# -------------------------------------------------------------------------------------------------- anatomy


@dataclass(frozen=True)
class TumourPlan:
    """What is decided about a tumour before there is anything to see: mm in the frame of the head."""

    centre: NDArray[np.float64]
    radius: float
    low_grade: bool


def rotation(rng: np.random.Generator, degrees: float) -> NDArray[np.float64]:
    """Rotation matrix of three angles drawn with this standard deviation."""
    from scipy.spatial.transform import Rotation

    matrix: NDArray[np.float64] = Rotation.from_euler("zyx", rng.normal(0, degrees, 3), degrees=True).as_matrix()
    return matrix


def turn(matrix: NDArray[np.float64], vectors: NDArray[Any]) -> FloatArray:
    """A matrix applied to vectors ``(3, z, y, x)``; not by BLAS, whose last digits depend on its threads."""
    return np.stack([sum(matrix[i, j] * vectors[j] for j in range(3)) for i in range(3)]).astype(np.float32)


def mixture(values: FloatArray, tissues: FloatArray) -> FloatArray:
    """What voxels of these tissues ``(3, n)`` show when the pure tissues show ``values`` (3)."""
    mixed: FloatArray = values[0] * tissues[0] + values[1] * tissues[1] + values[2] * tissues[2]
    return mixed


def _warp(rng: np.random.Generator, template: _Template) -> tuple[FloatArray, Axes, FloatArray, TumourPlan]:
    """Where each node of the head comes from: template voxels ``(3, z, y, x)``, nodes, depth in mm, and the tumour.

    Affine, then smooth displacements from the size of a lobe to that of a gyrus, then ventricles wider or
    narrower than the template's, then the room that the tumour takes (mass effect).
    """
    axes: Axes = tuple(  # type: ignore[assignment]
        np.arange(-half - 2 * _NODE_MM, half + 2.5 * _NODE_MM, _NODE_MM, dtype=np.float32) for half in HALF_MM
    )
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    matrix = rotation(rng, 2.0) / (_SCALE * rng.normal(1, 0.012) * rng.normal(1, 0.03, 3))
    source = turn(matrix, grid + rng.normal(0, 1.5, 3)[:, None, None, None])
    for axis in range(3):
        source[axis] += 4.0 * noise(rng, axes, 75.0) + 2.0 * noise(rng, axes, 45.0)
    # The skull is smooth: it follows the coarse part of the warp alone, and holds the finer part back.
    depth = _sample(template.depth_mm, (source + _ANCHOR[:, None, None, None]) / 2)
    free = np.clip(depth / 16, 0.25, 1)
    for knot_mm, amplitude_mm in ((28.0, 2.8), (15.0, 1.8), (9.0, 1.1)):
        for axis in range(3):
            source[axis] += amplitude_mm * free * noise(rng, axes, knot_mm)
    # Magnifying around the frontal horns and the atria (mm from the anchor, y towards the back).
    for z, y, x in ((4.0, -30.0, 13.0), (2.0, 18.0, 24.0)):
        strength = rng.uniform(-0.15, 0.65)
        for side in (-1, 1):
            away = source - np.array([z, y, side * x], dtype=np.float32)[:, None, None, None]
            near = strength * rng.uniform(0.8, 1.2) * np.exp(-(away**2).sum(axis=0) / (2 * 15.0**2))
            source -= near * away

    white = _sample(template.white, source + _ANCHOR[:, None, None, None]) / 255
    # In the white matter of the cerebrum: not on the midline, not at the surface, not in brain stem or cerebellum.
    eligible = (white > 0.5) & (depth > 13) & (np.abs(source[2]) > 16) & (source[0] > -8)
    centre = grid[:, *rng.choice(np.argwhere(eligible))].astype(float) + rng.uniform(-2, 2, 3)
    plan = TumourPlan(centre, float(rng.uniform(11, 23)), bool(rng.random() < 0.12))

    # Tissue is incompressible: a ball of radius b at the centre moves what was at distance s to (s^3 + b^3)^(1/3).
    away = grid - centre[:, None, None, None]
    distance = np.sqrt((away**2).sum(axis=0)) + 1e-6
    ball = plan.radius * rng.uniform(0.4, 0.75)
    before = np.cbrt(np.maximum(distance**3 - ball**3, 0))
    yielding = np.clip((depth - 2) / 14, 0, 1)  # the skull does not move
    shift = (before / distance - 1) * yielding * away
    source += turn(matrix, shift)
    return (source + _ANCHOR[:, None, None, None]).astype(np.float32), axes, depth, plan


def _sample(volume: NDArray[Any], coordinates: NDArray[Any]) -> FloatArray:
    """Linear interpolation of a template volume; the nearest voxel's value beyond its faces."""
    values: FloatArray = ndimage.map_coordinates(volume, coordinates, np.float32, order=1, mode="nearest")
    return values


@dataclass
class Head:
    """A subject without its tumour: the box of voxels around it, and its brain voxels as flat arrays ``(n,)``."""

    axes: Axes
    brain: NDArray[np.bool_]
    depth: FloatArray
    #: CSF, grey and white matter, ``(3, n)``, adding up to 1.
    tissues: FloatArray
    #: Template intensity beyond what the tissues explain, in units of white matter.
    detail: FloatArray
    #: Where each voxel comes from in the template, mm from its anchor: up, back, left; ``(3, n)``.
    source: FloatArray
    #: The tumour to come.
    plan: TumourPlan

    def volume(self, values: NDArray[Any]) -> NDArray[Any]:
        """Brain voxels back in their box, 0 elsewhere."""
        box = np.zeros(self.brain.shape, dtype=values.dtype)
        box[self.brain] = values
        return box


def make_head(rng: np.random.Generator, axes: Axes) -> Head:
    """Anatomy of one subject in the voxels at ``axes`` (mm from the middle of the head)."""
    template = _template()
    nodes, node_axes, node_depth, plan = _warp(rng, template)
    start = [float(axis[0]) for axis in node_axes]
    depth = spline(node_depth, axes, _NODE_MM, start) + rng.uniform(-0.5, 1.0) + 0.6 * noise(rng, axes, 12.0)
    brain = depth > 0
    # Brain extraction cuts the brain stem at the edge of the field of view, never at the same place.
    brain &= (axes[0] > -61 + rng.normal(0, 2))[:, None, None]
    source = np.stack([spline(component, axes, _NODE_MM, start)[brain] for component in nodes])
    t1, grey, white = (_sample(volume, source) for volume in (template.t1, template.grey, template.white))
    tissues: FloatArray = np.stack([np.maximum(255 - grey - white, 0), grey, white]) / np.float32(255)  # type: ignore[assignment]
    # The smooth skull may hold more than the warped template's brain: CSF, without detail of its own.
    detail: FloatArray = (t1 > 0) * (t1 - mixture(template.t1_of_tissues, tissues)) / template.t1_of_tissues[2]

    # The template is an average, so its tissue maps are blurred. Sharpening log-odds that were shifted by a random
    # field puts the boundary somewhere else in every subject: sulci and gyri of its own.
    odds = 2.6 * np.log(tissues + 0.015)
    odds[0] += rng.normal(0, 0.35) + 1.3 * noise(rng, axes, 5.0)[brain]
    odds[2] += rng.normal(0, 0.25) + 0.8 * noise(rng, axes, 4.5)[brain]
    # Sulci that the average has lost: where a smooth field crosses zero, a sheet of CSF within a ribbon of cortex.
    fold = noise(rng, axes, 8.5)[brain] ** 2
    shallow = np.clip((20 - depth[brain]) / 8, 0, 1)
    odds[0] += 5.0 * shallow * np.exp(-fold / 0.025)
    odds[2] -= 3.5 * shallow * np.exp(-fold / 0.16)
    np.exp(odds, out=odds)
    odds /= odds.sum(axis=0)
    source -= _ANCHOR.astype(np.float32)[:, None]
    return Head(axes, brain, depth[brain], odds, detail, source, plan)
