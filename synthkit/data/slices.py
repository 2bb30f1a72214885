"""From volumes to slices and back: the protocol "akbar2024" and what may be varied about it.

The protocol, as published with Akbar et al., Scientific Data 11:259 (2024), doi 10.1038/s41597-024-03073-x, in the
script ``Preparation/split_volumes_to_slices.m`` of ``muhamadusman/Assist``:

- intensities of each volume become ``v / max(v) * 255`` in double precision. Stored, they are rounded half up and
  clipped to 0..255, which is what MATLAB's ``uint8`` does (it does not truncate), so negative voxels become 0;
- an axial slice is kept if strictly more than 15 % of the 256 x 256 pixels have a T1 above 50 on that scale, before
  rounding;
- 240 x 240 is zero-padded by 8 on every side to 256 x 256; nothing is resampled.

Volumes whose background is not 0 are brought there first, see :mod:`synthkit.data.intensities`.

Orientation: voxel ``[x, y, z]`` of the array becomes pixel ``[y, x]`` of slice ``z``. The study takes arrays as they
are stored; nothing is flipped or turned by the affine. BraTS stores x towards the patient's left and y towards the back
(``LPS``), so slices appear upright, with the forehead on top and the patient's right on the left of the picture, as
radiologists look at them. Other collections do not, so by default arrays are brought into this order by their affines;
for BraTS that changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthkit.data.format import is_safe_name
from synthkit.data.geometry import (
    AS_STORED,
    ArrangedVolumes,
    Arrangement,
    Spacing,
    arrange,
    arrangement,
    parsed_spacing,
)
from synthkit.data.intensities import OF_THE_BRAIN, Rule, greys_of_brain
from synthkit.data.orientation import LPS, forward, is_code
from synthkit.data.reducing import reduce_image, reduce_labels
from synthkit.data.subjects import SubjectError, SubjectVolumes
from synthkit.errors import UsageError
from synthkit.schemes import BRATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

#: Side of the grid in pixels that every slice is padded to and that the slice rule counts in.
GRID = 256
SIZES = (256, 128, 64, 32)

# What the study does where the default is another.
_STUDY = {"orientation": AS_STORED}


@dataclass(frozen=True)
class SliceProtocol:
    """How volumes become slices. The defaults are the study's.

    Attributes
    ----------
    contrasts : channels, in order.
    size : side of a slice in pixels. Below 256 the padded slice is reduced by a whole factor: images by the mean of
        each block (rounded half up), labels by the most frequent value in it (the largest of equals, so that tumour
        wins over background). Which slices are kept is decided before.
    intensity : what becomes 255: "max", the volume's maximum, or "p99.9" and the like, that percentile of the voxels
        above zero (brighter ones are clipped). "p0.5-p99.5" and the like: these percentiles of the brain become 1 and
        255, the background 0, be it inside the values of the brain.
    brain_threshold, brain_fraction : a slice is kept if strictly more than this fraction of its 256 x 256 pixels
        is above this grey level (0..255, before rounding) in T1, or in the first contrast where T1 is not among them.
    axis : "axial": slices are taken along the third axis of the array in its orientation.
    orientation : "LPS", or another order whose third axis is inferior-superior ("RAS"): each array is brought into it
        by its affine, by flips and permutations alone; or "as-stored", the study's.
    stored_axes : where the axes of arrays lead whose affine says nothing of it, such as "RAS"; by default these keep
        the stored order.
    spacing_mm : volumes are resampled to voxels of this size (x, y, z), images linearly, labels to the nearest; None
        for the study's way, the voxels as they are.
    """

    contrasts: tuple[str, ...] = BRATS.contrast_names
    size: int = 256
    intensity: str = "max"
    brain_threshold: float = 50.0
    brain_fraction: float = 0.15
    axis: Literal["axial"] = "axial"
    orientation: str = LPS
    stored_axes: str = ""
    spacing_mm: Spacing | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "contrasts", tuple(self.contrasts))
        object.__setattr__(self, "stored_axes", self.stored_axes.upper())
        object.__setattr__(self, "spacing_mm", parsed_spacing(self.spacing_mm))
        if is_code(self.orientation.upper()):
            object.__setattr__(self, "orientation", self.orientation.upper())
        unsafe = [name for name in self.contrasts if not is_safe_name(name)]
        if unsafe or not self.contrasts or len(set(self.contrasts)) < len(self.contrasts):
            raise _refused("contrasts", ",".join(self.contrasts), "one name or several, each once, that files may have")
        if self.size not in SIZES:
            raise _refused("size", self.size, f"one of {', '.join(map(str, SIZES))} pixels")
        if Rule.parse(self.intensity) is None:
            allowed = f'"max", a percentile such as "p99.9", or two of the brain such as "{OF_THE_BRAIN}"'
            raise _refused("intensity", self.intensity, allowed)
        if not 0 <= self.brain_threshold < 255:
            raise _refused("brain threshold", self.brain_threshold, "a grey level from 0 to below 255")
        if not 0 <= self.brain_fraction < 1:
            raise _refused("brain fraction", self.brain_fraction, "from 0 to below 1")
        if self.axis != "axial":
            raise _refused("axis", self.axis, '"axial"')
        if self.orientation != AS_STORED and not (is_code(self.orientation) and self.orientation[2] in "SI"):
            allowed = f'"{LPS}", another order whose third letter is S or I, such as "RAS", or "{AS_STORED}"'
            raise _refused("orientation", self.orientation, allowed)
        if self.stored_axes and not is_code(self.stored_axes):
            raise _refused("stored axes", self.stored_axes, "three letters, one each of L or R, A or P, S or I")

    @property
    def name(self) -> str:
        """ "akbar2024", with what differs from it: "akbar2024 (size 64)"."""
        changed = [
            f"{item.name.replace('_', ' ')} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for item in dataclasses.fields(self)
            if (value := getattr(self, item.name)) != _STUDY.get(item.name, item.default)
        ]
        return f"akbar2024 ({', '.join(changed)})" if changed else "akbar2024"

    @property
    def factor(self) -> int:
        """By how much the padded slice is reduced along each side."""
        return GRID // self.size

    @property
    def brain_contrast(self) -> str:
        """The contrast that the slice rule looks at."""
        return BRATS.brain_contrast if BRATS.brain_contrast in self.contrasts else self.contrasts[0]

    @property
    def rule(self) -> Rule:
        """The intensity rule."""
        rule = Rule.parse(self.intensity)
        assert rule is not None  # checked when it was made
        return rule

    def to_dict(self) -> dict[str, Any]:
        """JSON form, as recorded in a dataset."""
        return {"name": self.name, **dataclasses.asdict(self), "contrasts": list(self.contrasts)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SliceProtocol:
        """The protocol a dataset was made by; keys that are not part of it are passed over.

        Where no orientation is recorded, it is from before there was one: as stored.
        """
        recorded = {**_STUDY, **data}
        return cls(**{item.name: recorded[item.name] for item in dataclasses.fields(cls) if item.name in recorded})


def _refused(what: str, given: object, allowed: str) -> UsageError:
    return UsageError(f"The {what} {given!r} is not possible.", f"It has to be {allowed}.", "Choose another value.")


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of one subject.

    Attributes
    ----------
    images : uint8 (n, contrast, y, x).
    labels : uint8 (n, y, x); None for a subject without segmentation.
    slice_indices : index of each along the third axis of the arranged volume (0-based).
    n_dropped : slices of the volume that the rule left out.
    """

    images: UInt8Array
    labels: UInt8Array | None
    slice_indices: tuple[int, ...]
    n_dropped: int


