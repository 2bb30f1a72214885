"""Intervals that know what is independent: patients on the real side, images on the synthetic side.

The jackknife leaves out one group at a time (Efron & Tibshirani 1993, chapter 11); a group is a patient or a
synthetic image. Its infinitesimal form (Efron 1982) needs only the influence of every image on the score. A bootstrap
would draw the same images several times, which makes covariances singular and neighbours identical: Frechet distances
of resamples all lie above the value, and nearest neighbours at distance 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Float64 = NDArray[np.float64]

#: Fewer independent units than this on either side have no interval.
MIN_GROUPS = 3


@dataclass(frozen=True)
class Spread:
    """Sampling variance of a score due to one of the two sets, and how many independent units that is known from."""

    variance: float
    n_groups: int


@dataclass(frozen=True)
class Estimate:
    """A score, and its sampling variance due to the first set (real images) and the second (synthetic ones)."""

    value: float
    spreads: tuple[Spread, Spread]


def from_leave_one_out(values: Float64) -> Spread:
    """Jackknife variance ``(g - 1) / g sum (t_i - mean t)^2`` of the scores ``(g,)`` without one group each."""
    n = len(values)
    return Spread(float((n - 1) / n * np.sum((values - values.mean()) ** 2)), n)


def from_influence(influence: Float64, group: NDArray[np.int64]) -> Spread:
    """Variance ``g / (g - 1) sum_g (sum_(i in g) I_i / n)^2`` from the influences ``(n,)`` of images in ``group``."""
    sums = np.bincount(group, weights=influence - influence.mean()) / len(influence)
    n = len(sums)
    return Spread(float(n / max(n - 1, 1) * np.sum(sums**2)), n)


def interval(
    value: float, *spreads: Spread, least: float = -np.inf, most: float = np.inf
) -> tuple[float | None, float | None]:
    """95 % interval around ``value``, cut to ``least..most``; (None, None) with too few independent units.

    Student's t with the degrees of freedom of Welch and Satterthwaite.
    """
    if any(spread.n_groups < MIN_GROUPS for spread in spreads):
        return None, None
    variance = sum(spread.variance for spread in spreads)
    if not variance > 0:
        return value, value
    freedom = variance**2 / sum(s.variance**2 / (s.n_groups - 1) for s in spreads)
    half = float(student.ppf(0.975, freedom)) * variance**0.5
    return min(max(value - half, least), value), max(min(value + half, most), value)
