"""A number with its interval, over independent units: patients for real images, single images for synthetic ones.

Slices of a patient are not independent; images are draws of the generator. Intervals, 95 %, are those of
:mod:`synthkit.judging.intervals` and :mod:`synthkit.judging.spreads`, and hold the training set and the generator as
given. Where none was found that covers, there is none, and the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthkit.judging.intervals import MIN_PATIENTS
from synthkit.judging.spreads import share_of_pairs
from synthkit_memorization.search.pixels import Float64, Int64


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval (None where there is none) from n independent units; ``note`` says which.

    ``value`` is None where the number is undefined.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


def distance(r: Float64) -> Float64:
    """d = sqrt(2 (1 - r)), 0..2, of the standardised images."""
    result: Float64 = np.sqrt(2 * np.maximum(0.0, 1 - np.asarray(r, np.float64)))
    return result


def numbered(patient: Int64) -> tuple[Int64, int]:
    """0, 1, ... without gaps for each patient, and how many there are."""
    names, number = np.unique(patient, return_inverse=True)
    return number.astype(np.int64), len(names)


def beats(a: Float64, b: Float64) -> Float64:
    result: Float64 = (a > b) + 0.5 * (a == b)
    return result


def share_larger(first: Float64, first_unit: Int64, second: Float64, second_unit: Int64, n: int, note: str) -> Estimate:
    """The share of pairs in which the first is larger, ties half: 0.5 where both sets are alike.

    ``n`` and ``note`` say what the number is of.
    """
    found = share_of_pairs(first, first_unit, second, second_unit)
    low, high = found.interval or (None, None)
    fewest = min(len(np.unique(unit)) for unit in (first_unit, second_unit))
    if found.interval is None:
        note = f"{note}; {fewest} on a side: no interval, give at least {MIN_PATIENTS}"
    return Estimate(found.value, low, high, n, note)
