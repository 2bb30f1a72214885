"""A phantom: brain-tumour subjects with real anatomy, made from nothing but an installed wheel.

The anatomy is the ICBM 152 template (Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033): T1, grey and white
matter maps that travel inside the nilearn wheel. Each subject warps it in its own way, re-draws the boundaries
between its tissues, grows a tumour with exact labels, and is imaged in four contrasts. Written as BraTS 2020 is:
skull-stripped NIfTI, 240x240x155 at 1 mm. These are not patients, and the header of every file says so.

Arrays are ``(z, y, x)`` inside this module, so that the ``(x, y, z)`` arrays it returns already lie in the order
of a NIfTI file. Lengths are mm. Everything random is drawn on grids of knots that do not depend on the voxels, so a
subject is the same head at every voxel size.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from synthkit.errors import NotWritableError, UsageError

FloatArray = NDArray[np.float32]
Axes = tuple[FloatArray, FloatArray, FloatArray]

#: Part of every file's description: subjects of another version are not taken for this one's.
VERSION = 1
CONTRASTS = ("t1", "t1ce", "t2", "flair")
NECROSIS, OEDEMA, ENHANCING = 1, 2, 4

_SHAPE = (240, 240, 155)
#: Half the side of the box that holds every head, and of the box that knots cover, (z, y, x).
_HALF = np.array([80.0, 102.0, 82.0])
#: The smallest field of view that holds every head, (x, y, z).
_FIELD_MM = (160, 208, 150)
#: Where the anchor of the template lies in the BraTS grid (voxels from its centre) and in the template (voxels).
_CENTRE = np.array([-9.0, 8.0, -2.0])
_ANCHOR = np.array([80.0, 114.0, 98.0])
#: Size of a BraTS head (SRI24 space) relative to MNI152.
_SCALE = np.array([0.92, 0.945, 0.94])
#: Distance between the nodes at which the warp is computed before a spline carries it to the voxels.
_NODE_MM = 4.0

#: Mean intensity of CSF, grey and white matter (columns), then necrosis, oedema, enhancing tumour, relative to
#: white matter. From the ratios in BraTS subjects, rounded.
_TISSUES: dict[str, tuple[float, float, float, float, float, float]] = {
    "t1": (0.34, 0.74, 1.0, 0.52, 0.76, 0.70),
    "t1ce": (0.33, 0.76, 1.0, 0.52, 0.74, 1.65),
    "t2": (2.95, 1.36, 1.0, 2.45, 2.05, 1.85),
    "flair": (0.42, 1.22, 1.0, 1.45, 1.95, 1.70),
}


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


def _template_files() -> dict[str, Path]:
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
    for kind, path in _template_files().items():
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


# -------------------------------------------------------------------------------------------- smooth fields


def _basis(positions_mm: FloatArray, knot_mm: float, start_mm: float, count: int) -> Any:
    """Cubic B-spline weights ``(positions, count)`` as a sparse matrix with four entries a row."""
    u = (positions_mm - start_mm) / knot_mm
    first = np.clip(np.floor(u).astype(np.int64), 1, count - 3)
    t = (u - first).astype(np.float32)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    columns = first[:, None] + np.arange(-1, 3)
    rows = np.repeat(np.arange(len(u)), 4)
    return sparse.csr_array((weights.ravel(), (rows, columns.ravel())), shape=(len(u), count), dtype=np.float32)


def _spline(control: FloatArray, axes: Axes, knot_mm: float, start_mm: Sequence[float]) -> FloatArray:
    """Tensor-product cubic B-spline with these control points at every voxel of ``axes``, ``(z, y, x)``.

    Sparse products rather than BLAS: four terms a voxel, and sums that do not depend on the number of threads.
    """
    values = control
    for axis in (2, 1, 0):  # the longest product last: then no large array is ever transposed
        moved = np.ascontiguousarray(np.moveaxis(values, axis, 0))
        matrix = _basis(axes[axis], knot_mm, start_mm[axis], moved.shape[0])
        product = (matrix @ moved.reshape(moved.shape[0], -1)).reshape(-1, *moved.shape[1:])
        values = np.moveaxis(product, 0, axis)
    return values


def _noise(rng: np.random.Generator, axes: Axes, knot_mm: float) -> FloatArray:
    """A smooth Gaussian random field of about unit variance with details of ``knot_mm``."""
    counts = np.ceil(2 * _HALF / knot_mm).astype(int) + 7
    start = -(counts - 1) / 2 * knot_mm
    control = rng.standard_normal(counts, dtype=np.float32)
    # The squares of the four weights add up to 151/315 on average along each axis.
    return _spline(control * np.float32((315 / 151) ** 1.5), axes, knot_mm, start.tolist())


# -------------------------------------------------------------------------------------------------- anatomy


@dataclass(frozen=True)
class _Plan:
    """What is decided about a tumour before there is anything to see: mm in the frame of the head."""

    centre: NDArray[np.float64]
    radius: float
    low_grade: bool


def _rotation(rng: np.random.Generator, degrees: float) -> NDArray[np.float64]:
    """Rotation matrix of three angles drawn with this standard deviation."""
    from scipy.spatial.transform import Rotation

    matrix: NDArray[np.float64] = Rotation.from_euler("zyx", rng.normal(0, degrees, 3), degrees=True).as_matrix()
    return matrix


def _turn(matrix: NDArray[np.float64], vectors: NDArray[Any]) -> FloatArray:
    """A matrix applied to vectors ``(3, z, y, x)``; not by BLAS, whose last digits depend on its threads."""
    return np.stack([sum(matrix[i, j] * vectors[j] for j in range(3)) for i in range(3)]).astype(np.float32)


def _mixture(values: FloatArray, tissues: FloatArray) -> FloatArray:
    """What voxels of these tissues ``(3, n)`` show when the pure tissues show ``values`` (3)."""
    mixed: FloatArray = values[0] * tissues[0] + values[1] * tissues[1] + values[2] * tissues[2]
    return mixed


def _warp(rng: np.random.Generator, template: _Template) -> tuple[FloatArray, Axes, FloatArray, _Plan]:
    """Where each node of the head comes from: template voxels ``(3, z, y, x)``, nodes, depth in mm, and the tumour.

    Affine, then smooth displacements from the size of a lobe to that of a gyrus, then ventricles wider or
    narrower than the template's, then the room that the tumour takes (mass effect).
    """
    axes: Axes = tuple(  # type: ignore[assignment]
        np.arange(-half - 2 * _NODE_MM, half + 2.5 * _NODE_MM, _NODE_MM, dtype=np.float32) for half in _HALF
    )
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    matrix = _rotation(rng, 2.0) / (_SCALE * rng.normal(1, 0.012) * rng.normal(1, 0.03, 3))
    source = _turn(matrix, grid + rng.normal(0, 1.5, 3)[:, None, None, None])
    for axis in range(3):
        source[axis] += 4.0 * _noise(rng, axes, 75.0) + 2.0 * _noise(rng, axes, 45.0)
    # The skull is smooth: it follows the coarse part of the warp alone, and holds the finer part back.
    depth = _sample(template.depth_mm, (source + _ANCHOR[:, None, None, None]) / 2)
    free = np.clip(depth / 16, 0.25, 1)
    for knot_mm, amplitude_mm in ((28.0, 2.8), (15.0, 1.8), (9.0, 1.1)):
        for axis in range(3):
            source[axis] += amplitude_mm * free * _noise(rng, axes, knot_mm)
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
    plan = _Plan(centre, float(rng.uniform(11, 23)), bool(rng.random() < 0.12))

    # Tissue is incompressible: a ball of radius b at the centre moves what was at distance s to (s^3 + b^3)^(1/3).
    away = grid - centre[:, None, None, None]
    distance = np.sqrt((away**2).sum(axis=0)) + 1e-6
    ball = plan.radius * rng.uniform(0.4, 0.75)
    before = np.cbrt(np.maximum(distance**3 - ball**3, 0))
    yielding = np.clip((depth - 2) / 14, 0, 1)  # the skull does not move
    shift = (before / distance - 1) * yielding * away
    source += _turn(matrix, shift)
    return (source + _ANCHOR[:, None, None, None]).astype(np.float32), axes, depth, plan


def _sample(volume: NDArray[Any], coordinates: NDArray[Any]) -> FloatArray:
    """Linear interpolation of a template volume; the nearest voxel's value beyond its faces."""
    values: FloatArray = ndimage.map_coordinates(volume, coordinates, np.float32, order=1, mode="nearest")
    return values


