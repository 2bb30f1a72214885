"""Regions of a label scheme, labels as those of another scheme, and whether datasets can be compared at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from synthkit.contract import Samples
from synthkit.data.patients import patient_behind
from synthkit.errors import DataError
from synthkit.schemes import BACKGROUND, Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With more parts than these, only those that follow one another are compared.
_MOST_PARTS = 4


def translation_to(scheme: Scheme, other: Scheme, role: str = "other") -> NDArray[np.uint8]:
    """Value of ``other`` -> value of the label of that name in ``scheme``, ``(256,)``.

    Raises
    ------
    DataError : the two have labels of different names.
    """
    values = scheme.reads(other)
    if values is None or len(values) < len(scheme.values):
        names = [enumerated([*one.label_values][1:]) or "none" for one in (scheme, other)]
        raise DataError(
            f"The labels of the real and the {role} dataset have different names.",
            f"Real has {names[0]}, {role} has {names[1]}.",
            "Compare datasets of the same labels; if files were read by a wrong label scheme, prepare or import them "
            "with --labels.",
        )
    table = np.zeros(256, dtype=np.uint8)
    table[list(values)] = list(values.values())
    return table


def regions_of(scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Label values of every region of the scheme; the last region holds every label, "all" where none has them all."""
    regions = dict(scheme.region_values)
    values = scheme.values[1:]
    whole = next((name for name, members in regions.items() if members == values), None)
    if whole is None:
        whole = "all" if "all" not in regions else "all labels"
    regions.pop(whole, None)
    return {**regions, whole: values}


def _parts(scheme: Scheme) -> dict[str, list[str]]:
    """Nested region -> the largest regions inside it, nested ones before labels; the largest first."""
    regions = {region.name: frozenset(region.labels) for region in scheme.regions}
    nested = [region.name for region in scheme.nested]
    order = [*nested, *(label.name for label in scheme.labels)]
    parts = {}
    for name in sorted(nested, key=lambda name: -len(regions[name])):
        inside = [other for other in order if regions[other] < regions[name]]
        parts[name] = [one for one in inside if not any(regions[one] < regions[other] for other in inside)]
    return parts


def ratios_of(scheme: Scheme) -> list[tuple[str, str]]:
    """Pairs of regions, the first inside the second: for BraTS ET/WT, TC/WT and NCR/TC.

    Each part of a nested region but the last, whose share the others say; that one relative to the next larger region.
    """
    parts = _parts(scheme)
    found = []
    for whole, inside in parts.items():
        for part in inside[:-1]:
            if len(parts.get(part, ())) > 1:
                found.append((parts[part][-1], whole))
            found.append((part, whole))
    return list(dict.fromkeys(found))


def borders_of(scheme: Scheme) -> list[tuple[str, str]]:
    """Pairs of regions, and a share of the border of the first lies on the second.

    For BraTS ET on NCR, TC on ED, NCR on background: parts of one nested region, from the smallest region to the whole
    picture, and the first part of the innermost one on background, which others surround.
    """
    parts = _parts(scheme)
    groups = [inside for _, inside in reversed(parts.items())]
    nested = {label for region in scheme.nested for label in region.labels}
    outside = [label.name for label in scheme.labels if label.name not in nested]
    groups.append([*list(parts)[:1], *outside])
    found = [pair for inside in groups for pair in _neighbours(inside, set(parts))]
    found += [(groups[0][0], BACKGROUND)] if parts else []
    return list(dict.fromkeys(found))


def _neighbours(inside: list[str], nested: set[str]) -> Iterator[tuple[str, str]]:
    """Each two of these; a nested region comes before a label, of two labels the later one."""
    pairs = combinations(inside, 2) if len(inside) <= _MOST_PARTS else pairwise(inside)
    for one, other in pairs:
        yield (one, other) if one in nested else (other, one)


def check_comparable(datasets: Mapping[str, Samples]) -> None:
    """DataError for an empty dataset, or for contrasts, sizes or names of labels other than those of the real one."""
    real = datasets["real"]
    for name, data in datasets.items():
        if len(data) == 0:
            raise DataError(f"The {name} dataset is empty.", "There is nothing to compare.", "Give another dataset.")
        if data.contrasts != real.contrasts or data.size != real.size:
            raise DataError(
                f"The real and the {name} dataset cannot be compared.",
                f"Real has {', '.join(real.contrasts)} at {real.size}, {name} has {', '.join(data.contrasts)} at "
                f"{data.size} pixels.",
                "Prepare both with the same contrasts, in the same order, and the same size.",
            )
        translation_to(real.scheme, data.scheme, name)


def patient_numbers(data: Samples) -> NDArray[np.intp]:
    """Number of each sample's patient, ``(n,)``; a sample without a subject stands for itself."""
    names = [sample.id if sample.subject is None else f"patient {patient_behind(sample)}" for sample in data.samples]
    numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.intp)