# ----------------------------------------------------------------------------------------------- volumes -> slices


def arranged(volumes: SubjectVolumes, protocol: SliceProtocol) -> ArrangedVolumes:
    """A subject in the order and the voxels that its slices are cut from; one that is arranged already stays so."""
    return volumes if isinstance(volumes, ArrangedVolumes) else arrange(volumes, arrangement_of(volumes, protocol))


def arrangement_of(volumes: SubjectVolumes, protocol: SliceProtocol) -> Arrangement:
    """How a subject as it was read is brought into what its slices are cut from, and back."""
    return arrangement(volumes, protocol.orientation, protocol.stored_axes, protocol.spacing_mm)


def slice_volume(volumes: SubjectVolumes, protocol: SliceProtocol) -> Slices:
    """The slices that the protocol keeps.

    Raises
    ------
    SubjectError : the volume is larger than 256 pixels in the plane and not empty where it would be cut, or its slices
        are not axial as stored and are to stay so.
    """
    volumes = arranged(volumes, protocol)
    return _cut(volumes, protocol, kept_slices(volumes, protocol))


def slices_for_segmentation(volumes: SubjectVolumes, protocol: SliceProtocol, *, all_slices: bool = True) -> Slices:
    """Slices to be segmented: every axial slice, or with ``all_slices=False`` those that the rule keeps."""
    volumes = arranged(volumes, protocol)
    indices = tuple(range(volumes.shape[2])) if all_slices else kept_slices(volumes, protocol)
    return _cut(volumes, protocol, indices)


