"""Properties of the labels in each slice: size, number, place, shape, topology, intensity.

One value a slice and property, NaN where the slice does not have what it is a property of (the area of an enhancing
tumour that is not there). Everything is computed for a batch of slices at once: areas and intensities from one pass
over the labelled pixels, borders from the counts of neighbouring pairs of labels, openings on bit codes that hold one
bit a region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from synthkit.data.naming import brain_mask, healthy_medians
from synthkit.schemes import Scheme
from synthkit_realism.placement import distances_off
from synthkit_realism.regions import borders_of, ratios_of, regions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

    Float64 = NDArray[np.float64]

# Eight neighbours in the slice, none in the next one.
_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[1] = True

#: The property of labels that do not lie on their image, above 0.
OFFSET = "offset"

# Regions that are opened at once: bits of a code.
_BITS = 32


@dataclass(frozen=True, order=True)
class Property:
    """What was measured, in what region, in which contrast (empty where it does not apply); ``unit`` of the value."""

    name: str
    region: str = ""
    contrast: str = ""
    unit: str = ""

    @property
    def of(self) -> dict[str, str]:
        """As the ``of`` of a score."""
        parts = {"property": self.name, "region": self.region, "contrast": self.contrast}
        return {key: value for key, value in parts.items() if value}

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.region, self.contrast) if part)


def measure(
    images: UInt8Array, labels: UInt8Array, contrasts: Sequence[str], scheme: Scheme
) -> dict[Property, Float64]:
    """Every property of each slice, ``(n,)``.

    Parameters
    ----------
    images, labels : ``(n, contrast, y, x)`` and ``(n, y, x)``. A label that the scheme does not have is background.
    """
    batch = _Batch(images, labels, tuple(contrasts), scheme)
    measured: dict[Property, Float64] = {}
    for part in (_sizes, _shapes, _places, _topology, _intensities):
        measured |= dict(part(batch))
    return measured


class _Batch:
    """A batch of slices, and what several properties share. K labels (background first), R regions."""

    def __init__(self, images: UInt8Array, labels: UInt8Array, contrasts: tuple[str, ...], scheme: Scheme) -> None:
        self.images, self.contrasts, self.scheme = images, contrasts, scheme
        self.regions = regions_of(scheme)
        self.names = list(self.regions)
        self.whole = self.names[-1]
        values = [0, *self.regions[self.whole]]
        to_index = np.zeros(256, dtype=np.uint8)
        to_index[values] = np.arange(len(values))
        #: Index of each pixel's label among the K, ``(n, y, x)``.
        self.index: UInt8Array = to_index[labels]
        self.n_labels = len(values)
        #: Which labels belong to which region, ``(R, K)``.
        self.member = np.array([np.isin(values, members) for members in self.regions.values()]).reshape(-1, len(values))
        self.brain: NDArray[np.bool_] = brain_mask(images)
        #: Image, row and column of each labelled pixel, and the index of its label.
        self.where = np.unravel_index(np.flatnonzero(self.index), self.index.shape)
        self.label = self.index[self.where]

    def per_region(self, weights: NDArray[np.generic] | None = None) -> Float64:
        """Sum of weights of labelled pixels (their number without) in each region, ``(n, R)``."""
        n = len(self.index)
        sums = np.bincount(
            self.where[0] * self.n_labels + self.label, weights=weights, minlength=n * self.n_labels
        ).reshape(n, self.n_labels)
        regions: Float64 = sums.astype(np.float64) @ self.member.T
        return regions

    @cached_property
    def area(self) -> Float64:
        return self.per_region()

    @cached_property
    def crop(self) -> UInt8Array:
        """``index`` cut to the box that holds the labels of all slices, with one pixel of background around it."""
        if not len(self.label):
            return np.zeros((len(self.index), 3, 3), dtype=np.uint8)
        y, x = (slice(int(axis.min()), int(axis.max()) + 1) for axis in self.where[1:])
        return np.pad(self.index[:, y, x], ((0, 0), (1, 1), (1, 1)))

    @cached_property
    def pairs(self) -> Float64:
        """Pixel edges between each two labels, ``(n, K, K)``, symmetric, zero on the diagonal."""
        n, k = len(self.index), self.n_labels
        counts = np.zeros(n * k * k)
        for a, b in ((self.crop[:, 1:], self.crop[:, :-1]), (self.crop[:, :, 1:], self.crop[:, :, :-1])):
            at = np.unravel_index(np.flatnonzero(a != b), a.shape)
            counts += np.bincount((at[0] * k + a[at]) * k + b[at], minlength=n * k * k)
        square = counts.reshape(n, k, k)
        return square + square.transpose(0, 2, 1)

    def column(self, values: Float64, region: str) -> Float64:
        return values[:, self.names.index(region)]


def _ratio(part: Float64, whole: Float64) -> Float64:
    """part / whole, NaN where the whole is empty."""
    return part / np.where(whole > 0, whole, np.nan)


Measured = Iterator[tuple[Property, "Float64"]]


def _sizes(batch: _Batch) -> Measured:
    """Share of slices that have the region, its area where they do, relative to the brain and to each other."""
    for region in batch.names:
        area = batch.column(batch.area, region)
        yield Property("present", region), (area > 0).astype(np.float64)
        yield Property("area", region, unit="pixels"), np.where(area > 0, area, np.nan)
    brain = batch.brain.sum(axis=(1, 2), dtype=np.float64)
    whole = batch.column(batch.area, batch.whole)
    yield Property("area_in_brain", batch.whole), np.where(whole > 0, _ratio(whole, brain), np.nan)
    for part, of in ratios_of(batch.scheme):
        yield Property("ratio", f"{part}/{of}"), _ratio(batch.column(batch.area, part), batch.column(batch.area, of))


def _shapes(batch: _Batch) -> Measured:
    """Connected components, compactness ``16 area / border^2`` and the share of pixels in thin structures."""
    border = np.einsum("rk,nkl,rl->nr", batch.member, batch.pairs, ~batch.member)
    thin = _removed_by_opening(batch)
    for r, region in enumerate(batch.names):
        area = batch.area[:, r]
        mask = batch.member[r][batch.crop]
        labelled, n_components = ndimage.label(mask, structure=_IN_PLANE)
        image_of = np.zeros(n_components + 1, dtype=np.intp)
        at = np.flatnonzero(mask)
        image_of[labelled.ravel()[at]] = at // mask[0].size
        components = np.bincount(image_of[1:], minlength=len(mask)).astype(np.float64)
        yield Property("components", region), np.where(area > 0, components, np.nan)
        yield Property("compactness", region), 16 * _ratio(area, border[:, r] ** 2)
        yield Property("thin", region), _ratio(thin[:, r], area)


def _removed_by_opening(batch: _Batch) -> Float64:
    """Pixels of each region that an opening with a 3 x 3 square removes, ``(n, R)``: rims, threads and specks.

    A region is a bit of the code of a pixel, so that erosion is a bitwise AND over the neighbours, dilation an OR, and
    all regions are opened at once.
    """
    parts = [batch.member[start : start + _BITS] for start in range(0, len(batch.names), _BITS)]
    return np.concatenate([_opened(batch.crop, part) for part in parts], axis=1)


def _opened(crop: UInt8Array, member: NDArray[np.bool_]) -> Float64:
    bits = np.uint32(1) << np.arange(len(member), dtype=np.uint32)
    dtype = np.uint8 if len(bits) <= 8 else np.uint32
    codes = (member * bits[:, None]).sum(axis=0).astype(dtype)[crop]
    opened = np.pad(codes, ((0, 0), (1, 1), (1, 1)))
    for combine in (np.bitwise_and, np.bitwise_or):
        for axis in (1, 2):
            opened = _over_neighbours(opened, combine, axis)
    removed = codes & ~opened[:, 1:-1, 1:-1]
    return np.stack([np.count_nonzero(removed & dtype(bit), axis=(1, 2)) for bit in bits], axis=1).astype(np.float64)


def _over_neighbours(codes: NDArray[np.generic], combine: np.ufunc, axis: int) -> NDArray[np.generic]:
    """Combine each pixel with its two neighbours along an axis; the outermost ones, background, stay as they are."""
    moved = np.moveaxis(codes, axis, 0)
    result = moved.copy()
    result[1:-1] = combine(combine(moved[:-2], moved[1:-1]), moved[2:])
    return np.moveaxis(result, 0, axis)


def _places(batch: _Batch) -> Measured:
    """Centroid of all labels in the brain's bounding box, its distance from the middle; labels outside the brain.

    And how far off the image they lie.
    """
    area = batch.column(batch.area, batch.whole)
    offsets = []
    for axis, name in ((2, "x"), (1, "y")):
        extent: NDArray[np.bool_] = np.logical_or.reduce(batch.brain, axis=3 - axis)
        size = extent.shape[1]
        low = extent.argmax(axis=1)
        high = size - 1 - extent[:, ::-1].argmax(axis=1)
        centre = _ratio(batch.column(batch.per_region(batch.where[axis]), batch.whole), area)
        place = _ratio(centre - low, np.where(extent.any(axis=1), high - low, 0).astype(np.float64))
        offsets.append(2 * place - 1)
        yield Property(f"centroid_{name}", batch.whole), place
    yield Property("distance_from_middle", batch.whole), np.hypot(*offsets)
    outside = batch.per_region(~batch.brain[batch.where])
    yield Property("outside_brain", batch.whole), _ratio(batch.column(outside, batch.whole), area)
    yield Property(OFFSET, batch.whole, unit="pixels"), distances_off(batch.images, batch.index, batch.brain)


def _topology(batch: _Batch) -> Measured:
    """Which share of a region's border lies on another one."""
    masks = {**dict(zip(batch.names, batch.member, strict=True)), "background": np.arange(batch.n_labels) == 0}
    for region, other in borders_of(batch.scheme):
        inside = masks[region].astype(np.float64)
        edges = np.einsum("k,nkl->nl", inside, batch.pairs)
        border = edges @ (1 - inside)
        yield Property("border", f"{region} on {other}"), _ratio(edges @ masks[other].astype(np.float64), border)


def _intensities(batch: _Batch) -> Measured:
    """Mean in each single label relative to the median of healthy brain, by contrast."""
    medians = healthy_medians(batch.images, batch.index, batch.brain)
    image, y, x = batch.where
    for c, contrast in enumerate(batch.contrasts):
        means = _ratio(batch.per_region(batch.images[image, c, y, x]), batch.area) / medians[:, c, None]
        for region, members in batch.regions.items():
            if len(members) == 1:
                yield Property("intensity", region, contrast, "healthy median"), batch.column(means, region)
