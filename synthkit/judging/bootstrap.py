"""The bootstrap behind the intervals of arms: patients are drawn in all arms together, trainings in each on its own.

Percentile intervals; see Efron and Tibshirani, An introduction to the bootstrap, 1993, chapters 8 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def in_order(arm: Floats) -> Floats:
    """Trainings by their scores: which one is drawn depends on what it is, not on where it was named."""
    import numpy as np

    ordered: Floats = arm[np.lexsort(arm.reshape(len(arm), -1).T[::-1])]
    return ordered


def means_of(arm: Floats) -> Floats:
    """Mean ``(training,)`` over regions of the mean over subjects, of ``(training, subject, region)`` without NaN.

    A region that no subject counts for is left out, as ``evaluate`` does.
    """
    import numpy as np

    means: Floats = _mean(np.ones((1, arm.shape[1])), arm)[0]
    return means


def resampled(arms: Sequence[Floats], patients: Sequence[str], resamples: int, seed: int) -> list[Floats]:
    """Mean of each arm in each resample: of patients, the same in all arms, and of trainings, drawn in each arm.

    Arms are ``(training, subject, region)``, NaN where a score does not count. NaN where nothing that counts was drawn.
    """
    import numpy as np

    number = np.unique(patients, return_inverse=True)[1]
    n_patients = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)[:, number]
    means = []
    for arm in arms:
        n = len(arm)
        trainings = rng.multinomial(n, [1 / n] * n, size=resamples).astype(np.float64)
        own = _mean(weights.astype(np.float64), arm)
        trainings[np.isnan(own)] = 0.0
        with np.errstate(invalid="ignore"):
            means.append((trainings * np.nan_to_num(own)).sum(axis=1) / trainings.sum(axis=1))
    return means


def _mean(weights: Floats, arm: Floats) -> Floats:
    """Weighted means ``(resample, training)`` of an arm: over subjects, then over the regions that have any."""
    import numpy as np

    counted = ~np.isnan(arm)
    with np.errstate(invalid="ignore"):
        by_region = np.einsum("bs,tsr->btr", weights, np.nan_to_num(arm), optimize=True)
        by_region /= np.einsum("bs,tsr->btr", weights, counted.astype(np.float64), optimize=True)
        there = ~np.isnan(by_region)
        means: Floats = np.where(there, by_region, 0.0).sum(axis=2) / there.sum(axis=2)
    return means


def interval(means: Floats, value: float, confidence: float = 0.95) -> tuple[float, float]:
    """Percentiles of the resamples, drawn out to the value itself where they do not hold it; never narrower."""
    import numpy as np

    low, high = np.nanpercentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
    return min(float(low), value), max(float(high), value)
