"""A number with its interval, and how intervals are made: by resampling independent units.

Independent units are patients for real images (their slices are not independent) and single images for synthetic ones
(draws of the generator). Intervals, 95 %, resample those and hold the training set and the generator as given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthkit.judging.intervals import clopper_pearson
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


def resampled_subjects(n: int, resamples: int, rng: np.random.Generator) -> Int64:
    """How often each of n subjects is drawn, with replacement, in each resample of n; int64 ``(resample, subject)``."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples)


def numbered(patient: Int64) -> tuple[Int64, int]:
    """0, 1, ... without gaps for each patient, and how many there are."""
    names, number = np.unique(patient, return_inverse=True)
    return number.astype(np.int64), len(names)


def mid_rank(ordered: Float64, values: Float64) -> Float64:
    """How many of the ascending values lie below each, those that equal it as a half."""
    result: Float64 = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    return result


def beats(a: Float64, b: Float64) -> Float64:
    result: Float64 = (a > b) + 0.5 * (a == b)
    return result


def with_interval(value: float, draws: Float64, units: int, n: int, note: str, *, share: bool = True) -> Estimate:
    """Percentile interval; none if the smaller side has one unit.

    A share of 0 or 1 never varies in resamples. As many disjoint pairs as the smaller side has units are independent
    trials, here all with the same outcome: then the interval is Clopper-Pearson of those.
    """
    if units < 2:
        return Estimate(value, n=n, note=f"{note}; no interval from one")
    low, high = (float(bound) for bound in np.quantile(draws, (0.025, 0.975)))
    if share and value in (0.0, 1.0):
        low, high = clopper_pearson(round(value * units), units)
    return Estimate(value, min(low, value), max(high, value), n, note)
