"""Which value of a picture is which label; whether pictures hold these values is judged in ``label_counts.py``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.labels import grey_levels
from synthkit.errors import DataError, UsageError
from synthkit.schemes import BACKGROUND, Scheme, enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Values that a picture of labels may hold: those of 16 bits.
N_VALUES = 65536

# What scaling to a type and back leaves of a whole number.
_ROUNDED = 0.01


@dataclass(frozen=True)
class LabelLevels:
    """How labels are written.

    Attributes
    ----------
    name : "study" (grey levels of exports), "raw" (label values) or "given".
    levels : value in a picture -> label value.
    nearest : take every other value to the nearest of these.
    by_name : labels were given by their names, which a value does not have by itself.
    """

    name: str
    levels: dict[int, int]
    nearest: bool = False
    by_name: bool = False

    @property
    def spec(self) -> str:
        """The ``--label-levels`` that asks for these."""
        words = self.written if self.name == "given" else self.name
        return f"{words},nearest" if self.nearest else words

    @property
    def written(self) -> str:
        """Each ``label=grey``."""
        return ",".join(f"{label}={grey}" for grey, label in self.levels.items())

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """Label of each value, ``(65536,)``; a tie goes to the lower level, as in the study."""
        greys = np.asarray(sorted(self.levels), dtype=np.int64)
        cuts = (greys[:-1] + greys[1:]) // 2  # up to here the lower level is nearest, or as near
        index = np.searchsorted(cuts, np.arange(N_VALUES), side="left")
        return np.asarray([self.levels[int(grey)] for grey in greys], dtype=np.uint8)[index]

    @cached_property
    def is_level(self) -> NDArray[np.bool_]:
        """Whether each value is one of the levels, ``(65536,)``."""
        found = np.zeros(N_VALUES, dtype=np.bool_)
        found[list(self.levels)] = True
        return found


def study_levels(scheme: Scheme) -> LabelLevels:
    """Those that exports write: 0, 51, 102 and 204 for BraTS."""
    values = scheme.values
    return LabelLevels("study", dict(zip(grey_levels(values).tolist(), values, strict=True)))


def names_of_greys(scheme: Scheme) -> dict[int, str]:
    """Grey level of the study -> the label that it is."""
    return dict(
        zip(study_levels(scheme).levels, sorted(scheme.label_values, key=scheme.label_values.__getitem__), strict=True)
    )


def raw_levels(scheme: Scheme) -> LabelLevels:
    """Label values themselves."""
    return LabelLevels("raw", {v: v for v in scheme.values})


def parse_levels(spec: str, scheme: Scheme) -> LabelLevels:
    """``study``, ``raw``, ``0=0,1=85,2=170,4=255`` (label=grey; names work as well) or ``0,85,170,255`` (in the order
    of the labels); with ``nearest`` among them, other values go to the nearest.

    Raises
    ------
    UsageError : not of these forms, no such label, a grey of two labels, or no grey of 0 to 65535.
    """
    words = [word.strip() for word in spec.split(",") if word.strip()]
    nearest = "nearest" in words
    words = [word for word in words if word != "nearest"]
    if words in ([], ["study"]):
        return replace(study_levels(scheme), nearest=nearest)
    if words == ["raw"]:
        if nearest:
            raise _not_understood(spec, "Label values have no nearest value: 3 is not half of a label.", scheme)
        return raw_levels(scheme)
    try:
        if all("=" in word for word in words):
            pairs = [(left.strip(), int(right)) for left, right in (word.split("=", 1) for word in words)]
        else:
            greys = [int(word) for word in words]
            if len(greys) != len(scheme.values):
                reason = f"A list has one grey for each of the labels {enumerated([*map(str, scheme.values)])}."
                raise _not_understood(spec, reason, scheme)
            pairs = [(str(label), grey) for label, grey in zip(scheme.values, greys, strict=True)]
    except ValueError as error:
        raise _not_understood(spec, "A grey is a whole number.", scheme) from error
    names = {name.lower(): value for name, value in scheme.label_values.items()}
    names |= {str(value): value for value in scheme.values}
    levels: dict[int, int] = {}
    for name, grey in pairs:
        if name.lower() not in names:
            raise _not_understood(spec, f"{name} is not a label.", scheme)
        if not 0 <= grey < N_VALUES or levels.get(grey, names[name.lower()]) != names[name.lower()]:
            raise _not_understood(spec, f"The grey {grey} is beyond 65535 or of two labels.", scheme)
        levels[grey] = names[name.lower()]
    if 0 not in levels.values():
        if 0 in levels:
            raise _not_understood(spec, "It names no grey of the background, which is not 0 here.", scheme)
        levels = {0: 0, **levels}
    by_name = any(not name.isdigit() and name.lower() != BACKGROUND for name, _ in pairs)
    return LabelLevels("given", levels, nearest, by_name)


def _not_understood(spec: str, why: str, scheme: Scheme) -> UsageError:
    labels = ", ".join(f"{value} {name}" for name, value in scheme.label_values.items())
    example = study_levels(scheme).written
    return UsageError(
        f"--label-levels {spec} is not understood.",
        why,
        f"Write raw, or label=grey of each, such as {example}; labels are {labels}.",
    )


def whole_labels(name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels of any type as whole numbers of 0 to 65535; floats within 0.01 of one are rounded.

    Raises
    ------
    DataError : other numbers.
    """
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (np.abs(labels - np.rint(labels)) > _ROUNDED).any():
            off = labels[~(np.abs(labels - np.rint(labels)) <= _ROUNDED)]
            raise DataError(
                f"The labels of {name} are not whole numbers.",
                f"They hold {float(off[0]):g}.",
                "Save them without interpolation or scaling, as whole numbers.",
            )
        labels = np.rint(labels)
    if labels.dtype.kind != "b" and (labels.min() < 0 or labels.max() >= N_VALUES):
        raise DataError(
            f"The labels of {name} hold values from {labels.min():g} to {labels.max():g}.",
            f"Values of labels are 0 to {N_VALUES - 1}.",
            "Correct them where they are made.",
        )
    return labels if labels.dtype == np.uint8 else labels.astype(np.uint16)
