"""Contrasts of one subject that look like one another: files that were exchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.naming import can_judge, check_names, signatures
from synthkit.schemes import Scheme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

# So many slices are looked at, at about so many pixels a side; nine that agree are enough.
_SLICES, _SIDE, _FEWEST = 14, 60, 9
# Half of the brain within this share of its median is as of a background far below it.
_CRUSHED = 0.07
# Whatever labels are called, healthy brain is where there is none.
_ANY = Scheme.of_labels({"background": 0, "labelled": 1})


def exchanged_contrasts(
    images: Mapping[str, NDArray[Any]], labels: UInt8Array | None, places: Sequence[int]
) -> dict[str, str]:
    """Contrast -> the one that it looks like, where that is another; empty where slices do not agree.

    Parameters
    ----------
    images, labels : (x, y, z), with the background at 0.
    places : slices with brain in them.
    """
    if len(places) < _FEWEST:
        return {}
    some = [places[k] for k in np.unique(np.linspace(0, len(places) - 1, _SLICES).round().astype(int))]
    step = max(1, max(next(iter(images.values())).shape[:2]) // _SIDE)
    # Slice by slice: volumes lie so in memory.
    planes = {name: np.stack([data[::step, ::step, z].T for z in some]) for name, data in images.items()}
    planes = {name: found for name, found in planes.items() if _tells(found)}
    if not can_judge(list(planes)):
        return {}
    greys = np.stack([_greys(found) for found in planes.values()], axis=1)
    there = np.zeros(greys[:, 0].shape, dtype=np.uint8)
    if labels is not None:
        there = np.stack([labels[::step, ::step, z].T > 0 for z in some]).astype(np.uint8)
    findings = check_names(signatures(greys, there, _ANY), list(planes))
    return {found.contrasts[0]: found.looks_like for found in findings if found.looks_like}


def _tells(planes: NDArray[Any]) -> bool:
    """Whether the brain has so many values that they can be compared; one that is crushed to a few has not."""
    values = planes[::2, ::2, ::2]
    low, middle, high = np.percentile(values[values != 0], (25, 50, 75)) if values.any() else (0.0, 0.0, 0.0)
    return bool(high - low > _CRUSHED * abs(middle))


def _greys(planes: NDArray[Any]) -> UInt8Array:
    values = planes.astype(np.float32)
    if (low := float(values.min())) < 0:  # its background lies inside the values of the brain
        values = np.where(values == 0, 0, values - low)
    greys: UInt8Array = np.clip(values * (255 / max(float(values.max()), 1e-6)), 0, 255).astype(np.uint8)
    return greys


def exchanged_in_words(found: Mapping[str, str]) -> str:
    """``"t1 looks like t2, and t2 like t1"``."""
    (first, like), *rest = found.items()
    others = "".join(f", and {name} like {other}" for name, other in rest)
    return f"{first} looks like {like}{others}"
