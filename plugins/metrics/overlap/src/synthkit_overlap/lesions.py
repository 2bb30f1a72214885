"""The lesions of two label volumes of one subject, matched as a challenge matches them, and their scores.

Pure functions of arrays. What depends on a challenge comes from :class:`synthkit_overlap.lesion_rules.LesionRules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from synthkit_overlap.components import components, dilate, joined_by_touch, joined_components
from synthkit_overlap.lesion_rules import LesionRules
from synthkit_overlap.surfaces import border_pair, bounding_box
from synthkit_overlap.surfels import surfel_hd95

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Labels = NDArray[np.int32]
    Bytes = NDArray[np.uint8]
    Box = tuple[slice, slice, slice]

#: Region -> its label values, in files of one side.
Values = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One lesion of the reference with what was predicted for it, or a predicted one that has no reference.

    Attributes
    ----------
    case : "found"; "missed", nothing was predicted for it; "false", nothing in the reference; "small", a lesion of the
        reference that is too small to count, found or not.
    reference_voxels, prediction_voxels : of the lesion, and of all predicted lesions that belong to it.
    dice : 0 where missed or false.
    hd95_mm : over surface elements; the penalty where missed or false; None if not asked for.
    nsd : for each tolerance; 0 where missed or false.
    """

    case: str
    reference_voxels: int
    prediction_voxels: int
    dice: float
    hd95_mm: float | None
    nsd: tuple[float, ...]

    @property
    def counts(self) -> bool:
        """Whether it is large enough to count."""
        return self.case != "small"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is computed besides Dice; distances cost far more than it."""

    hd95: bool = True
    tolerances_mm: tuple[float, ...] = ()


def lesions_by_region(
    reference: Bytes,
    prediction: Bytes,
    spacing_mm: Sequence[float],
    reference_values: Values,
    prediction_values: Values,
    rules: LesionRules,
    wanted: Wanted,
) -> dict[str, list[Lesion]]:
    """The lesions of each region of ``reference_values``: those of the reference in order of place, then false ones.

    Parameters
    ----------
    reference, prediction : labels ``(x, y, z)`` of one shape.
    spacing_mm : distance of neighbouring voxel centres along each axis, mm, positive.
    reference_values, prediction_values : region -> label values, of the same regions, as each side writes them.

    Raises
    ------
    ValueError : the shapes differ, or a spacing is not positive.
    """
    if reference.ndim != 3 or reference.shape != prediction.shape:
        raise ValueError(f"the labels must be (x, y, z) and alike, not {reference.shape} and {prediction.shape}")
    if len(spacing_mm) != 3 or not all(0 < value < np.inf for value in spacing_mm):
        raise ValueError(f"the spacing must be three positive numbers, not {tuple(spacing_mm)}")
    shape = np.asarray(reference.shape)
    penalty_mm = rules.penalty_mm
    if penalty_mm is None:
        penalty_mm = float(np.linalg.norm(shape * (1 if rules.diagonal_in_voxels else np.asarray(spacing_mm))))
    voxel_mm3 = float(np.prod(spacing_mm))
    found: dict[str, list[Lesion]] = {region: [] for region in reference_values}
    false: dict[str, list[Lesion]] = {region: [] for region in reference_values}
    smallest = _smallest_predicted(reference_values, rules, voxel_mm3)
    for box, own in islands(reference, prediction, rules.widest):
        labels = [
            np.ascontiguousarray(side[box] if own is None else side[box] * own) for side in (reference, prediction)
        ]
        one = _Side(labels[0], reference_values, rules, dict.fromkeys(reference_values, 0.0))
        other = _Side(labels[1], prediction_values, rules, smallest)
        for region in reference_values:
            lesions = one.lesions(region), other.lesions(region)
            for lesion in _compared(*lesions, region, spacing_mm, penalty_mm, rules, wanted):
                (false if lesion.case == "false" else found)[region].append(lesion)
    return {region: found[region] + false[region] for region in reference_values}


def _smallest_predicted(regions: Iterable[str], rules: LesionRules, voxel_mm3: float) -> dict[str, float] | None:
    """Voxels that a predicted lesion of each region has to exceed; None where each component counts."""
    if not rules.join_predicted:
        return None
    return {region: rules.smallest_mm3(region) / (1 if rules.sizes_in_voxels else voxel_mm3) for region in regions}


# ------------------------------------------------------------------------------------------------- islands


def islands(
    reference: NDArray[np.generic], prediction: NDArray[np.generic], steps: int
) -> Iterator[tuple[Box, Mask | None]]:
    """Boxes with all labels and room for ``steps`` of dilation inside the volume, and what of each belongs to it.

    No dilation joins labels of two islands: blocks of voxels as wide as dilation reaches are empty between them. Boxes
    may overlap; the mask is None where all in the box belongs to it.
    """
    anything = (reference != 0) | (prediction != 0)
    if not anything.any():
        return
    width = 2 * steps + 2
    blocks = anything
    for axis in sorted(range(3), key=lambda i: -anything.strides[i]):
        blocks = np.logical_or.reduceat(blocks, range(0, anything.shape[axis], width), axis=axis)
    numbers = components(np.ascontiguousarray(blocks))
    for number, coarse in enumerate(ndimage.find_objects(numbers), start=1):
        outer = tuple(slice(side.start * width, side.stop * width) for side in coarse)
        inner = bounding_box(anything[outer])
        assert inner is not None  # a block that is not empty
        box = _within(
            [slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True)],
            anything.shape,
            steps,
        )
        around = tuple(slice(side.start // width, -(-side.stop // width)) for side in box)
        own: Mask | None = None
        if ((numbers[around] != 0) & (numbers[around] != number)).any():
            x, y, z = (np.arange(side.start, side.stop) // width for side in box)
            own = numbers[np.ix_(x, y, z)] == number
        yield box, own


def _within(box: Sequence[slice], shape: Sequence[int], steps: int) -> Box:
    """The box with ``steps`` more voxels on each side, as far as the volume goes."""
    x, y, z = (slice(max(side.start - steps, 0), min(side.stop + steps, n)) for side, n in zip(box, shape, strict=True))
    return x, y, z


def _joint(first: Sequence[slice], second: Sequence[slice]) -> Box:
    x, y, z = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return x, y, z


# ------------------------------------------------------------------------------------------------- one island


class _Side:
    """The lesions of one side in an island, made when asked for.

    ``smallest_of`` says how many voxels a lesion of a region has to exceed; None: components of any size, not joined.
    """

    def __init__(
        self, labels: Bytes, values: Values, rules: LesionRules, smallest_of: Mapping[str, float] | None
    ) -> None:
        self._labels, self._values, self._rules, self._smallest_of = labels, values, rules, smallest_of
        self._made: dict[str, Labels] = {}

    def lesions(self, region: str) -> Labels:
        """Lesions ``(x, y, z)``, numbered with gaps; those that touch the same lesion of another region are one."""
        others = [other for other in self._rules.joined_by.get(region, ()) if other in self._values]
        return joined_by_touch(self._alone(region), [self._alone(other) for other in others])

    def _alone(self, region: str) -> Labels:
        if region not in self._made:
            self._made[region] = self._make(region)
        return self._made[region]

    def _make(self, region: str) -> Labels:
        table = np.zeros(256, dtype=bool)
        table[list(self._values[region])] = True
        mask = table[self._labels]
        made = np.zeros(mask.shape, dtype=np.int32)
        tight = bounding_box(mask)
        if tight is None:
            return made
        steps = 0 if self._smallest_of is None else self._rules.steps(region)
        box = _within(tight, mask.shape, steps)
        made[box] = joined_components(mask[box], steps)
        smallest = 0 if self._smallest_of is None else self._smallest_of[region]
        if smallest:
            small = np.bincount(made[box].reshape(-1)) <= smallest
            small[0] = False
            if small.any():
                made[small[made]] = 0
        return made


def _compared(
    reference: Labels,
    prediction: Labels,
    region: str,
    spacing_mm: Sequence[float],
    penalty_mm: float,
    rules: LesionRules,
    wanted: Wanted,
) -> Iterator[Lesion]:
    """Each lesion of the reference in an island with the predicted ones that it meets, then those that none meets."""
    steps, voxel_mm3 = rules.steps(region), float(np.prod(spacing_mm))
    places = ndimage.find_objects(prediction)
    met: set[int] = set()
    for number, place in enumerate(ndimage.find_objects(reference), start=1):
        if place is None:
            continue
        near = _within(place, reference.shape, steps)
        lesion = reference[near] == number
        others = prediction[near]
        matched = np.unique(others[dilate(lesion, steps)]) if others.any() else np.zeros(0, dtype=np.int32)
        matched = matched[matched != 0]
        met.update(matched.tolist())
        small = np.count_nonzero(lesion) * voxel_mm3 <= rules.smallest_mm3(region)
        if matched.size == 0:
            case = "small" if small else "missed"
            yield _one_sided(case, int(np.count_nonzero(lesion)), 0, penalty_mm, wanted)
            continue
        box = place
        for other in matched.tolist():
            box = _joint(box, places[other - 1])
        one, several = reference[box] == number, np.isin(prediction[box], matched)
        yield _together("small" if small else "found", one, several, spacing_mm, wanted)
    sizes = np.bincount(prediction.reshape(-1))
    for number in np.flatnonzero(sizes).tolist():
        if number and number not in met:
            yield _one_sided("false", 0, int(sizes[number]), penalty_mm, wanted)


def _one_sided(case: str, reference_voxels: int, prediction_voxels: int, penalty_mm: float, wanted: Wanted) -> Lesion:
    """A lesion of one side only."""
    return Lesion(
        case=case,
        reference_voxels=reference_voxels,
        prediction_voxels=prediction_voxels,
        dice=0.0,
        hd95_mm=penalty_mm if wanted.hd95 else None,
        nsd=(0.0,) * len(wanted.tolerances_mm),
    )


def _together(case: str, lesion: Mask, predicted: Mask, spacing_mm: Sequence[float], wanted: Wanted) -> Lesion:
    """A lesion and what was predicted for it, both in one box."""
    n_lesion, n_predicted = int(np.count_nonzero(lesion)), int(np.count_nonzero(predicted))
    nsd: tuple[float, ...] = ()
    if wanted.tolerances_mm:
        to_prediction, to_reference = border_pair(lesion, predicted, spacing_mm).distances_mm(max(wanted.tolerances_mm))
        # The mean of the shares of both borders, as nnU-Net has it and the challenges after it.
        nsd = tuple(
            float(np.mean(to_prediction <= tolerance) + np.mean(to_reference <= tolerance)) / 2
            for tolerance in wanted.tolerances_mm
        )
    return Lesion(
        case=case,
        reference_voxels=n_lesion,
        prediction_voxels=n_predicted,
        dice=2 * int(np.count_nonzero(lesion & predicted)) / (n_lesion + n_predicted),
        hd95_mm=surfel_hd95(lesion, predicted, spacing_mm) if wanted.hd95 else None,
        nsd=nsd,
    )


# ------------------------------------------------------------------------------------------------- a subject's scores


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionScores:
    """Of one region of one subject; ``hd95_mm`` is None if not asked for.

    Without a lesion that counts on either side, all are perfect: 1, and HD95 0, as the challenges have it.
    """

    found: int
    missed: int
    false: int
    small: int
    dice: float
    hd95_mm: float | None
    nsd: tuple[float, ...]
    f1: float

    @property
    def empty(self) -> bool:
        """Whether no lesion counts on either side."""
        return self.found + self.missed + self.false == 0


def lesion_scores(lesions: Sequence[Lesion], rules: LesionRules, wanted: Wanted) -> LesionScores:
    """The mean over the lesions that count, missed and false ones among them; F1 of how many were found.

    Where the rules do not count false lesions, they lower F1 alone. ``wanted`` is what the lesions were compared with.
    """
    n = {case: sum(lesion.case == case for lesion in lesions) for case in ("found", "missed", "false", "small")}
    counted = [lesion for lesion in lesions if lesion.counts and (rules.false_count or lesion.case != "false")]
    of_all = n["found"] + n["missed"] + n["false"]
    hd95_mm = [lesion.hd95_mm for lesion in counted if lesion.hd95_mm is not None]
    return LesionScores(
        **n,
        dice=float(np.mean([lesion.dice for lesion in counted])) if counted else 1.0,
        hd95_mm=(float(np.mean(hd95_mm)) if hd95_mm else 0.0) if wanted.hd95 else None,
        nsd=tuple(
            float(np.mean([lesion.nsd[i] for lesion in counted])) if counted else 1.0
            for i in range(len(wanted.tolerances_mm))
        ),
        f1=2 * n["found"] / (of_all + n["found"]) if of_all else 1.0,
    )
