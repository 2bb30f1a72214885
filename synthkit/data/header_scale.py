"""Headers whose voxel size is wrong by a power of ten: written in cm, metres or micrometres and read as mm.

Resampling takes such a size at its word and makes a head of a tenth or ten times its size. So the size is judged by how
large the volume would be, and by those of other subjects, before anything is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthkit.errors import DataError

Spacing = tuple[float, float, float]

# A volume of a head is about so large, and never larger than this: a table's length.
_HEAD_MM, _LARGEST_MM = 200.0, 1000.0
# Two sizes are a power of ten apart within this part along every axis; of volumes one of which is no head's, roughly.
_EXACTLY, _ROUGHLY = 1.15, 2.0
_SMALL_MM, _MANY_VOXELS = 60.0, 128
_SHOWN = 20


@dataclass(frozen=True)
class StoredGrid:
    """Shape in voxels and voxel size in mm of a volume as it is stored."""

    shape: Sequence[int]
    spacing_mm: Spacing

    @property
    def extent_mm(self) -> float:
        """Length of the longest side."""
        return max(n * size for n, size in zip(self.shape, self.spacing_mm, strict=True))

    def __str__(self) -> str:
        sizes = " x ".join(f"{size:.3g}" for size in self.spacing_mm)
        return f"voxels of {sizes} mm, {self.extent_mm:.3g} mm along its longest side"


def too_large(grid: StoredGrid) -> str | None:
    """Why a volume is no head's by its size alone, and what helps; None where it may be one."""
    if grid.extent_mm <= _LARGEST_MM:
        return None
    return _said(grid, 10 ** max(1, round(math.log10(grid.extent_mm / _HEAD_MM))))


def too_small_for_heads(grids: Sequence[StoredGrid]) -> str | None:
    """That volumes of many voxels are all too small to be heads, which only their headers can be wrong about."""
    if not grids or not all(grid.extent_mm < _SMALL_MM and max(grid.shape) >= _MANY_VOXELS for grid in grids):
        return None
    largest = max(grid.extent_mm for grid in grids)
    return (
        f"volumes are {largest:.3g} mm along their longest side at most: where they are of human heads, their headers "
        f"are wrong by a factor of {_factor(10 ** round(math.log10(_HEAD_MM / largest)))}, and so are all distances"
    )


def power_of_ten(grid: StoredGrid, right_mm: Sequence[float]) -> float:
    """By how much the voxels of a volume are larger than the right ones, 10, 100, 1000 or one by them; 1 for others."""
    ratios = [size / right for size, right in zip(sorted(grid.spacing_mm), sorted(right_mm), strict=True)]
    power = round(math.log10(math.prod(ratios)) / 3)
    if not 1 <= abs(power) <= 3:
        return 1.0
    is_a_head = _SMALL_MM <= grid.extent_mm <= _LARGEST_MM
    tolerance = _EXACTLY if is_a_head else _ROUGHLY
    return 10.0**power if all(1 / tolerance <= ratio / 10.0**power <= tolerance for ratio in ratios) else 1.0


def check_scales(grids: Mapping[str, StoredGrid], right_mm: Sequence[float] | None = None, whose: str = "") -> None:
    """See that no header is wrong by a power of ten against the others, or against a size that is known to be right.

    Parameters
    ----------
    grids : subject -> how it is stored.
    right_mm : the size of the training images of a model; by default that of most subjects.
    whose : what has that size, in words.

    Raises
    ------
    DataError : subjects whose headers look wrong, each with its size, and what to do.
    """
    if right_mm is None:
        right_mm, whose = _of_most(grids), "most others"
    wrong = {name: factor for name, grid in grids.items() if (factor := power_of_ten(grid, right_mm)) != 1}
    for name, grid in grids.items():
        if name not in wrong and too_large(grid):
            wrong[name] = 10.0 ** max(1, round(math.log10(grid.extent_mm / _HEAD_MM)))
    if not wrong:
        return
    right = " x ".join(f"{size:.3g}" for size in right_mm)
    lines = [f"{name}: {grids[name]}, {_times(factor)}" for name, factor in wrong.items()]
    raise DataError(
        f"The header{'s' if len(wrong) > 1 else ''} of {', '.join([*wrong][:3])}{' ...' if len(wrong) > 3 else ''} "
        f"look{'' if len(wrong) > 1 else 's'} wrong by a factor of {_factor(next(iter(wrong.values())))}.",
        f"Its voxels are {_times(next(iter(wrong.values())))}; those of {whose} are of {right} mm. To resample "
        "it would make its head of another size, not its header right.",
        _FIX,
        [*lines[:_SHOWN], *([f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])],
    )


_FIX = (
    "Correct the headers of all its files: divide voxel size, affine and origin by that factor where it is too large, "
    "multiply them where it is too small (with nibabel: affine[:3] /= 10, and save the data with it); or leave it out."
)


def _said(grid: StoredGrid, factor: float) -> str:
    return (
        f"its header looks wrong by a factor of {_factor(factor)}: {grid}, which no head is; divide the voxel size and "
        f"the affine of all its files by {_factor(factor)}"
    )


def _factor(factor: float) -> str:
    return f"{max(factor, 1 / factor):.0f}"


def _times(factor: float) -> str:
    return f"about {_factor(factor)} times too {'large' if factor > 1 else 'small'}"


def _of_most(grids: Mapping[str, StoredGrid]) -> Spacing:
    """The voxel size of the largest group; of two groups as large, of the one whose volumes are more like a head."""
    groups: list[list[StoredGrid]] = []
    for grid in grids.values():
        for group in groups:
            if power_of_ten(grid, group[0].spacing_mm) == 1:
                group.append(grid)
                break
        else:
            groups.append([grid])
    best = max(groups, key=lambda group: (len(group), -abs(math.log(group[0].extent_mm / _HEAD_MM))))
    return best[0].spacing_mm
