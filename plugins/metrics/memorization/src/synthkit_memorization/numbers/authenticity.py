"""Does a match stand out among the other training images: authenticity, and the ratio of distances by patient.

Functions take r of best matches; nothing is searched here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit.judging.spreads import quantile_interval
from synthkit_memorization.estimate import Estimate, distance
from synthkit_memorization.search.pixels import Float64, Int64


def authentic(r: Float64, match: Int64, train_r: Float64) -> NDArray[np.bool_]:
    """Which synthetic images are authentic (Alaa et al., ICML 2022), ``(image,)``; their share falls with every copy.

    Synthetic image i with nearest training image j = match[i] is authentic unless it is nearer to j than j's nearest
    other training image is: r[i] <= train_r[j]. Two known packages index the distances of the real images with i in
    place of j, and their score rises when copies are planted.

    Slices have near-duplicates in the same patient, which make train_r[j] large and the test blunt: only a copy closer
    than the next slice is then not authentic. With train_r among other patients it asks what a patient loses. Given the
    training set the images are independent, so the share has a Clopper-Pearson interval.

    Parameters
    ----------
    r, match : best r in the training set and its index, ``(synthetic image,)``.
    train_r : best r of each training image among the others, or among those of other patients.
    """
    result: NDArray[np.bool_] = r <= train_r[match]
    return result


def distance_ratio(r_best: Float64, r_other: Float64) -> Float64:
    """d of the best match over d of the best match of another patient, 0..1; low where one patient stands out.

    1 where both are 0 (then nobody is singled out), NaN where there is no other patient.
    """
    near, far = distance(r_best), distance(r_other)
    result: Float64 = np.where(far > 0, near / np.where(far > 0, far, 1.0), 1.0)
    return np.where(np.isnan(r_other), np.nan, result)


@dataclass(frozen=True)
class Ratios:
    """Distance ratios of synthetic and of null images: median, 5 % quantile, and how many are lower than the null's."""

    median: Estimate
    low_quantile: Estimate
    null_median: Estimate
    null_low_quantile: Estimate
    below_null: Estimate


def summarise_ratios(synthetic: Float64, null: Float64, null_patient: Int64, level: float = 0.05) -> Ratios:
    """Quantiles of :func:`distance_ratio`, and the share of synthetic images below the null's 5 % quantile (0.05).

    Quantiles of synthetic images, which are independent, have intervals by order statistics. Those of the null, of
    slices of few patients, and what is counted by them, have none: no interval of them was found that covers. NaN is
    left out.
    """
    kept = ~np.isnan(null)
    null, n_patients = np.sort(null[kept]), len(np.unique(null_patient[kept]))
    synthetic = np.sort(synthetic[~np.isnan(synthetic)])
    if not len(synthetic) or not len(null):
        return Ratios(*[Estimate(None, n=0, note="no other patient to compare with")] * 5)
    line, n = _lower_quantile(null, level), len(synthetic)
    given = f"of slices of {n_patients} patients"
    return Ratios(
        median=quantile_estimate(synthetic, 0.5),
        low_quantile=quantile_estimate(synthetic, level),
        null_median=Estimate(_lower_quantile(null, 0.5), n=n_patients, note=f"{given}, which gives no interval"),
        null_low_quantile=Estimate(line, n=n_patients, note=f"{given}, which gives no interval"),
        below_null=Estimate(
            float(np.searchsorted(synthetic, line)) / n,
            n=n,
            note=f"{level:g} without copying; no interval: the quantile is one {given}",
        ),
    )


def _lower_quantile(ordered: Float64, level: float) -> float:
    """The smallest value that a share of at least ``level`` does not exceed."""
    return float(ordered[max(0, int(np.ceil(level * len(ordered) - 1e-9)) - 1)])


def quantile_estimate(values: Float64, level: float) -> Estimate:
    """A quantile of independent values, with its interval by order statistics if there are enough."""
    value, found = _lower_quantile(np.sort(values), level), quantile_interval(values, level)
    if found is None:
        return Estimate(value, n=len(values), note=f"over synthetic images, of which {len(values)} give no interval")
    return Estimate(value, min(found[0], value), max(found[1], value), len(values), "over synthetic images")
