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

    ordered: Floats = arm[np.lexsort(arm.T[::-1])]
    return ordered


def resampled(arms: Sequence[Floats], patients: Sequence[str], resamples: int, seed: int) -> list[Floats]:
    """Mean of each arm in each resample: of patients, the same in all arms, and of trainings, drawn in each arm."""
    import numpy as np

    number = np.unique(patients, return_inverse=True)[1]
    n_patients = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)[:, number]
    weights = weights / weights.sum(axis=1, keepdims=True)
    means = []
    for arm in arms:
        n = len(arm)
        trainings = rng.multinomial(n, [1 / n] * n, size=resamples) / n
        means.append(((trainings @ arm) * weights).sum(axis=1))
    return means


def interval(means: Floats, value: float, confidence: float = 0.95) -> tuple[float, float]:
    """Percentiles of the resamples, drawn out to the value itself where they do not hold it; never narrower."""
    import numpy as np

    low, high = np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
    return min(float(low), value), max(float(high), value)
