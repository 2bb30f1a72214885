"""Thresholds from real images that cannot have been copied, and how far they can be trusted.

The null is the best match r, in the training set, of real images of other subjects. A *column* is a way to compare: a
view (a contrast, or the joint image) by a rule. A synthetic image is flagged if its best r exceeds the threshold of a
column.

**Threshold** of a column, with n null images and the rate a = false_flag_rate / number of columns (Bonferroni): the
m-th largest null value, m = max(1, floor((n + 1) a)). A further image exchangeable with the null exceeds it with
probability at most m / (n + 1), which is at most a once n + 1 >= 1 / a. Below that the threshold is the maximum, and no
smaller rate than 1 / (n + 1) is resolved.

**Clusters.** Slices of one subject are near-duplicates, so images are not exchangeable one by one; subjects (patients)
are. Let there be S of them with K images each, n = S K, and let one more bring K images.

1. Take the S + 1 subjects together and judge each by the threshold from the others. An image is flagged if fewer than m
   images of others reach it. Of all subjects with flagged images, let t be the one whose lowest flagged image is
   lowest: the flagged images of the others lie above it, so they are at most m - 1, and at most K + m - 1 are flagged
   in all. By symmetry, an image of the new subject is flagged with probability at most

       (K + m - 1) / (n + K),   for a maximum (m = 1) 1 / (S + 1),                                                  (1)

   and the new subject has some flagged image with probability at most m / (S + 1). Nothing is assumed but exchangeable
   subjects. The probability is over the null as well: an average over audits.
2. For the null at hand, let q be the true rate of the threshold (share of images of unseen subjects above it). If it
   exceeds q, at most m - 1 images lie above the (1 - q)-quantile, so the mean of S independent shares in 0..1 of
   expectation q is at most p = (m - 1) / n. By Hoeffding (1963, theorem 1) that has probability at most
   exp(-S KL(p || q)). Hence with confidence 1 - c the true rate is at most the q with

       S (p ln(p / q) + (1 - p) ln((1 - p) / (1 - q))) = ln(1 / c),                                               (2)

   for a maximum 1 - c^(1/S), about 3 / S at 95 %.

Both count subjects, not images: more slices of the same subjects say little more about the tail. They are worst cases
(images of one subject as good as equal). The rate that subjects really give is *measured* by leaving out each null
subject in turn (``cross_validated_rate``); its expectation is exactly the rate of thresholds from one subject fewer.
Intervals resample subjects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import rel_entr

from synthkit_memorization.estimate import resampled_subjects
from synthkit_memorization.search.pixels import Float64, Int64


@dataclass(frozen=True)
class Null:
    """Best r of real images in the training set.

    Attributes
    ----------
    r : float64 ``(image, column)``, without NaN; a column is a view by a rule.
    subject : int64 ``(image,)``, 0..n_subjects - 1, the independent units (patients).
    """

    r: Float64
    subject: Int64

    @property
    def n_subjects(self) -> int:
        return len(np.unique(self.subject))

    def thresholds(self, rate: float) -> Float64:
        """One a column, for a total false-flag rate over the columns."""
        n, columns = self.r.shape
        rank = int(rank_among(n, rate / columns))
        result: Float64 = np.partition(self.r, n - rank, axis=0)[n - rank]
        return result

    def quantile_of(self, r: Float64) -> Float64:
        """Share of null values below each r; ``r`` is float64 ``(image, column)``."""
        below = [np.searchsorted(np.sort(self.r[:, c]), r[:, c], side="left") for c in range(self.r.shape[1])]
        return np.stack(below, axis=1) / len(self.r)

    def flagged_by_others(self, rate: float) -> NDArray[np.bool_]:
        """Which null images exceed the thresholds from the other subjects; boolean ``(image, column)``.

        An image does if fewer images of others reach it than the rank m of their threshold. Needs two subjects.
        """
        n, columns = self.r.shape
        sizes = np.bincount(self.subject)
        stop = np.cumsum(sizes)[self.subject]
        ranks = rank_among(n - sizes, rate / columns)[self.subject]
        result = np.empty((n, columns), np.bool_)
        for c in range(columns):
            values, code = np.unique(self.r[:, c], return_inverse=True)
            reached = n - np.searchsorted(np.sort(code), code)
            keys = self.subject * len(values) + code
            result[:, c] = reached - (stop - np.searchsorted(np.sort(keys), keys)) < ranks
        return result

    def cross_validated_rate(self, rate: float) -> float | None:
        """Share of null images flagged, in any column, by thresholds from the other subjects; None for one subject."""
        if self.n_subjects < 2:
            return None
        return float(self.flagged_by_others(rate).any(axis=1).mean())

    def explained_rate(self, rate: float) -> float | None:
        """The false-flag rate that this null can vouch for (definition of the score of this name)."""
        measured = self.cross_validated_rate(rate)
        return None if measured is None else max(rate, 1 / (len(self.r) + 1), measured)

    def guaranteed_rate(self, rate: float) -> float:
        """Bound (1) on the rate at which images of unseen subjects are flagged in any column, on average over nulls.

        The sum over the columns, at most 1. Exact for subjects of equal numbers of images; else K is the largest above
        the line and the mean below it.
        """
        n, columns = self.r.shape
        sizes = np.bincount(self.subject)
        sizes = sizes[sizes > 0]
        return min(1.0, float(columns * (sizes.max() + rank_among(n, rate / columns) - 1) / (n + sizes.mean())))

    def rate_bound(self, rate: float, confidence: float = 0.95) -> float:
        """Upper confidence bound (2) on the rate of these thresholds in any column, for subjects of equal size.

        The sum over the columns (at most 1), each at confidence 1 - (1 - confidence) / columns.
        """
        n, columns = self.r.shape
        p = float(rank_among(n, rate / columns) - 1) / n
        bar = math.log(columns / (1 - confidence)) / self.n_subjects

        def excess(q: float) -> float:
            return float(rel_entr(p, q) + rel_entr(1 - p, 1 - q)) - bar

        most = 1 - 1e-12
        return 1.0 if excess(most) < 0 else min(1.0, columns * float(brentq(excess, p, most)))

    def intervals(self, rate: float, resamples: int, seed: int) -> tuple[Float64, Float64] | None:
        """95 % percentile intervals of thresholds and medians, resampling subjects; each ``(column, 2)``.

        None for one subject. They say how far other subjects of the same kind would move the numbers. The upper end of
        a threshold that is a maximum cannot exceed the largest null value: it is too short upwards, and
        :meth:`rate_bound` says what is known of the tail beyond.
        """
        if self.n_subjects < 2:
            return None
        columns = self.r.shape[1]
        times = resampled_subjects(int(self.subject.max()) + 1, resamples, np.random.default_rng(seed))
        n = times @ np.bincount(self.subject)
        ranks = np.stack([rank_among(n, rate / columns), (n + 1) // 2])
        result = np.empty((2, columns, 2))
        for c in range(columns):
            order = np.argsort(-self.r[:, c], kind="stable")
            largest = _OrderStatistics(self.r[order, c], self.subject[order], times)
            for which in range(2):
                result[which, c] = np.quantile(largest.of_rank(ranks[which]), (0.025, 0.975))
        return result[0], result[1]


class _OrderStatistics:
    """The m-th largest value of each resample, without sorting it: a search among blocks, then within one.

    ``values`` descending, ``(n,)``; ``subject`` of each; ``times`` int64 ``(resample, subject)``, how often drawn.
    """

    def __init__(self, values: Float64, subject: Int64, times: Int64) -> None:
        self.step = max(1, math.isqrt(len(values)))
        blocks = -(-len(values) // self.step)
        n_subjects = times.shape[1]
        block = np.arange(len(values)) // self.step
        counts = np.bincount(block * n_subjects + subject, minlength=blocks * n_subjects)
        # Matrix products of float64 are the fast ones; counts of images are far below 2^53.
        self.reached = (times.astype(np.float64) @ counts.reshape(blocks, n_subjects).T.astype(np.float64)).cumsum(1)
        missing = blocks * self.step - len(values)
        self.values = np.pad(values, (0, missing), mode="edge")
        self.subject = np.pad(subject, (0, missing), constant_values=n_subjects)
        self.times = np.pad(times, ((0, 0), (0, 1)))

    def of_rank(self, rank: Int64) -> Float64:
        """``rank`` int64 ``(resample,)``, 1..number of values in the resample."""
        resample = np.arange(len(rank))
        block = (self.reached < rank[:, None]).sum(axis=1)
        before = np.where(block > 0, self.reached[resample, block - 1], 0.0)
        rows = block[:, None] * self.step + np.arange(self.step)
        within = before[:, None] + self.times[resample[:, None], self.subject[rows]].cumsum(axis=1)
        result: Float64 = self.values[rows[:, 0] + (within < rank[:, None]).sum(axis=1)]
        return result


def rank_among(n: int | Int64, rate: float) -> Int64:
    """m of the m-th largest of n (the small term undoes 4999.9999 for 5000)."""
    return np.clip(np.floor((np.asarray(n) + 1) * rate + 1e-9), 1, n).astype(np.int64)
