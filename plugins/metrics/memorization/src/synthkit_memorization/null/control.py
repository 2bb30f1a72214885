"""The second null: synthetic images among held-out images, which their generator has never seen.

Images of one generator may resemble everybody more than real images do: smoother, closer to the mean head, without
rare findings. Their best match among training images is then closer than that of any real image, and nothing was
copied. But then they are as close to people whom the generator has never seen. So an image is flagged only if it is
closer to a training image than real images of other people are (``thresholds.py``) *and* than the generator's own
images are to people outside the training set.

Threshold of a column. The held-out images are fewer than the training images, and the best of more candidates is
closer. Let the training set be B = ceil(n_train / n_holdout) times as large. Seen as B parts of that size, none of them
known to the generator, each would give an image a best match distributed like that among the held-out images; so with
a = false_flag_rate / (columns B) the threshold is the m-th largest best match of the n synthetic images,
m = max(1, floor((n + 1) a)), as in ``thresholds.py``, with the same remark: below n + 1 = 1 / a it is the maximum.

A control can excuse what a generator's images have in common, not a copy: were the held-out people in its training set
by mistake, it would copy them as well. So it may move a threshold a quarter nearer to a match at most, in distance
d = sqrt(2 (1 - r)) of standardised images (``allowed``); and copies of held-out images are counted.

What people differ in is the same in a whole part, so that bound holds on average over people. How far it holds for
those at hand is measured: the held-out people in two halves, the images among one half judged by a threshold from the
other (``Control.rate``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.null.thresholds import rank_among
from synthkit_memorization.search.pixels import Float64, Int64

#: Share of the null's distance that the control may lower a threshold to.
LEAST_DISTANCE = 0.75


def allowed(threshold: Float64) -> Float64:
    """The largest threshold that the control may set where the null sets this one, float64 ``(column,)``."""
    return 1 - LEAST_DISTANCE**2 * (1 - threshold)


@dataclass(frozen=True)
class Control:
    """Best matches of the synthetic images among the held-out ones.

    Attributes
    ----------
    halves : float64 ``(image, column)`` for each half of the held-out patients; one if there is but one patient.
    sizes : held-out images of each half. n_train : training images.
    counted : the images that thresholds and rates are taken from, boolean ``(image,)``: those that are not blank.
    index : int64 ``(image, column)``, best held-out image of all.
    """

    halves: Sequence[Float64]
    sizes: Sequence[int]
    n_train: int
    index: Int64
    counted: NDArray[np.bool_]

    @property
    def r(self) -> Float64:
        """Best r among all held-out images, ``(image, column)``."""
        best: Float64 = np.maximum.reduce(list(self.halves))
        return best

    def thresholds(self, rate: float) -> Float64:
        """One a column, for a total false-flag rate over the columns."""
        return self._thresholds(self.r[self.counted], rate, sum(self.sizes))

    def rate(self, rate: float) -> float | None:
        """Share of the images that would be flagged among as many images of unseen people as are in the training set.

        As measured between the halves, times the number of halves' size in a training set; at most 1. None with one
        held-out patient.
        """
        measured = self._rate(rate, np.flatnonzero(self.counted))
        return None if measured is None else min(1.0, measured)

    def floor(self, rate: float) -> float | None:
        """What of :meth:`rate` would remain with many more images, 0..1; the rest is for want of images.

        Thresholds that are maxima of n images are exceeded at a rate of about a + b / n, so that half of the images,
        with a + 2 b / n, tell what a is. By chance alone b is the number of columns times that of parts.
        """
        rows = np.flatnonzero(self.counted)
        n, columns = len(rows), self.index.shape[1]
        measured = self._rate(rate, rows)
        if measured is None:
            return None
        by_images = columns / (n + 1) * self._mean_parts
        if n > 3:  # neighbours together: images of one head are no more independent than slices
            halves = [self._rate(rate, part) or 0.0 for part in (rows[: n // 2], rows[n // 2 :])]
            by_images = max(by_images, sum(halves) / 2 - measured)
        left: float = min(1.0, max(0.0, measured - by_images))
        return left

    def _rate(self, rate: float, rows: Int64) -> float | None:
        if len(self.halves) < 2:
            return None
        parts = [(r[rows], size) for r, size in zip(self.halves, self.sizes, strict=True)]
        shares = []
        for (r, size), (other, other_size) in zip(parts, parts[::-1], strict=True):
            above = (r > self._thresholds(other, rate, other_size)).any(axis=1)
            shares.append(float(above.mean()) * self._parts_in_train(size))
        mean: float = sum(shares) / len(shares)
        return mean

    @property
    def _mean_parts(self) -> float:
        return sum(map(self._parts_in_train, self.sizes)) / len(self.sizes)

    def _parts_in_train(self, size: int) -> int:
        return -(-self.n_train // size)

    def _thresholds(self, r: Float64, rate: float, size: int) -> Float64:
        n, columns = r.shape
        rank = int(rank_among(n, rate / (columns * self._parts_in_train(size))))
        result: Float64 = np.partition(r, n - rank, axis=0)[n - rank]
        return result