@dataclass
class _Head:
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
    plan: _Plan

    def volume(self, values: NDArray[Any]) -> NDArray[Any]:
        """Brain voxels back in their box, 0 elsewhere."""
        box = np.zeros(self.brain.shape, dtype=values.dtype)
        box[self.brain] = values
        return box


def _head(rng: np.random.Generator, axes: Axes) -> _Head:
    """Anatomy of one subject in the voxels at ``axes`` (mm from the middle of the head)."""
    template = _template()
    nodes, node_axes, node_depth, plan = _warp(rng, template)
    start = [float(axis[0]) for axis in node_axes]
    depth = _spline(node_depth, axes, _NODE_MM, start) + rng.uniform(-0.5, 1.0) + 0.6 * _noise(rng, axes, 12.0)
    brain = depth > 0
    # Brain extraction cuts the brain stem at the edge of the field of view, never at the same place.
    brain &= (axes[0] > -61 + rng.normal(0, 2))[:, None, None]
    source = np.stack([_spline(component, axes, _NODE_MM, start)[brain] for component in nodes])
    t1, grey, white = (_sample(volume, source) for volume in (template.t1, template.grey, template.white))
    tissues: FloatArray = np.stack([np.maximum(255 - grey - white, 0), grey, white]) / np.float32(255)  # type: ignore[assignment]
    # The smooth skull may hold more than the warped template's brain: CSF, without detail of its own.
    detail: FloatArray = (t1 > 0) * (t1 - _mixture(template.t1_of_tissues, tissues)) / template.t1_of_tissues[2]

    # The template is an average, so its tissue maps are blurred. Sharpening log-odds that were shifted by a random
    # field puts the boundary somewhere else in every subject: sulci and gyri of its own.
    odds = 2.6 * np.log(tissues + 0.015)
    odds[0] += rng.normal(0, 0.35) + 1.3 * _noise(rng, axes, 5.0)[brain]
    odds[2] += rng.normal(0, 0.25) + 0.8 * _noise(rng, axes, 4.5)[brain]
    # Sulci that the average has lost: where a smooth field crosses zero, a sheet of CSF within a ribbon of cortex.
    fold = _noise(rng, axes, 8.5)[brain] ** 2
    shallow = np.clip((20 - depth[brain]) / 8, 0, 1)
    odds[0] += 5.0 * shallow * np.exp(-fold / 0.025)
    odds[2] -= 3.5 * shallow * np.exp(-fold / 0.16)
    np.exp(odds, out=odds)
    odds /= odds.sum(axis=0)
    source -= _ANCHOR.astype(np.float32)[:, None]
    return _Head(axes, brain, depth[brain], odds, detail, source, plan)


