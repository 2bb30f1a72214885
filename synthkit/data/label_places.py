"""Whether labels lie where the images show something, or fit them better mirrored, turned or moved.

A tumour differs from healthy brain in FLAIR or T1ce. If the place of the labels hardly does, and their mirror image
lies where it does, the label map was flipped against the images: which no header shows, since both have one grid. If it
hardly does anywhere, or does more some way off in any direction, the label map was moved or is of somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

# About so many places along each axis are looked at, every eighth at most, and so many voxels of the labels there;
# fewer say nothing.
_PLACES, _EVERY, _MOST, _FEWEST = 20, 8, 600, 40
# Of 17 subjects, real and phantom, no mirrored place stands out more than 0.9 times as much as the labels' own in FLAIR
# or T1ce, and without FLAIR, in T2 or T1ce, 1.1 times. Mirrored labels are found from here on.
_BETTER, _BETTER_WITHOUT_FLAIR = 1.2, 1.35
# What stands out by less, in spreads of the healthy brain, is healthy brain; more than the second one counts as that.
# Labels of others fit by chance in one of the mirrored places, by less than a tumour's own would.
_AT_LEAST, _AT_LEAST_MIRRORED, _AT_MOST = 1.5, 1.8, 5.0
# So many of them are moved, this far, in 26 directions. Of 5 real subjects and 100 phantoms whose oedema is labelled,
# no labels stand out by less than 1.7 spreads in FLAIR or T1ce, nor more than 1.0 times as much where they are moved.
_MOVED, _BY_MM = 200, (8.0, 15.0, 25.0)
_TOO_LITTLE, _BETTER_MOVED = 1.4, 1.15
_SIDES = {"L": "left to right", "R": "left to right", "A": "front to back", "P": "front to back"}


@dataclass(frozen=True)
class LabelPlaces:
    """How far the place of labels stands out from healthy brain, in spreads (interquartile range / 1.35).

    Attributes
    ----------
    here : where they are.
    best : in the best of their mirrored and turned places.
    how : that place in words: ``mirrored left to right``.
    contrasts : in which it was measured, the larger one counts.
    moved : in the best of the places around, of a sample; and ``unmoved``, where they are, of the same.
    """

    here: float
    best: float
    how: str
    contrasts: tuple[str, ...]
    moved: float = 0.0
    unmoved: float = 0.0

    @property
    def are_elsewhere(self) -> bool:
        """Whether the labels belong there rather than where they are, or in a place around."""
        if "flair" in self.contrasts and self.moved > self.best:
            return False
        better = _BETTER if "flair" in self.contrasts else _BETTER_WITHOUT_FLAIR
        return self.best >= max(better * self.here, _AT_LEAST_MIRRORED)

    @property
    def misfit(self) -> str:
        """That labels, oedema among them, were moved or are of somebody else, in words; "" where nothing says so.

        Only FLAIR tells, in which all of a tumour is bright; in T2 the ventricles are brighter.
        """
        if "flair" not in self.contrasts:
            return ""
        where = f"spreads from healthy brain in {' or '.join(self.contrasts)}"
        if self.moved > max(_BETTER_MOVED * self.unmoved, _AT_LEAST):
            return f"where they lie, voxels are {self.unmoved:.1f} {where}, and {self.moved:.1f} some way beside"
        return f"where they lie, voxels are {self.here:.1f} {where}" if self.here < _TOO_LITTLE else ""

    def __str__(self) -> str:
        return (
            f"its labels fit the images better {self.how}: there the voxels are {self.best:.1f} spreads from healthy "
            f"brain in {' or '.join(self.contrasts)}, where the labels lie {self.here:.1f}"
        )


def places_of(
    images: Mapping[str, NDArray[Any]],
    labels: UInt8Array,
    axes: str | None,
    spacing_mm: Sequence[float],
    within_slices: bool = False,
) -> LabelPlaces | None:
    """How labels and their mirrored and moved places look; None for few labels, or none of FLAIR, T2 and T1ce.

    Parameters
    ----------
    images, labels : (x, y, z), labels above 0 taken together.
    axes : where the axes lead, ``LPS``; None if that is not known.
    within_slices : slices do not follow one another: labels are mirrored and moved in the plane alone.
    """
    seen = tuple(name for name in ("flair" if "flair" in images else "t2", "t1ce") if name in images)
    every = steps_of(labels.shape)
    planes = labels[:, :, :: every[2]]
    where = np.flatnonzero(planes.transpose(2, 1, 0).reshape(-1) != 0)
    if not seen or len(where) < _FEWEST:
        return None
    z, y, x = np.unravel_index(where[:: -(-len(where) // _MOST)], planes.shape[::-1])
    at = np.stack([x, y, z * every[2]])
    some = tuple(slice(None, None, step) for step in every)
    stands_out = dict.fromkeys(_places(labels.shape, within_slices), 0.0)
    moved = _moved(at[:, :: -(-at.shape[1] // _MOVED)], spacing_mm, within_slices)
    inside = np.minimum(np.maximum(moved, 0), np.reshape(labels.shape, (3, 1, 1)) - 1)
    beyond = (inside != moved).any(axis=0)
    around = np.zeros(moved.shape[1])
    for name in seen:
        contrast = StandsOut.of(images[name], images[name][some][labels[some] == 0])
        if contrast is None:
            continue
        for swapped, flips in stands_out:
            turned = at[[1, 0, 2]] if swapped else at
            place = [n - 1 - k if flip else k for n, k, flip in zip(labels.shape, turned, flips, strict=True)]
            found = float(contrast.at(place).mean())
            stands_out[swapped, flips] = max(stands_out[swapped, flips], found)
        around = np.maximum(around, np.where(beyond, 0, contrast.at(inside)).mean(axis=-1))
    here = stands_out.pop((False, (False, False, False)))
    best = max(stands_out, key=lambda place: stands_out[place])
    unmoved, *beside = (float(value) for value in around)
    return LabelPlaces(here, stands_out[best], _in_words(*best, axes), seen, max(beside), unmoved)


def steps_of(shape: Sequence[int]) -> list[int]:
    """Every so manieth voxel along each axis is a place that is looked at."""
    return [min(_EVERY, max(1, n // _PLACES)) for n in shape]


@dataclass(frozen=True, eq=False)
class StandsOut:
    """How far voxels of one contrast are from healthy brain, whose median and spread these are."""

    image: NDArray[Any]
    middle: float
    spread: float

    @classmethod
    def of(cls, image: NDArray[Any], unlabelled: NDArray[Any]) -> StandsOut | None:
        """None where healthy brain has no spread."""
        healthy = unlabelled[unlabelled != 0]
        low, middle, high = np.percentile(healthy, [25, 50, 75]) if healthy.size else (0.0, 0.0, 0.0)
        return cls(image, float(middle), float(high - low) / 1.35) if high > low else None

    def at(self, places: Sequence[NDArray[np.intp] | slice] | NDArray[np.intp]) -> NDArray[np.float32]:
        """Of voxels (x y z, ...) or of slices along x, y and z, in spreads; nothing is seen out of the brain."""
        values = self.image[tuple(places)].astype(np.float32)
        far: NDArray[np.float32] = np.abs(values - np.float32(self.middle)) * np.float32(1 / self.spread)
        np.minimum(far, np.float32(_AT_MOST), out=far)
        far[values == 0] = 0
        return far


def _moved(at: NDArray[np.intp], spacing_mm: Sequence[float], within_slices: bool) -> NDArray[np.intp]:
    """Voxels (x y z, voxel) where they are and moved, (x y z, place, voxel)."""
    ways = np.array([w for w in product((-1, 0, 1), repeat=3) if any(w) and not (within_slices and w[2])])
    ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    by = np.concatenate([np.zeros((1, 3)), *(ways * mm for mm in _BY_MM)]) / np.asarray(spacing_mm)
    moved: NDArray[np.intp] = at[:, None] + np.rint(by.T).astype(np.intp)[:, :, None]
    return moved


_Place = tuple[bool, tuple[bool, ...]]


def _places(shape: tuple[int, ...], within_slices: bool) -> list[_Place]:
    """Whether the first two axes are exchanged, which needs them to be as long, and which axes are reversed."""
    return [
        (swapped, flips)
        for swapped in ((False, True) if shape[0] == shape[1] else (False,))
        for flips in product((False, True), repeat=3)
        if not (within_slices and flips[2])
    ]


def _in_words(swapped: bool, flips: tuple[bool, ...], axes: str | None) -> str:
    ordinals = ("first", "second", "third")
    names = [
        _SIDES.get(axes[k], "head to foot") if axes else f"along the {ordinals[k]} axis" for k in range(3) if flips[k]
    ]
    parts = ["with its first two axes exchanged"] if swapped else []
    return " and ".join([*parts, *([f"mirrored {' and '.join(names)}"] if names else [])])
