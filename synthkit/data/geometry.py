"""How a subject's volumes lie in the grid that its slices are cut from, and what a dataset records of that.

Subjects are stored in their own array orders and voxel sizes. A protocol brings them into one order, and on request to
one voxel size; what a segmenter finds there goes back, voxel by voxel, into the grid that a subject was stored in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.orientation import LPS, Turn, axis_codes, is_code, says_nothing
from synthkit.data.resampling import Resampling
from synthkit.data.subjects import SubjectError, SubjectVolumes
from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

AS_STORED = "as-stored"

Spacing = tuple[float, float, float]

#: Voxel sizes that differ by more than this part are not one.
TOLERANCE = 0.05


@dataclass(frozen=True)
class Arrangement:
    """From the grid that a subject is stored in to the one that its slices are cut from.

    Attributes
    ----------
    turn : from the stored order of the array.
    axes : where the axes of the turned array lead, ``LPS``; None if nothing says it.
    resampling : of the turned array.
    """

    turn: Turn
    axes: str | None
    resampling: Resampling

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel size of the grid that slices are cut from."""
        return self.resampling.to_mm if self.resampling.is_needed else self.resampling.spacing_mm

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the grid that slices are cut from."""
        return self.resampling.new_shape if self.resampling.is_needed else self.resampling.shape

    def image(self, volume: NDArray[Any]) -> NDArray[Any]:
        """A stored volume as it is cut: a view, unless it is resampled."""
        turned = self.turn.apply(volume)
        return self.resampling.image(turned) if self.resampling.is_needed else turned

    def labels(self, labels: UInt8Array) -> UInt8Array:
        """Stored labels as they are cut: a view, unless they are resampled."""
        turned = self.turn.apply(labels)
        return self.resampling.labels(turned) if self.resampling.is_needed else turned

    def back(self, labels: UInt8Array) -> UInt8Array:
        """Labels of the grid that slices are cut from, in the grid that the subject is stored in."""
        return self.turn.undo(self.resampling.labels_back(labels) if self.resampling.is_needed else labels)


@dataclass(frozen=True, eq=False)
class ArrangedVolumes(SubjectVolumes):
    """A subject whose ``images`` and ``labels`` are in the order that slices are cut in.

    ``affine`` and ``header`` stay those of the stored grid; ``spacing_mm`` is that of the arranged one.
    """

    axes: str | None = None


def arrangement(
    volumes: SubjectVolumes, orientation: str = LPS, stored_axes: str = "", spacing_mm: Spacing | None = None
) -> Arrangement:
    """How a subject as it was read is brought into the order of a protocol, see ``SliceProtocol``.

    Raises
    ------
    SubjectError : its slices stay as stored and are not axial.
    """
    codes: str | None = axis_codes(volumes.affine)
    if says_nothing(volumes.affine, volumes.header, volumes.shape):
        codes = stored_axes or None
    if orientation == AS_STORED:
        if codes is not None and codes[2] not in "SI":
            raise SubjectError(
                volumes.id,
                f"its array is in the order {codes}: the third axis is not inferior-superior, so its slices are not "
                "axial as stored (--orientation LPS turns it)",
            )
        turn, axes = Turn(), codes
    else:
        turn, axes = (Turn(), None) if codes is None else (Turn.between(codes, orientation), orientation)
    turned = turn.of_each_axis(volumes.spacing_mm)
    shape = turn.of_each_axis(volumes.shape)
    return Arrangement(turn, axes, Resampling(shape, turned, spacing_mm or turned))


def arrange(volumes: SubjectVolumes, how: Arrangement) -> ArrangedVolumes:
    """A subject in the grid that its slices are cut from."""
    return ArrangedVolumes(
        **{
            **vars(volumes),
            "images": {name: how.image(data) for name, data in volumes.images.items()},
            "labels": None if volumes.labels is None else how.labels(volumes.labels),
            "spacing_mm": how.spacing_mm,
            "axes": how.axes,
        }
    )


# -------------------------------------------------------------------------------------------------- of a dataset


@dataclass(frozen=True)
class Geometry:
    """What the slices of a dataset have in common.

    Attributes
    ----------
    axes : where x, y and the slices lead, ``LPS``; None where that is not known, or not the same in all.
    spacing_mm : voxel size along x, y and between slices, before slices are reduced in size; None if not known.
    """

    axes: str | None = None
    spacing_mm: Spacing | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"axes": self.axes, "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm)}

    @classmethod
    def of(cls, protocol: Mapping[str, Any] | None) -> Geometry:
        """What the recorded protocol of a dataset or model says; nothing is known of those from before."""
        recorded = (protocol or {}).get("geometry") or {}
        axes, spacing = recorded.get("axes"), recorded.get("spacing_mm")
        return cls(axes if isinstance(axes, str) and is_code(axes) else None, parsed_spacing(spacing))


def parsed_spacing(given: str | float | Sequence[float] | None) -> Spacing | None:
    """A voxel size in mm: one number, or one for x, y and z (``1``, ``0.5,0.5,5``); None for none.

    Raises
    ------
    UsageError : another number of sizes, or one that is not from 0.05 to 50 mm.
    """
    if given is None or given == "":
        return None
    parts: Sequence[Any] = [given] if isinstance(given, float | int) else given
    if isinstance(given, str):
        parts = given.split(",")
    try:
        sizes = [float(part) for part in parts]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or not all(0.05 <= size <= 50 for size in sizes):
        raise UsageError(
            f"The spacing {given!r} is not possible.",
            "It has to be a voxel size in mm from 0.05 to 50: one number, or three for x, y and z.",
            "Give for example --spacing 1, or --spacing 0.5,0.5,5.",
        )
    return sizes[0], sizes[1], sizes[2]


def in_mm(spacing: Sequence[float]) -> str:
    """ "1 x 1 x 5 mm"."""
    return f"{' x '.join(f'{size:.3g}' for size in spacing)} mm"


def differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two voxel sizes differ by more than :data:`TOLERANCE` along any axis."""
    return any(max(a, b) > (1 + TOLERANCE) * min(a, b) for a, b in zip(one, other, strict=True))