# -------------------------------------------------------------------------------------------------- tumour


def _local(head: _Head, reach_mm: float) -> tuple[slice, slice, slice]:
    """The part of the box within ``reach_mm`` of the tumour's centre, axis by axis."""
    bounds = [
        np.searchsorted(axis, (centre - reach_mm, centre + reach_mm))
        for axis, centre in zip(head.axes, head.plan.centre, strict=True)
    ]
    return tuple(slice(int(low), int(high)) for low, high in bounds)  # type: ignore[return-value]


def _grow(rng: np.random.Generator, head: _Head) -> tuple[NDArray[np.uint8], tuple[slice, slice, slice]]:
    """Labels around the tumour and where in the box they lie.

    Core, necrosis and oedema are sets below a threshold of one deformed distance, so they nest. Necrosis keeps at
    least one voxel from the surface of the core: in a tumour that enhances, the rim is closed.
    """
    plan = head.plan
    reach = float(rng.uniform(4, 19)) * (0.5 if plan.low_grade else 1.0)
    where = _local(head, 1.5 * plan.radius + 1.8 * reach + 4)
    axes: Axes = tuple(axis[part] for axis, part in zip(head.axes, where, strict=True))  # type: ignore[assignment]
    brain = head.brain[where]
    csf, white, depth = (head.volume(values)[where] for values in (head.tissues[0], head.tissues[2], head.depth))
    grid = np.stack(np.meshgrid(*axes, indexing="ij")) - plan.centre.astype(np.float32)[:, None, None, None]
    stretch = _rotation(rng, 60.0) * np.exp(rng.normal(0, 0.16, 3))
    distance = np.sqrt((_turn(stretch, grid) ** 2).sum(axis=0))
    distance += plan.radius * (0.26 * _noise(rng, axes, 13.0) + 0.09 * _noise(rng, axes, 6.0))

    ventricle = (csf > 0.5) & (depth > 18)
    core = _largest(brain & (distance < plan.radius) & ~ventricle)
    rim = rng.uniform(2.0, 0.45 * plan.radius) * (1 + 0.35 * _noise(rng, axes, 10.0))
    if plan.low_grade:
        necrosis = core
    else:
        necrosis = (distance < plan.radius - np.maximum(rim, 1.5)) & ndimage.binary_erosion(core)
    # Oedema runs along white matter and stops at the cortex and the ventricles.
    conduct = 0.1 + 1.15 * ndimage.gaussian_filter(white, 1.2)
    front = plan.radius + reach * conduct * (1 + 0.35 * _noise(rng, axes, 16.0))
    spread = _largest(core | (brain & (distance < front) & (csf < 0.4)))
    labels = np.zeros(core.shape, dtype=np.uint8)
    labels[spread] = OEDEMA
    labels[core] = ENHANCING
    labels[necrosis] = NECROSIS
    return labels, where


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest of the mask's connected parts (6 neighbours)."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = parts == 1 + int(np.argmax(np.bincount(parts[mask])[1:]))
    return largest