def kept_slices(volumes: SubjectVolumes, protocol: SliceProtocol) -> tuple[int, ...]:
    """Indices of the slices that the slice rule keeps, in order, along the third axis of the arranged volume."""
    brain = _Greys(arranged(volumes, protocol).images[protocol.brain_contrast], protocol)
    needed = protocol.brain_fraction * GRID * GRID
    return tuple(z for z in range(len(brain.planes)) if brain.count_above(z, protocol.brain_threshold) > needed)


def largest_share(volumes: SubjectVolumes, protocol: SliceProtocol) -> float:
    """The largest share of a slice's 256 x 256 pixels that is above the brain threshold."""
    brain = _Greys(arranged(volumes, protocol).images[protocol.brain_contrast], protocol)
    counts = (brain.count_above(z, protocol.brain_threshold) for z in range(len(brain.planes)))
    return max(counts, default=0) / GRID**2


def check_fits(volumes: SubjectVolumes) -> None:
    """Raise :class:`SubjectError` if a slice is larger than the grid and not empty where it would be cut."""
    nx, ny, _ = volumes.shape
    if max(nx, ny) <= GRID:
        return
    (x, _), (y, _) = window(nx), window(ny)
    for name, volume in (*volumes.images.items(), ("seg", volumes.labels)):
        if volume is not None and np.count_nonzero(volume[x, y]) != np.count_nonzero(volume):
            raise SubjectError(
                volumes.id, f"{name} is {nx}x{ny} pixels in the plane and not empty outside the central {GRID}x{GRID}"
            )


def negative_voxels(volumes: SubjectVolumes, protocol: SliceProtocol) -> dict[str, int]:
    """Contrast -> number of voxels below the background that become 0; none where the rule keeps them."""
    if protocol.rule.low is not None:
        return dict.fromkeys(volumes.images, 0)
    return {name: int(np.count_nonzero(v < 0)) if v[forward(v)].min() < 0 else 0 for name, v in volumes.images.items()}


def _planes(volume: NDArray[Any]) -> NDArray[Any]:
    """(x, y, z) -> (z, y, x), without a copy; contiguous for a volume in NIfTI's order."""
    native: UInt8Array = volume.transpose(2, 1, 0)
    return native


def window(n: int) -> tuple[slice, slice]:
    """Where ``n`` voxels lie in ``GRID`` pixels: which of the voxels, and in which pixels. An odd one is at the end."""
    if n <= GRID:
        before = (GRID - n) // 2
        return slice(0, n), slice(before, before + n)
    before = (n - GRID) // 2
    return slice(before, before + GRID), slice(0, GRID)


def _cut(volumes: SubjectVolumes, protocol: SliceProtocol, indices: Sequence[int]) -> Slices:
    check_fits(volumes)
    nx, ny, nz = volumes.shape
    (from_x, to_x), (from_y, to_y) = window(nx), window(ny)
    maps = {name: _planes(v) for name, v in (*volumes.images.items(), ("seg", volumes.labels)) if v is not None}
    # Reduced slices are made one at a time, so that the full-size ones never exist together.
    n, size, factor, reduced = len(indices), protocol.size, protocol.factor, protocol.factor > 1
    images = np.zeros((n, len(protocol.contrasts), size, size), dtype=np.uint8)
    canvas = np.zeros((GRID, GRID), dtype=np.uint8)
    for channel, name in enumerate(protocol.contrasts):
        greys = _Greys(volumes.images[name], protocol)
        canvas[...] = 0
        blocks, place = _blocks(greys.target, factor)
        for row, z in enumerate(indices):
            greys.draw(z, canvas if reduced else images[row, channel])
            if reduced:
                images[row, channel][place] = reduce_image(canvas[blocks], factor)
    labels = None
    if "seg" in maps:
        labels = np.zeros((n, size, size), dtype=np.uint8)
        canvas[...] = 0
        blocks, place = _blocks((to_y, to_x), factor)
        for row, z in enumerate(indices):
            target = canvas if reduced else labels[row]
            target[to_y, to_x] = maps["seg"][z, from_y, from_x]
            if reduced:
                labels[row][place] = reduce_labels(canvas[blocks], factor)
    return Slices(images, labels, tuple(indices), nz - n)


