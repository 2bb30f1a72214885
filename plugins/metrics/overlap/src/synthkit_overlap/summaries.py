"""From the values of subjects to a mean, its interval and a standard deviation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from synthkit import Score
from synthkit.data.patients import by_names
from synthkit.judging.intervals import MIN_PATIENTS, mean_interval, no_interval
from synthkit_overlap import Params

if TYPE_CHECKING:
    from numpy.typing import NDArray


def summary(
    name: str,
    region: str,
    values: NDArray[np.float64],
    note: str,
    params: Params,
    *,
    subjects: Sequence[str],
    most: float,
) -> Iterator[Score]:
    """Mean of column means over subjects, its interval over patients, and the standard deviation over subjects.

    ``values`` is ``(subject, column)`` from 0 to ``most``, with NaN where a value does not count: one column for one
    region, several for the mean of several. The standard deviation is that of n - 1.
    """
    of = {"region": region}
    counts = np.asarray(~np.isnan(values).all(axis=1))
    kept = values[counts][:, ~np.isnan(values).all(axis=0)]
    n = len(kept)
    notes = [note] if note else []
    if n == 0:
        notes.append("no subject counts")
        yield Score(name=f"{name}_mean", value=None, of=of, n=0, note="; ".join(notes))
        yield Score(name=f"{name}_std", value=None, of=of, n=0, note="no subject counts")
        return
    names = by_names(subjects)
    patients = [names[subject] for subject, counted in zip(subjects, counts.tolist(), strict=True) if counted]
    interval = mean_interval(kept, (0.0, most), patients, resamples=params.resamples, seed=params.seed)
    if interval is None:
        notes.append(no_interval(len(set(patients)), MIN_PATIENTS))
    low, high = interval or (None, None)
    mean = float(np.nanmean(kept, axis=0).mean())
    yield Score(name=f"{name}_mean", value=mean, of=of, low=low, high=high, n=n, note="; ".join(notes))
    std = float(np.nanmean(kept, axis=1).std(ddof=1)) if n > 1 else None
    yield Score(name=f"{name}_std", value=std, of=of, n=n, note="" if n > 1 else "undefined for one subject")