# --------------------------------------------------------------------------------------------------- images


def _vessels(rng: np.random.Generator, head: _Head) -> FloatArray:
    """How much of each brain voxel enhances without being tumour, 0..1: vessels, sagittal sinus, choroid plexus."""
    first, second = _noise(rng, head.axes, 13.0)[head.brain], _noise(rng, head.axes, 13.0)[head.brain]
    # Two smooth fields vanish together on curves: thin tubes, kept in the CSF of the sulci.
    tubes = np.exp(-(first**2 + second**2) / 0.012) * np.clip(3 * head.tissues[0], 0, 1) * (head.depth < 20)
    z, y, x = head.source
    midline = np.abs(x)
    sinus = (
        np.exp(-((midline / 3.0) ** 2) - (np.maximum(head.depth - 1, 0) / 3.0) ** 2) * ((y > 5) | (z > 40)) * (z > 0)
    )
    atrium = np.exp(-((z + 1) ** 2 + (y - 22) ** 2 + (midline - 24) ** 2) / (2 * 6.0**2))
    plexus = atrium * (head.tissues[0] > 0.6) * np.clip(0.5 + first, 0, 1)
    vessels: FloatArray = np.clip(0.9 * tubes + rng.uniform(0.4, 1.0) * sinus + 0.7 * plexus, 0, 1).astype(np.float32)
    return vessels


def _caps(head: _Head) -> FloatArray:
    """White matter next to the ventricles, 0..1 in each brain voxel: where FLAIR is brighter in most adults."""
    ventricle = head.volume((head.tissues[0] * (head.depth > 18)).astype(np.float32))[::2, ::2, ::2]
    step = float(2 * (head.axes[0][1] - head.axes[0][0]))
    blurred = np.pad(ndimage.gaussian_filter(ventricle, 3.0 / step), 2)
    start = [float(axis[0]) - 2 * step for axis in head.axes]
    near = _spline(blurred, head.axes, step, start)[head.brain]
    caps: FloatArray = np.clip(2.5 * near, 0, 1) * head.tissues[2]
    return caps