def _blocks(target: tuple[slice, slice], factor: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Whole blocks of pixels around a part of a slice, outside of which it is 0; and where they are once reduced."""
    rows, columns = (slice(part.start // factor, -(-part.stop // factor)) for part in target)
    full = tuple(slice(part.start * factor, part.stop * factor) for part in (rows, columns))
    return (full[0], full[1]), (rows, columns)


class _Greys:
    """One volume under the intensity rule, ``v / top * 255`` in double precision, or percentiles of the brain.

    Two things make it fast and change no number. Small integer types go through a table of all their values, computed
    in double precision once. And only the box around everything above zero is touched, as the rest becomes 0.
    """

    def __init__(self, volume: NDArray[Any], protocol: SliceProtocol) -> None:
        rule = protocol.rule
        planes = _planes(volume if rule.low is None else greys_of_brain(volume, rule))
        (from_x, to_x), (from_y, to_y) = window(planes.shape[2]), window(planes.shape[1])
        steps = forward(planes)
        shadow = planes[steps].max(axis=0)[steps[1:]]
        if rule.low is not None:
            self._top = np.float64(255)
        else:
            self._top = np.float64(shadow.max() if rule.high == 100 else np.percentile(planes[planes > 0], rule.high))
        inside = shadow[from_y, from_x] > 0
        rows, columns = _extent(inside.any(axis=1)), _extent(inside.any(axis=0))
        #: (z, y, x) inside the box.
        self.planes = planes[:, from_y, from_x][:, rows, columns]
        #: Where they lie on the canvas (y, x); the rest of it is 0.
        self.target = (
            slice(to_y.start + rows.start, to_y.start + rows.stop),
            slice(to_x.start + columns.start, to_x.start + columns.stop),
        )
        self._scaled: NDArray[np.float64] | None = None
        if planes.dtype.kind in "iu" and planes.dtype.itemsize <= 2:
            self._scaled = self._scale(np.arange(int(shadow.max()) + 1))
            self._table = _round(self._scaled)
            self._entries = np.empty(self.planes.shape[1:], dtype=np.intp)

    def count_above(self, z: int, threshold: float) -> int:
        """Pixels of a slice whose scaled value, before rounding, is above the threshold (not negative)."""
        plane = self.planes[z]
        if self._scaled is None:
            return int(np.count_nonzero(self._scale(plane) > threshold))
        # The first table entry above the threshold; there is one, unless a percentile put 255 out of reach.
        first = int(np.searchsorted(self._scaled, threshold, side="right"))
        return int(np.count_nonzero(plane >= first)) if first < len(self._scaled) else 0

    def draw(self, z: int, canvas: UInt8Array) -> None:
        """Grey levels of a slice, where they belong on a canvas of ``GRID`` x ``GRID`` that is 0 elsewhere."""
        target = canvas[self.target]
        if self._scaled is None:
            target[...] = _round(self._scale(self.planes[z]))
        else:
            np.copyto(self._entries, self.planes[z])
            # "clip" looks negative values up as entry 0, whose grey level is 0.
            target[...] = self._table.take(self._entries, mode="clip")

    def _scale(self, values: NDArray[Any]) -> NDArray[np.float64]:
        # The study's order of operations; v * (255 / top) differs in the last bit.
        return np.asarray(values, dtype=np.float64) / self._top * 255


def _extent(used: NDArray[np.bool_]) -> slice:
    """From the first to the last that is used; empty if none is."""
    where = np.flatnonzero(used)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0)


def _round(values: NDArray[np.float64]) -> UInt8Array:
    """Half up and clipped to 0..255, as MATLAB's ``uint8``."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
