"""The tumour of a phantom, and how the head with it looks in each contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthkit.data.phantom_anatomy import Head, mixture, rotation, turn
from synthkit.data.phantom_fields import Axes, FloatArray, noise, spline
from synthkit.schemes import BRATS

NECROSIS, OEDEMA, ENHANCING = (BRATS.label_values[name] for name in ("NCR", "ED", "ET"))

#: Mean intensity of CSF, grey and white matter (columns), then necrosis, oedema, enhancing tumour, relative to
#: white matter. From the ratios in BraTS subjects, rounded.
_TISSUES: dict[str, tuple[float, float, float, float, float, float]] = {
    "t1": (0.34, 0.74, 1.0, 0.52, 0.76, 0.70),
    "t1ce": (0.33, 0.76, 1.0, 0.52, 0.74, 1.65),
    "t2": (2.95, 1.36, 1.0, 2.45, 2.05, 1.85),
    "flair": (0.42, 1.22, 1.0, 1.45, 1.95, 1.70),
}


# -------------------------------------------------------------------------------------------------- tumour


def _local(head: Head, reach_mm: float) -> tuple[slice, slice, slice]:
    """The part of the box within ``reach_mm`` of the tumour's centre, axis by axis."""
    bounds = [
        np.searchsorted(axis, (centre - reach_mm, centre + reach_mm))
        for axis, centre in zip(head.axes, head.plan.centre, strict=True)
    ]
    return tuple(slice(int(low), int(high)) for low, high in bounds)  # type: ignore[return-value]


def grow_tumour(rng: np.random.Generator, head: Head) -> tuple[NDArray[np.uint8], tuple[slice, slice, slice]]:
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
    stretch = rotation(rng, 60.0) * np.exp(rng.normal(0, 0.16, 3))
    distance = np.sqrt((turn(stretch, grid) ** 2).sum(axis=0))
    distance += plan.radius * (0.26 * noise(rng, axes, 13.0) + 0.09 * noise(rng, axes, 6.0))

    ventricle = (csf > 0.5) & (depth > 18)
    core = _largest(brain & (distance < plan.radius) & ~ventricle)
    rim = rng.uniform(2.0, 0.45 * plan.radius) * (1 + 0.35 * noise(rng, axes, 10.0))
    if plan.low_grade:
        necrosis = core
    else:
        necrosis = (distance < plan.radius - np.maximum(rim, 1.5)) & ndimage.binary_erosion(core)
    # Oedema runs along white matter and stops at the cortex and the ventricles.
    conduct = 0.1 + 1.15 * ndimage.gaussian_filter(white, 1.2)
    front = plan.radius + reach * conduct * (1 + 0.35 * noise(rng, axes, 16.0))
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


def _vessels(rng: np.random.Generator, head: Head) -> FloatArray:
    """How much of each brain voxel enhances without being tumour, 0..1: vessels, sagittal sinus, choroid plexus."""
    first, second = noise(rng, head.axes, 13.0)[head.brain], noise(rng, head.axes, 13.0)[head.brain]
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


def _caps(head: Head) -> FloatArray:
    """White matter next to the ventricles, 0..1 in each brain voxel: where FLAIR is brighter in most adults."""
    ventricle = head.volume((head.tissues[0] * (head.depth > 18)).astype(np.float32))[::2, ::2, ::2]
    step = float(2 * (head.axes[0][1] - head.axes[0][0]))
    blurred = np.pad(ndimage.gaussian_filter(ventricle, 3.0 / step), 2)
    start = [float(axis[0]) - 2 * step for axis in head.axes]
    near = spline(blurred, head.axes, step, start)[head.brain]
    caps: FloatArray = np.clip(2.5 * near, 0, 1) * head.tissues[2]
    return caps


def make_images(
    rng: np.random.Generator, head: Head, labels: NDArray[np.uint8], where: tuple[slice, slice, slice], voxel_mm: float
) -> dict[str, NDArray[np.int16]]:
    """The four contrasts of the box, int16, 0 outside the brain and at least 1 inside."""
    # Partial volume: each tissue of the tumour fills a blurred version of its label.
    fractions = [
        ndimage.gaussian_filter((labels == label).astype(np.float32), 0.7 / voxel_mm)
        for label in (NECROSIS, OEDEMA, ENHANCING)
    ]
    local_axes: Axes = tuple(axis[part] for axis, part in zip(head.axes, where, strict=True))  # type: ignore[assignment]
    patchy = noise(rng, local_axes, 5.0)
    # Oedema is water in tissue that is still there: it only partly covers what lies below.
    fractions[1] *= np.clip(rng.uniform(0.6, 0.85) + 0.15 * noise(rng, local_axes, 11.0), 0.25, 1)
    covered = np.clip(1 - sum(fractions), 0, 1)

    vessels = _vessels(rng, head)
    texture = noise(rng, head.axes, 4.0)[head.brain]
    lobes = noise(rng, head.axes, 24.0)[head.brain]
    caps = _caps(head) * rng.uniform(0.1, 0.5)
    images = {}
    for contrast in BRATS.contrast_names:
        means = np.array(_TISSUES[contrast]) * np.exp(rng.normal(0, [0.12, 0.05, 0.0, 0.10, 0.06, 0.08]))
        if head.plan.low_grade and contrast != "t2":
            means[3] *= 1.2  # solid tumour rather than necrosis
        detail = {"t1": 1.0, "t1ce": 0.9, "t2": -0.8, "flair": -0.35}[contrast]
        values = mixture(means[:3].astype(np.float32), head.tissues) + np.float32(detail) * head.detail * (
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
        bias = np.exp(0.05 * noise(rng, head.axes, 70.0)[head.brain] + 0.015 * lobes)
        grain = 0.012 * texture * rng.choice((-1, 1)) + 0.03 * noise(rng, head.axes, 2.2)[head.brain]
        grain += 0.012 * rng.standard_normal(values.shape, dtype=np.float32)
        brightness = rng.uniform(250, 700)
        image = np.zeros(head.brain.shape, dtype=np.int16)
        image[head.brain] = np.clip(brightness * bias * (values + grain), 1, 32767)
        images[contrast] = image
    return images