def _images(
    rng: np.random.Generator, head: _Head, labels: NDArray[np.uint8], where: tuple[slice, slice, slice], voxel_mm: float
) -> dict[str, NDArray[np.int16]]:
    """The four contrasts of the box, int16, 0 outside the brain and at least 1 inside."""
    # Partial volume: each tissue of the tumour fills a blurred version of its label.
    fractions = [
        ndimage.gaussian_filter((labels == label).astype(np.float32), 0.7 / voxel_mm)
        for label in (NECROSIS, OEDEMA, ENHANCING)
    ]
    local_axes: Axes = tuple(axis[part] for axis, part in zip(head.axes, where, strict=True))  # type: ignore[assignment]
    patchy = _noise(rng, local_axes, 5.0)
    # Oedema is water in tissue that is still there: it only partly covers what lies below.
    fractions[1] *= np.clip(rng.uniform(0.6, 0.85) + 0.15 * _noise(rng, local_axes, 11.0), 0.25, 1)
    covered = np.clip(1 - sum(fractions), 0, 1)

    vessels = _vessels(rng, head)
    texture = _noise(rng, head.axes, 4.0)[head.brain]
    lobes = _noise(rng, head.axes, 24.0)[head.brain]
    caps = _caps(head) * rng.uniform(0.1, 0.5)
    images = {}
    for contrast in CONTRASTS:
        means = np.array(_TISSUES[contrast]) * np.exp(rng.normal(0, [0.12, 0.05, 0.0, 0.10, 0.06, 0.08]))
        if head.plan.low_grade and contrast != "t2":
            means[3] *= 1.2  # solid tumour rather than necrosis
        detail = {"t1": 1.0, "t1ce": 0.9, "t2": -0.8, "flair": -0.35}[contrast]
        values = _mixture(means[:3].astype(np.float32), head.tissues) + np.float32(detail) * head.detail * (
            1 - head.tissues[0]
        )
        enhanced = {"t1": 0.9, "t1ce": rng.uniform(1.7, 2.3), "t2": 0.7, "flair": 0.6}[contrast]
        values += caps * np.float32({"t1": -0.15, "t1ce": -0.15, "t2": 0.3, "flair": 0.9}[contrast])
        values += vessels * (np.float32(enhanced) - values)
        box = head.volume(values.astype(np.float32))
        part = box[where]
        part *= covered
        for fraction, mean, roughness in zip(fractions, means[3:], (0.10, 0.05, 0.14), strict=True):
            part += fraction * np.float32(mean) * (1 + np.float32(roughness) * patchy)
        values = box[head.brain]
        bias = np.exp(0.05 * _noise(rng, head.axes, 70.0)[head.brain] + 0.015 * lobes)
        grain = 0.012 * texture * rng.choice((-1, 1)) + 0.03 * _noise(rng, head.axes, 2.2)[head.brain]
        grain += 0.012 * rng.standard_normal(values.shape, dtype=np.float32)
        brightness = rng.uniform(250, 700)
        image = np.zeros(head.brain.shape, dtype=np.int16)
        image[head.brain] = np.clip(brightness * bias * (values + grain), 1, 32767)
        images[contrast] = image
    return images


# ------------------------------------------------------------------------------------------------- subjects


def affine(shape: tuple[int, int, int] = _SHAPE, spacing_mm: float = 1.0) -> NDArray[np.float64]:
    """Voxel indices to mm as in BraTS files: the first two axes run from right to left and from front to back."""
    matrix = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    matrix[1, 3] = (shape[1] - 1) * spacing_mm
    return matrix


def make_subject(
    index: int, seed: int, *, shape: tuple[int, int, int] = _SHAPE, spacing_mm: float = 1.0
) -> dict[str, NDArray[Any]]:
    """One subject: ``t1``, ``t1ce``, ``t2``, ``flair`` (int16, background 0) and ``seg`` (uint8; 0, 1, 2, 4).

    Parameters
    ----------
    index, seed : the subject depends on these two alone; both are at least 0.
    shape : voxels ``(x, y, z)``.
    spacing_mm : side of a voxel. A coarser grid shows the same head: ``shape=(120, 120, 78), spacing_mm=2``.

    Raises
    ------
    UsageError : nilearn is not installed, index or seed is out of range, or the grid does not hold a head.
    """
    if not (0 <= index < 2**31 and 0 <= seed < 2**63):
        raise UsageError(
            f"There is no phantom subject {index} of seed {seed}.",
            "Both are whole numbers from 0, below 2^31 and 2^63.",
            "Choose another.",
        )
    if any(n * spacing_mm < need for n, need in zip(shape, _FIELD_MM, strict=True)):
        raise UsageError(
            f"A head does not fit into {shape} voxels of {spacing_mm} mm.",
            f"It needs {_FIELD_MM} mm.",
            "Use more voxels, or larger ones.",
        )
    rng = np.random.default_rng([seed, index])
    count = np.array(shape[::-1])
    axes, slices = [], []
    for axis in range(3):
        positions = (np.arange(count[axis]) - (count[axis] - 1) / 2) * spacing_mm - _CENTRE[axis]
        inside = np.flatnonzero(np.abs(positions) <= _HALF[axis])
        axes.append(positions[inside].astype(np.float32))
        slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
    head = _head(rng, (axes[0], axes[1], axes[2]))
    labels, where = _grow(rng, head)
    images = _images(rng, head, labels, where, spacing_mm)
    seg = np.zeros(head.brain.shape, dtype=np.uint8)
    seg[where] = labels
    boxes: dict[str, NDArray[Any]] = {**images, "seg": seg}
    subject = {}
    for name, box in boxes.items():
        full = np.zeros(count, dtype=box.dtype)
        full[tuple(slices)] = box
        subject[name] = full.T
    return subject


