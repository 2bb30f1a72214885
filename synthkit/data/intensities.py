"""What stored values mean: where the background lies, how the brain lies to it, and what becomes which grey level.

The rules of :mod:`synthkit.data.slices` take 0 for background and what is above it for brain. Volumes come otherwise:
normalized to mean 0 and standard deviation 1 (z-scores) with the background at 0 or at the minimum, scaled to -1..1,
with a background of -1024. The background is the value that dominates the border. Where the brain lies above it, the
background is moved to 0, which loses nothing. Where it lies inside the values of the brain, only a rule
reads the volume that tells brain from background otherwise than by "above 0": percentiles of the brain, ``p0.5-p99.5``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The rule for volumes whose background lies inside the values of the brain.
OF_THE_BRAIN = "p0.5-p99.5"
#: The gentlest percentile that frees a contrast of few very bright voxels comes first.
PERCENTILES = ("p99.9", "p99.5", "p99")

# Every so many rows and slices are looked at; along x all voxels are, since they lie side by side in memory.
_EVERY = 8
_SMALL = 64
# A value dominates the border with half of it, or with a fifth where no other value comes near.
_DOMINATES, _STANDS_OUT, _TIMES_THE_NEXT = 0.5, 0.2, 5
# Fewer voxels below the background are what interpolation leaves at edges, as are those less far below than this share
# of the brain's range.
_BELOW, _FAR_BELOW = 0.02, 0.01
# Interpolation leaves a constant background so nearly constant (share of the volume's range); no grey level differs.
_ROUNDING = 1e-4
# One value in a quarter of the other voxels is a second background: padding around a background of another value.
_SECOND, _FEWEST_VALUES = 0.25, 32


@dataclass(frozen=True)
class Rule:
    """An intensity rule.

    Attributes
    ----------
    low : percentile of the brain that becomes the darkest grey level, 1; None where the background, 0, becomes 0.
    high : percentile of the voxels above zero (of the brain, with ``low``) that becomes 255; 100 is the maximum.
    """

    low: float | None
    high: float

    @classmethod
    def parse(cls, text: str) -> Rule | None:
        """``max``, ``p99.9`` or ``p0.5-p99.5``; None for anything else."""
        if text == "max":
            return cls(None, 100.0)
        first, dash, second = text.partition("-")
        try:
            values = [float(part.removeprefix("p")) for part in (first, second) if part.startswith("p")]
        except ValueError:
            return None
        if len(values) != 1 + bool(dash) or not 0 < values[-1] <= 100:
            return None
        if not dash:
            return cls(None, values[0])
        return cls(*values) if 0 <= values[0] < values[1] else None


@dataclass(frozen=True)
class Background:
    """The background of one volume, and how its brain lies to it.

    Attributes
    ----------
    value : as stored; None where no value dominates the border.
    below : share of the brain (all voxels but the background) that is darker; of all voxels that are negative, where
        there is no background.
    second : a second value that surrounds the brain inside the first; None if there is none.
    is_z_score : whether the brain has mean 0 and standard deviation 1.
    rounding : how far from the value the background may lie.
    """

    value: float | None
    below: float = 0.0
    second: float | None = None
    is_z_score: bool = False
    rounding: float = 0.0

    @property
    def is_inside(self) -> bool:
        """Whether the brain lies on both sides of the background, or below it."""
        return self.below > _BELOW

    @property
    def kind(self) -> str:
        """In a few words, for a person who compares subjects."""
        scores = "z-scores, " if self.is_z_score else ""
        if self.value is None:
            return "no constant background" if not self.is_inside else "negative values and no constant background"
        if self.is_inside:
            where = "above" if self.below > 1 - _BELOW else "inside the values of"
            return f"{scores}background {self.value:g} {where} the brain"
        return f"{scores}background {self.value:g}" if self.value else "background 0 below the brain"


def from_background(data: NDArray[Any]) -> tuple[NDArray[Any], Background]:
    """A volume (x, y, z) with its background at 0, and what was found; the volume itself where nothing is to be done.

    Floating point keeps its type, whole numbers become 64-bit ones where the background was not 0.
    """
    found = recognize(data)
    if found.value is None or found.second is not None or not (found.value or found.rounding):
        return data, found
    if data.dtype.kind in "iu":
        return data.astype(np.int64) - int(found.value), found
    moved = data - data.dtype.type(found.value)
    if found.rounding:
        moved[np.abs(moved) <= found.rounding] = 0
    return moved, found


def recognize(data: NDArray[Any]) -> Background:
    """The background of a volume (x, y, z) of finite values, from its sides and a sample of its rows."""
    sample = sampled(data)
    border = border_of(data)
    value, rounding = _most_frequent(border), 0.0
    if value is None and data.dtype.kind == "f":
        rounding = _ROUNDING * float(np.ptp(sample))
        middle = np.median(border)
        value = middle if np.count_nonzero(np.abs(border - middle) <= rounding) >= _DOMINATES * border.size else None
    if value is None:
        return Background(None, float(np.count_nonzero(sample < 0)) / max(1, sample.size))
    brain = sample[np.abs(sample - value) > rounding] if rounding else sample[sample != value]
    if not len(brain):
        return Background(float(value), rounding=rounding)
    brain.sort()
    below = int(np.searchsorted(brain, value)) / len(brain)
    ordinary = below <= _BELOW
    if not ordinary:
        low, high = (float(brain[int(q * (len(brain) - 1))]) for q in (0.001, 0.999))
        margin = _FAR_BELOW * (max(high, float(value)) - min(low, float(value)))
        below = float(np.count_nonzero(brain < float(value) - margin)) / len(brain)
    scores = False
    if not ordinary or value:
        mean, deviation = float(brain.mean(dtype=np.float64)), float(brain.std(dtype=np.float64))
        scores = abs(mean) < 0.1 and 0.8 < deviation < 1.25
    return Background(float(value), below, _second(brain), scores, rounding)


def border_of(data: NDArray[Any]) -> NDArray[Any]:
    """Voxels of the four sides of a volume."""
    y, z = (_step(n) for n in data.shape[1:])
    rows = (data[:: _step(data.shape[0]), side, ::z] for side in (0, -1))
    columns = (data[side, ::y, ::z] for side in (0, -1))
    return np.concatenate([part.ravel() for part in (*rows, *columns)])


def _most_frequent(border: NDArray[Any]) -> Any:
    """The value that dominates the border; None if none does."""
    values, counts = np.unique(border, return_counts=True)
    most = int(counts.argmax())
    share, others = counts[most] / border.size, np.delete(counts, most)
    alone = not len(others) or counts[most] >= _TIMES_THE_NEXT * others.max()
    return values[most] if share >= _DOMINATES or (alone and share >= _STANDS_OUT) else None


def _second(ordered: NDArray[Any]) -> float | None:
    """The value of a second background among the sorted values of all but the first."""
    n = len(ordered)
    width = int(_SECOND * n)
    if width < _FEWEST_VALUES:
        return None
    # A run of a quarter shows at one of every eighth.
    marks = ordered[:: max(1, width // 2)]
    same = np.flatnonzero(marks[1:] == marks[:-1])
    if not len(same):
        return None
    value = marks[same[0]]
    start, stop = (int(np.searchsorted(ordered, value, side=side)) for side in ("left", "right"))  # type: ignore[call-overload]
    others = np.concatenate([ordered[:start], ordered[stop:]])
    few = len(np.unique(others)) < _FEWEST_VALUES
    return None if stop - start <= width or few or value >= others[len(others) // 2] else float(value)


def sampled(data: NDArray[Any]) -> NDArray[Any]:
    """Some rows of a volume (x, y, z), all of a small one: enough for figures that need not be exact."""
    return data[:, :: _step(data.shape[1]), :: _step(data.shape[2])]


def _step(n: int) -> int:
    return _EVERY if n >= _SMALL else 1


# ------------------------------------------------------------------------------------------------- rules and volumes


def unfit(backgrounds: Mapping[str, Background], rule: Rule) -> str | None:
    """Why a rule does not read a subject, in words; None if it does. ``backgrounds``: contrast -> what was found."""
    reasons: dict[str, list[str]] = defaultdict(list)
    inside: dict[str, list[str]] = defaultdict(list)
    for name, found in backgrounds.items():
        if found.second is not None:
            both = f"two backgrounds, {found.value:g} at the border and {found.second:g} around the brain"
            reasons[f"{both} (write {found.second:g} to the border too)"].append(name)
        elif found.is_inside and rule.low is None:
            inside[found.kind].append(name)
    for kind, names in inside.items():
        shares = sorted({round(100 * backgrounds[name].below) for name in names})
        share = f"{shares[0]}" if len(shares) == 1 else f"{shares[0]} to {shares[-1]}"
        what = "of the brain lie below it" if backgrounds[names[0]].value is not None else "of all voxels"
        reasons[f"{kind} ({share} % {what})"] += names
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()) or None


def greys_of_brain(volume: NDArray[Any], rule: Rule) -> NDArray[np.float32]:
    """Grey levels of a volume (x, y, z) with its background at 0, by percentiles of its brain.

    Brain is all that is not exactly 0, with holes filled. The ``low`` percentile becomes 1, the ``high`` one 255, and
    what is beyond is clipped to these, so that dark brain stays above the background, which is 0.
    """
    assert rule.low is not None
    brain = _with_holes_filled(volume != 0)
    values = volume[brain].astype(np.float64)
    low, high = np.percentile(values, (rule.low, rule.high))
    greys = np.zeros(volume.shape, dtype=np.float32, order="F" if volume.flags.f_contiguous else "C")
    span = high - low
    greys[brain] = np.clip(1 + (values - low) / span * 254, 1, 255) if span > 0 else 255
    return greys


def brain_of(volume: NDArray[Any], background: Background | None) -> NDArray[np.bool_]:
    """Where brain is in slices (x, y, z) with their background at 0; holes only where 0 is a value of the brain too."""
    brain = volume != 0
    return _with_holes_filled(brain) if background is not None and background.is_inside else brain


def _with_holes_filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and what it encloses: brain may have the very value of the background here and there."""
    from scipy import ndimage

    box = tuple(_extent(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3))
    # Nothing is added above and below: a slab is cut there, and so may be a hole in its first slice.
    outside, _ = ndimage.label(np.pad(~mask[box], ((1, 1), (1, 1), (0, 0)), constant_values=True))
    filled = mask.copy()
    filled[box] = (outside != outside[0, 0, 0])[1:-1, 1:-1]
    return filled


def _extent(used: Any) -> slice:
    where = np.flatnonzero(used)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0)