def common_geometry(
    subjects: Mapping[str, Geometry],
    whose: str = "subjects",
    fix: str = "Give --spacing 1 to resample all of them to voxels of 1 mm (or another size), or leave some out.",
) -> Geometry:
    """What the subjects, by id, have in common; or datasets, by role.

    Raises
    ------
    DataError : their voxel sizes differ by more than :data:`TOLERANCE`; all groups are listed.
    """
    spacings = {name: item.spacing_mm for name, item in subjects.items() if item.spacing_mm}
    if not spacings:
        return Geometry()
    every = np.asarray(list(spacings.values()))
    if differ(every.min(axis=0), every.max(axis=0)):
        raise DataError(
            f"The {whose} have voxels of different sizes.",
            "Slices cut from them show heads of different sizes, or lie at different distances.",
            fix,
            _groups(spacings),
        )
    axes = {item.axes for item in subjects.values()}
    x, y, z = (round(float(size), 3) for size in np.median(every, axis=0))
    return Geometry(next(iter(axes)) if len(axes) == 1 else None, (x, y, z))


def common_axes(recorded: Mapping[str, Mapping[str, Any]]) -> tuple[str | None, list[str]]:
    """Which way the images of datasets lie, by their recorded protocols (empty where none is), and what is not known.

    Raises
    ------
    DataError : images of two of them are known to lie in different orders.
    """
    axes = {name: Geometry.of(protocol).axes for name, protocol in recorded.items()}
    known = {name: code for name, code in axes.items() if code}
    if len(set(known.values())) > 1:
        raise DataError(
            "The datasets lie in different orientations.",
            f"{'; '.join(f'{name}: {code}' for name, code in known.items())}. To whoever compares them, heads of one "
            "are turned or mirrored against those of another.",
            f"Prepare all with one --orientation, such as {LPS}, and make what was made from them again.",
        )
    unknown = [name for name in axes if name not in known]
    orders = {recorded[name].get("orientation", AS_STORED) for name in unknown if recorded[name]}
    if known and unknown:
        name, code = next(iter(known.items()))
        said = f"it is taken to be as in {name} ({code})"
    elif len(orders) > 1:
        said = "it is taken to be the same in all"
    else:
        return next(iter(known.values()), None), []
    return next(iter(known.values()), None), [f"Which way the images of {', '.join(unknown)} lie is not known: {said}."]


def _groups(spacings: Mapping[str, Spacing]) -> list[str]:
    """A line for each voxel size, the most common first, with the subjects that have it."""
    groups: list[tuple[Spacing, list[str]]] = []
    for name, spacing in sorted(spacings.items(), key=lambda item: (item[1], item[0])):
        if not groups or differ(groups[-1][0], spacing):
            groups.append((spacing, []))
        groups[-1][1].append(name)
    lines = []
    for spacing, names in sorted(groups, key=lambda group: -len(group[1])):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        lines.append(f"{in_mm(spacing)}: {', '.join(names[:5])}{more}")
    return lines


def notes_on_axes(subjects: Mapping[str, Geometry]) -> tuple[str, ...]:
    """What is not known, or not the same, of how subjects lie."""
    by_axes: dict[str | None, list[str]] = {}
    for name, item in subjects.items():
        by_axes.setdefault(item.axes, []).append(name)
    unknown = by_axes.pop(None, [])
    notes = []
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        notes.append(
            f"{len(unknown)} of {len(subjects)} affines say nothing of orientation ({', '.join(unknown[:3])}{more}): "
            "these keep the stored order of the array; if you know it, say it with --stored-axes (LPS, RAS, ...)"
        )
    if len(by_axes) > 1:
        parts = [f"{axes} in {len(names)} ({names[0]} ...)" for axes, names in sorted(by_axes.items(), key=str)]
        notes.append(
            f"the arrays lie in different orders, {', '.join(parts)}, and keep them: --orientation LPS brings all into "
            "one"
        )
    return tuple(notes)
