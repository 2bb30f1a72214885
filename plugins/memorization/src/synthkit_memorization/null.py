"""Thresholds from real images that cannot have been copied, and how far they can be trusted.

The null is the best match r, in the training set, of real images of other subjects. A synthetic image is flagged if its
best r exceeds the threshold of a view (a contrast, or the joint image).

Threshold of a view, with n null images and the rate a = false_flag_rate / number of views (Bonferroni): the m-th
largest null value, m = max(1, floor((n + 1) a)). A further image exchangeable with the null exceeds it with probability
at most m / (n + 1), which is at most a once n + 1 >= 1 / a. Below that the threshold is the maximum and the rate that
holds is 1 / (n + 1): the null cannot resolve a smaller one.

Slices of one subject are near-duplicates, so they are not exchangeable one by one. Hence every interval resamples
subjects, and ``cross_validated_rate`` measures the rate that subjects differing from each other really give: every null
subject in turn is judged by thresholds from the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synthkit_memorization.pixels import Float64, Int64


@dataclass(frozen=True)
class Null:
    """Best r of real images in the training set.

    Attributes
    ----------
    r : float64 ``(image, view)``, without NaN.
    subject : int64 ``(image,)``, 0..n_subjects - 1.
    """

    r: Float64
    subject: Int64

    @property
    def n_subjects(self) -> int:
        return len(np.unique(self.subject))

    def thresholds(self, rate: float) -> Float64:
        """One a view, for a total false-flag rate over the views."""
        n, views = self.r.shape
        rank = _rank(n, rate / views)
        result: Float64 = np.partition(self.r, n - rank, axis=0)[n - rank]
        return result

    def quantile_of(self, r: Float64) -> Float64:
        """Share of null values below each r; ``r`` is float64 ``(image, view)``."""
        below = [np.searchsorted(np.sort(self.r[:, v]), r[:, v], side="left") for v in range(self.r.shape[1])]
        return np.stack(below, axis=1) / len(self.r)

    def cross_validated_rate(self, rate: float) -> float | None:
        """Share of null images flagged, in any view, by thresholds from the other subjects; None for one subject."""
        if self.n_subjects < 2:
            return None
        flagged = 0
        for subject in np.unique(self.subject):
            own = self.subject == subject
            others = Null(self.r[~own], self.subject[~own])
            flagged += int((self.r[own] > others.thresholds(rate)).any(axis=1).sum())
        return flagged / len(self.r)

    def explained_rate(self, rate: float) -> float | None:
        """The false-flag rate that this null can vouch for (definition of the score of this name)."""
        measured = self.cross_validated_rate(rate)
        return None if measured is None else max(rate, 1 / (len(self.r) + 1), measured)

    def intervals(self, rate: float, resamples: int, seed: int) -> tuple[Float64, Float64] | None:
        """95 % percentile intervals of thresholds and medians, resampling subjects; each ``(view, 2)``.

        None for one subject. The upper end of a threshold that is a maximum cannot exceed the largest null value: its
        interval is too short upwards.
        """
        if self.n_subjects < 2:
            return None
        draws = list(_draws(self.subject, resamples, seed))
        result = np.empty((2, self.r.shape[1], 2))
        for view in range(self.r.shape[1]):
            order = np.argsort(-self.r[:, view], kind="stable")
            values, subject = self.r[order, view], self.subject[order]
            thresholds, medians = np.empty(resamples), np.empty(resamples)
            for b, times in enumerate(draws):
                position = np.cumsum(times[subject])
                n = int(position[-1])
                thresholds[b] = values[np.searchsorted(position, _rank(n, rate / self.r.shape[1]))]
                medians[b] = values[np.searchsorted(position, (n + 1) // 2)]
            result[0, view] = np.quantile(thresholds, (0.025, 0.975))
            result[1, view] = np.quantile(medians, (0.025, 0.975))
        return result[0], result[1]


def _rank(n: int, rate: float) -> int:
    """m of the m-th largest of n (the small term undoes 4999.9999 for 5000)."""
    return min(n, max(1, math.floor((n + 1) * rate + 1e-9)))


def _draws(subject: Int64, resamples: int, seed: int) -> Iterator[Int64]:
    """How often each subject is drawn, as many draws as subjects: int64 ``(subject,)``."""
    rng = np.random.default_rng(seed)
    n = int(subject.max()) + 1
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, n, n), minlength=n)
