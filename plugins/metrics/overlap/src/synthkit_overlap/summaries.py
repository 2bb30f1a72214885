"""From the values of subjects to a mean, its interval and a standard deviation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from synthkit import Score
from synthkit_overlap import Params

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fewer subjects than this have no interval.
MIN_SUBJECTS_FOR_INTERVAL = 3


def bootstrap_interval(values: NDArray[np.float64], *, resamples: int, seed: int) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap interval over subjects of the mean of column means.

    ``values`` is ``(subject, column)`` with NaN where a value does not count: one column for one region, three
    for the mean of three labels. Whole subjects are drawn, since the regions of one brain depend on each other.
    (None, None) if fewer than :data:`MIN_SUBJECTS_FOR_INTERVAL` subjects count.
    """
    counted = ~np.isnan(values)
    values, counted = values[counted.any(axis=1)], counted[counted.any(axis=1)]
    n = len(values)
    if n < MIN_SUBJECTS_FOR_INTERVAL:
        return None, None
    # How often each subject is drawn: a resample is then a weighted mean, and all of them one matrix product.
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    weights = draws @ counted
    with np.errstate(invalid="ignore"):
        columns = draws @ np.where(counted, values, 0.0) / weights
    # A label that no drawn subject has is missing from this resample; every resample has at least one label.
    means = np.nanmean(columns, axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summary(name: str, region: str, values: NDArray[np.float64], note: str, params: Params) -> Iterator[Score]:
    """Mean of column means over subjects, its interval, and the standard deviation over subjects (ddof 1)."""
    of = {"region": region}
    kept = values[:, ~np.isnan(values).all(axis=0)]
    kept = kept[~np.isnan(kept).all(axis=1)]
    n = len(kept)
    notes = [note] if note else []
    if n == 0:
        notes.append("no subject counts")
        yield Score(name=f"{name}_mean", value=None, of=of, n=0, note="; ".join(notes))
        yield Score(name=f"{name}_std", value=None, of=of, n=0, note="no subject counts")
        return
    low, high = bootstrap_interval(kept, resamples=params.resamples, seed=params.seed)
    if low is None:
        notes.append(f"no interval below {MIN_SUBJECTS_FOR_INTERVAL} subjects")
    mean = float(np.nanmean(kept, axis=0).mean())
    yield Score(name=f"{name}_mean", value=mean, of=of, low=low, high=high, n=n, note="; ".join(notes))
    std = float(np.nanmean(kept, axis=1).std(ddof=1)) if n > 1 else None
    yield Score(name=f"{name}_std", value=std, of=of, n=n, note="" if n > 1 else "undefined for one subject")
