"""Does a match stand out among the other training images: authenticity, and the ratio of distances by patient.

Functions take r of best matches; nothing is searched here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.estimate import Estimate, distance, numbered, resampled_subjects, with_interval
from synthkit_memorization.search.pixels import Float64, Int64

#: Resamples taken at a time.
_RESAMPLES_AT_ONCE = 100


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


def summarise_ratios(
    synthetic: Float64, null: Float64, null_patient: Int64, resamples: int, seed: int, level: float = 0.05
) -> Ratios:
    """Quantiles of :func:`distance_ratio`, and the share of synthetic images below the null's 5 % quantile (0.05).

    Synthetic quantiles have intervals by order statistics, the null's by resampling patients. The share is drawn anew
    for each resampled quantile from Jeffreys' posterior, so that a count of 0 has an upper bound too. NaN is left out.
    """
    kept = ~np.isnan(null)
    null, (patient, n_patients) = np.sort(null[kept]), numbered(null_patient[kept][np.argsort(null[kept])])
    synthetic = np.sort(synthetic[~np.isnan(synthetic)])
    if not len(synthetic) or not len(null):
        return Ratios(*[Estimate(None, n=0, note="no other patient to compare with")] * 5)
    rng = np.random.default_rng(seed)
    times = resampled_subjects(n_patients, resamples, rng)
    draws = np.concatenate(
        [
            _resampled_quantiles(null, patient, times[first : first + _RESAMPLES_AT_ONCE], (0.5, level))
            for first in range(0, resamples, _RESAMPLES_AT_ONCE)
        ]
    )
    line = _lower_quantile(null, level)
    below, n = int(np.searchsorted(synthetic, line)), len(synthetic)
    counts = np.searchsorted(synthetic, draws[:, 1])
    share = rng.beta(counts + 0.5, n - counts + 0.5)

    def of_null(value: float, resampled: Float64) -> Estimate:
        return with_interval(value, resampled, n_patients, n_patients, "resampling null patients", share=False)

    note = f"{level:g} without copying; over synthetic images and {n_patients} null patients"
    return Ratios(
        median=_quantile_estimate(synthetic, 0.5),
        low_quantile=_quantile_estimate(synthetic, level),
        null_median=of_null(_lower_quantile(null, 0.5), draws[:, 0]),
        null_low_quantile=of_null(line, draws[:, 1]),
        below_null=with_interval(below / n, share, n_patients, n, note, share=False),
    )


def _lower_quantile(ordered: Float64, level: float) -> float:
    """The smallest value that a share of at least ``level`` does not exceed: the same rule for whole and resampled."""
    return float(ordered[max(0, int(np.ceil(level * len(ordered) - 1e-9)) - 1)])


def _resampled_quantiles(ordered: Float64, patient: Int64, times: Int64, levels: tuple[float, ...]) -> Float64:
    """Lower quantiles of ascending values in each resample, ``(resample, level)``."""
    held = times[:, patient].cumsum(axis=1)
    targets = [np.maximum(1, np.ceil(level * held[:, -1] - 1e-9)) for level in levels]
    return np.stack([ordered[(held < target[:, None]).sum(axis=1)] for target in targets], axis=1)


def _quantile_estimate(ordered: Float64, level: float) -> Estimate:
    """A quantile with its interval from order statistics (normal approximation of the binomial rank)."""
    n = len(ordered)
    half = 1.96 * np.sqrt(n * level * (1 - level))
    low, high = (int(np.clip(rank, 1, n)) for rank in (np.floor(n * level - half), np.ceil(n * level + half) + 1))
    return Estimate(
        _lower_quantile(ordered, level), float(ordered[low - 1]), float(ordered[high - 1]), n, "over synthetic images"
    )