# ------------------------------------------------------------------------------------------------- writing


def subject_name(index: int) -> str:
    """Name of a subject's folder, and the beginning of its files' names."""
    return f"Phantom_{index:04d}"


def _description(index: int, seed: int) -> bytes:
    """What the header of each file of a subject says it is (NIfTI ``descrip``, at most 79 bytes)."""
    return f"synthkit phantom {VERSION}, seed {seed}, subject {index}: not a patient".encode()


def _is_written(folder: Path, index: int, seed: int) -> bool:
    """Whether this subject is there already.

    Raises
    ------
    UsageError : the folder holds something else.
    """
    if not folder.exists():
        return False
    try:
        for name in (*CONTRASTS, "seg"):
            with gzip.open(folder / f"{folder.name}_{name}.nii.gz") as file:
                if file.read(348)[148:228].rstrip(b"\0") != _description(index, seed):
                    break
        else:
            return True
    except (OSError, EOFError):
        pass
    raise UsageError(
        f"{folder} is there already and is not subject {index} of seed {seed}.",
        "Subjects of two seeds or versions must not be mixed under the same names.",
        "Choose another output folder, or remove this one.",
    )


def _write_subject(out: Path, index: int, seed: int) -> Path:
    """Write one subject into a folder that appears when it is complete."""
    import nibabel

    folder = out / subject_name(index)
    unfinished = out / f".{folder.name}.part"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, volume in make_subject(index, seed).items():
            image: Any = nibabel.Nifti1Image(volume, affine())  # type: ignore[no-untyped-call]
            image.header["descrip"] = _description(index, seed)
            image.header.set_xyzt_units("mm")
            # Level 1 and no time stamp: quick, and the same bytes every time.
            packed = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
            (unfinished / f"{folder.name}_{name}.nii.gz").write_bytes(packed)
        unfinished.rename(folder)
    except OSError as error:
        raise NotWritableError(
            f"Subject {folder.name} could not be written to {out}.",
            str(error),
            "Free some space or choose another folder.",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _leave_interrupts_to_the_parent() -> None:
    """A worker finishes the subject it is at; the parent then gives it no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_phantom(
    out: Path,
    n: int,
    seed: int,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write subjects 1 to ``n`` as ``out/Phantom_0001/Phantom_0001_t1.nii.gz`` and so on; returns their folders.

    Each subject appears at once and complete. Those that are there already are kept, so an interrupted call can be
    repeated, and a larger ``n`` adds to what is there.

    Parameters
    ----------
    workers : processes; as many as there are CPU cores, at most 8, by default (each needs about 0.6 GB).
    progress : called with the subjects done and ``n``, in this process.

    Raises
    ------
    UsageError : nilearn is not installed, or a folder of that name holds something else.
    NotWritableError : the disk is full or the folder cannot be written.
    """
    out = Path(out)
    folders = {index: out / subject_name(index) for index in range(1, n + 1)}
    missing = [index for index, folder in folders.items() if not _is_written(folder, index, seed)]
    done = n - len(missing)
    if missing:
        _template_files()  # the user's mistake is told here, not by a worker
    if progress:
        progress(done, n)
    workers = min(workers or min(_cores(), 8), len(missing))
    if workers < 2:
        for index in missing:
            _write_subject(out, index, seed)
            done += 1
            if progress:
                progress(done, n)
        return list(folders.values())
    # A fresh interpreter a worker: forking a process whose libraries run threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_leave_interrupts_to_the_parent)
    try:
        for future in as_completed([pool.submit(_write_subject, out, index, seed) for index in missing]):
            future.result()
            done += 1
            if progress:
                progress(done, n)
    finally:
        pool.shutdown(cancel_futures=True)
    return list(folders.values())


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
