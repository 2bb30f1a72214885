"""Every region of two label volumes of one subject: its case, its Dice, its distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthkit_overlap import Params
from synthkit_overlap.regions import Regions, labels_in_words
from synthkit_overlap.surfaces import Hausdorff, bounding_box, surface_dice, surface_distances
from synthkit_overlap.surfels import surface_elements, surfel_dice, surfel_hausdorff

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dice(reference_mask: NDArray[np.bool_], prediction_mask: NDArray[np.bool_]) -> float | None:
    """Dice coefficient ``2 |A & B| / (|A| + |B|)`` of two bool arrays of one shape (Dice 1945).

    In 0..1; None where both are empty; 0 where only one is.

    Raises
    ------
    ValueError : the shapes differ.
    """
    if reference_mask.shape != prediction_mask.shape:
        raise ValueError(f"the masks differ in shape: {reference_mask.shape} and {prediction_mask.shape}")
    total = int(np.count_nonzero(reference_mask)) + int(np.count_nonzero(prediction_mask))
    if total == 0:
        return None
    return 2 * int(np.count_nonzero(reference_mask & prediction_mask)) / total


def diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Diagonal in mm of a volume of ``shape`` voxels: 373.1 for the BraTS grid of 240 x 240 x 155 at 1 mm."""
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionResult:
    """One region of one subject. ``case`` is "both", "missed", "false" or "empty"; distances in mm.

    Dice and distances are after the conventions: None where the region does not count.
    """

    case: str
    dice: float | None
    hd95_pooled_mm: float | None
    hd95_directed_mm: float | None
    maximum_mm: float | None
    surface_dice: float | None
    reference_voxels: int
    prediction_voxels: int


def compare(
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    regions: Regions,
    params: Params,
    *,
    distances: bool = True,
    crosswise: Callable[[NDArray[np.uint8], NDArray[np.uint8]], None] | None = None,
) -> dict[str, RegionResult]:
    """Every region of two label volumes.

    Parameters
    ----------
    reference, prediction : labels ``(x, y, z)`` of one shape, each with values of its own scheme.
    spacing_mm : voxel spacing along each axis.
    regions : what is compared.
    distances : whether Hausdorff distances and surface Dice are wanted; they cost far more than Dice.
    crosswise : gets the two volumes as well, see :meth:`synthkit_overlap.crosswise.Crosswise.add`.

    Raises
    ------
    ValueError : the shapes differ, or a value is no label of its side's scheme.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"the shapes differ: reference {reference.shape}, prediction {prediction.shape}")
    penalty_mm = diagonal_mm(reference.shape, spacing_mm)
    # Labels outside the joint box are background in both: no region can see the difference.
    boxes = [box for box in (bounding_box(reference), bounding_box(prediction)) if box is not None]
    crop = tuple(
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) if boxes else slice(0, 0)
        for axis in range(3)
    )
    reference, prediction = reference[crop], prediction[crop]
    for role, labels, scheme in (
        ("reference", reference, regions.reference),
        ("prediction", prediction, regions.prediction),
    ):
        if unknown := set(np.unique(labels).tolist()) - set(scheme.values):
            raise ValueError(
                f"the {role} has label values that {scheme.family} does not: {sorted(unknown)}; labels are "
                f"{labels_in_words(scheme)}"
            )
    if crosswise is not None:
        crosswise(reference, prediction)
    results = {}
    for region, values in regions.values.items():
        masks = []
        for labels, members in zip((reference, prediction), values, strict=True):
            table = np.zeros(256, dtype=bool)
            table[list(members)] = True
            masks.append(table[labels])
        results[region] = _compare_region(masks[0], masks[1], spacing_mm, penalty_mm, params, distances=distances)
    return results


def _compare_region(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    penalty_mm: float,
    params: Params,
    *,
    distances: bool,
) -> RegionResult:
    n_reference, n_prediction = int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
    overlap = dice(reference, prediction)
    pooled_mm: float | None = None
    directed_mm: float | None = None
    maximum_mm: float | None = None
    near: float | None = None
    if n_reference and n_prediction:
        case = "both"
        if distances:
            surface, near = _between_borders(reference, prediction, spacing_mm, params)
            pooled_mm, directed_mm, maximum_mm = surface.pooled_mm, surface.directed_mm, surface.maximum_mm
    elif n_reference or n_prediction:
        case = "missed" if n_reference else "false"
        near = 0.0 if distances else None
        if distances and params.hausdorff_one_empty == "penalty":
            pooled_mm = directed_mm = maximum_mm = penalty_mm
    else:
        case = "empty"
        if params.both_empty == "perfect":
            overlap = 1.0
            pooled_mm = directed_mm = maximum_mm = 0.0 if distances else None
            near = 1.0 if distances else None
    return RegionResult(
        case=case,
        dice=overlap,
        hd95_pooled_mm=pooled_mm,
        hd95_directed_mm=directed_mm,
        maximum_mm=maximum_mm,
        surface_dice=near,
        reference_voxels=n_reference,
        prediction_voxels=n_prediction,
    )


def _between_borders(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: Sequence[float], params: Params
) -> tuple[Hausdorff, float]:
    """Hausdorff distances and surface Dice of two masks that are not empty, over the borders asked for."""
    if params.borders == "surfels":
        elements = surface_elements(reference, prediction, spacing_mm)
        return surfel_hausdorff(*elements), surfel_dice(*elements, params.surface_tolerance_mm)
    both_ways = surface_distances(reference, prediction, spacing_mm)
    return Hausdorff.of(*both_ways), surface_dice(*both_ways, params.surface_tolerance_mm)
