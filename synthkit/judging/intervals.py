"""Intervals, 95 %, of every number that synthkit prints with one: pure functions of arrays.

* A proportion of independent trials: :func:`clopper_pearson`.
* A mean of a bounded score over patients, such as Dice: :func:`mean_interval`.
* A mean of an arm, a ratio and a difference of two, over patients and trainings: :func:`arm_interval`,
  :func:`paired_intervals`.
* Any other score of sets, of pairs, quantiles and by the jackknife: :mod:`synthkit.judging.spreads`.

Scores like Dice are bounded and skewed: most patients are scored alike, and now and then one is missed and has 0. Ten
patients without a missed one do not show that none is ever missed, so an interval that knows only their spread is too
narrow at its lower end, be it Student's t or the bootstrap (percentiles, BCa: Efron, JASA 82:171, 1987; DiCiccio and
Efron, Statistical Science 11:189, 1996). Here patients get random weights (the Bayesian bootstrap: Rubin, Annals of
Statistics 9:130, 1981), and some of the weight goes to one who was not seen, with the score of a bound. A whole patient
would give the limit of Gaffke (Learned-Miller and Thomas, arXiv:1905.06208, 2019), which for scores of 0 and 1 is that
of Clopper and Pearson, and covers too often. The weight is 0.4 of a patient here. He counts as much at an end as the
mean is away from its bound, and of the 5 % of error, 1 % lies beyond the end that he decides alone, 4 % beyond one
where he does not count, since skewed scores overstep that one more often. Both numbers were chosen by what they cover.

The trainings of an arm differ by chance as well. The variance of its mean that is due to them is what their means vary,
less what of that the patients explain (two crossed sources of chance); it has the degrees of freedom of Satterthwaite
(Biometrics Bulletin 2:110, 1946). Both sources are put together by squares of their distances from the value (Zou and
Donner, Statistics in Medicine 27:1693, 2008).

``benchmarks/intervals.py`` measures what all of them cover, and where they do not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Below this many subjects little is known of how much subjects differ; what rests on them says so.
FEW_SUBJECTS = 20

#: Below these there is no interval, since none was found that covers: patients of a mean, patients of a ratio or
#: difference of two arms, and trainings of an arm.
MIN_PATIENTS, MIN_PAIRED_PATIENTS, MIN_TRAININGS = 10, 30, 2

#: Random weights of an interval, and their seed: the same on all pages, so that these agree to the last digit.
RESAMPLES, SEED = 10_000, 0

# The patient who was not seen, as a share of one; and the error at an end that he decides, and where he does not count.
_UNSEEN, _FAR_ERROR, _NEAR_ERROR = 0.4, 0.01, 0.04

Interval = tuple[float, float]


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson, Biometrika 26:404, 1934).

    Two-sided, except that at 0 (or all) successes, where one bound is 0 (or 1) by necessity, the other bound takes
    all of the error: 0 of n gives 1 - 0.05^(1/n), the exact form of the "rule of three" (about 3 / n).

    Returns
    -------
    lower and upper bound, 0..1; (0, 1) without trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    error = 1.0 - confidence
    if trials == 0:
        return 0.0, 1.0
    if successes == 0:
        return 0.0, 1.0 - error ** (1.0 / trials)
    if successes == trials:
        return error ** (1.0 / trials), 1.0
    from scipy.special import betaincinv

    lower = float(betaincinv(successes, trials - successes + 1, error / 2))
    upper = float(betaincinv(successes + 1, trials - successes, 1 - error / 2))
    return lower, upper


def no_interval(n: int, least: int, what: str = "patient") -> str:
    """Why there is no interval, and what gives one; empty if ``n`` is enough."""
    return "" if n >= least else f"{n} {what}{'s' * (n != 1)}: no interval, give at least {least}"


# ------------------------------------------------------------------------------------------------ bounded scores


def mean_interval(
    values: Floats, bounds: Interval, patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """Of the mean over subjects of a score; None below :data:`MIN_PATIENTS` patients with a value.

    Parameters
    ----------
    values : ``(subject,)``, or ``(subject, column)`` for the mean of column means; NaN where a value does not count.
    bounds : the least and the most that a value can be.
    patients : of each subject; patients are independent, scans of one are not.

    Raises
    ------
    ValueError : values beyond the bounds, bounds that do not differ, or not as many patients as subjects.
    """
    return arm_interval(values[None], bounds, patients, resamples=resamples, seed=seed)


def arm_interval(
    arm: Floats, bounds: Interval, patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """Of the mean of an arm over patients and trainings; of a single training, over patients.

    ``arm`` is ``(training, subject)``, or ``(training, subject, column)`` for the mean of column means; NaN where a
    value does not count. None below :data:`MIN_PATIENTS` patients who count in each training. Raises as
    :func:`mean_interval`.
    """
    arm = _checked(arm, bounds, patients)
    if _fewest_patients([arm], patients) < MIN_PATIENTS:
        return None
    (arm,), patients = _counted([arm], patients)
    drawn = _Draws.of(arm, *_weights(patients, resamples, seed))
    value = float(means_of(arm).mean())
    lean = _lean(value, bounds)
    found = _ends(value, drawn.means(), [drawn.means(bound) for bound in bounds], lean=lean, limits=bounds)
    chance = [_trainings(arm, patients)] if len(arm) >= MIN_TRAININGS else []
    return _widened(value, found, chance, lean=lean, limits=bounds)


@dataclass(frozen=True)
class PairedIntervals:
    """Of the mean of the other arm over that of the real one, and less it; no ratio where the latter is 0."""

    ratio: Interval | None
    difference: Interval


def paired_intervals(
    real: Floats,
    other: Floats,
    bounds: Interval,
    patients: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> PairedIntervals | None:
    """Of the ratio and of the difference of two arms, each as :func:`arm_interval` takes it, of the same subjects.

    Patients are the same in both arms (the comparison is paired), trainings are not. The patient who was not seen has
    the mean of real in the real arm, and in the other the score of a bound: what the real arm alone would miss, and has
    not missed yet, is in no interval.

    None below :data:`MIN_PAIRED_PATIENTS` patients who count in each training, or :data:`MIN_TRAININGS` trainings of an
    arm. Raises as :func:`mean_interval`.
    """
    real, other = (_checked(arm, bounds, patients) for arm in (real, other))
    if min(len(real), len(other)) < MIN_TRAININGS or _fewest_patients([real, other], patients) < MIN_PAIRED_PATIENTS:
        return None
    (real, other), patients = _counted([real, other], patients)
    weights = _weights(patients, resamples, seed)
    of_real, of_other = (_Draws.of(arm, *weights) for arm in (real, other))
    real_means, other_means = of_real.means(), of_other.means()
    real_more, others = of_real.means(_column_means(real)), [of_other.means(bound) for bound in bounds]
    mean, other_mean = float(means_of(real).mean()), float(means_of(other).mean())
    chance = [_trainings(arm, patients) for arm in (real, other)]
    lean = _lean(other_mean, bounds)

    def interval(value: float, seen: Floats, extreme: list[Floats], by: list[_Chance], most: float) -> Interval:
        limits = (0.0 if most == inf else -most), most
        return _widened(value, _ends(value, seen, extreme, lean=lean, limits=limits), by, lean=lean, limits=limits)

    away = [more - real_more for more in others]
    difference = interval(other_mean - mean, other_means - real_means, away, chance, bounds[1] - bounds[0])
    if mean <= 0:
        return PairedIntervals(None, difference)
    ratio = other_mean / mean
    # To first order a ratio changes by (other - ratio real) / mean: Efron and Tibshirani 1993, section 5.5.
    relative = [chance[0].scaled(ratio / mean), chance[1].scaled(1 / mean)]
    extreme = [more / real_more for more in others]
    return PairedIntervals(interval(ratio, other_means / real_means, extreme, relative, inf), difference)


def means_of(arm: Floats) -> Floats:
    """Mean ``(training,)`` of the column means of ``(training, subject, column)``; NaN does not count.

    A column in which nothing of a training counts is left out of its mean, as ``evaluate`` does.
    """
    import numpy as np

    return np.asarray(np.nanmean(_column_means(arm), axis=1), np.float64)


def _column_means(arm: Floats) -> Floats:
    """``(training, column)``, NaN where nothing counts."""
    import numpy as np

    counted = (~np.isnan(arm)).sum(axis=1)
    return np.asarray(np.where(counted > 0, np.nansum(arm, axis=1) / np.maximum(counted, 1), np.nan), np.float64)


@dataclass(frozen=True)
class _Draws:
    """Weighted sums and weights ``(draw, training, column)`` of an arm, and the weight of who was not seen.

    He counts in a column as often as those who were seen do.
    """

    sums: Floats
    weights: Floats
    unseen: Floats

    @classmethod
    def of(cls, arm: Floats, seen: Floats, unseen: Floats) -> _Draws:
        import numpy as np

        counted = (~np.isnan(arm)).astype(np.float64)
        sums, weights = (np.tensordot(seen, values, axes=(1, 1)) for values in (np.nan_to_num(arm), counted))
        return cls(sums, weights, unseen[:, None, None] * counted.mean(axis=1))

    def means(self, unseen_score: float | Floats | None = None) -> Floats:
        """Mean ``(draw,)`` of the arm; with who was not seen, if he has a score, of each training and column or all."""
        import numpy as np

        sums, weights = self.sums, self.weights
        if unseen_score is not None:
            sums, weights = sums + self.unseen * np.nan_to_num(unseen_score), weights + self.unseen
        there = self.weights[0] > 0  # draws weigh all who count
        by_column = np.where(there, sums / np.where(there, weights, 1.0), 0.0)
        return np.asarray((by_column.sum(axis=2) / there.sum(axis=1)).mean(axis=1), np.float64)


def _checked(arm: Floats, bounds: Interval, patients: Sequence[str]) -> Floats:
    """``(training, subject, column)``, of values within the bounds."""
    import numpy as np

    arm = np.asarray(arm, np.float64)
    arm = arm if arm.ndim == 3 else arm[..., None]
    if not bounds[0] < bounds[1]:
        raise ValueError(f"there is nothing between {bounds[0]:g} and {bounds[1]:g}")
    if arm.shape[1] != len(patients):
        raise ValueError(f"{arm.shape[1]} subjects, and patients of {len(patients)}")
    counted, slack = arm[~np.isnan(arm)], 1e-9 * (bounds[1] - bounds[0])
    if counted.size and not (bounds[0] - slack <= counted.min() and counted.max() <= bounds[1] + slack):
        raise ValueError(f"values of {counted.min():g} to {counted.max():g} lie beyond {bounds[0]:g} to {bounds[1]:g}")
    return arm


def _fewest_patients(arms: Sequence[Floats], patients: Sequence[str]) -> int:
    """Who count in a training, in the one that has the fewest."""
    import numpy as np

    count = [~np.isnan(training).all(axis=1) for arm in arms for training in arm]
    return min(len(np.unique(np.asarray(patients, dtype=str)[there])) for there in count)


def _counted(arms: Sequence[Floats], patients: Sequence[str]) -> tuple[list[Floats], list[str]]:
    """The arms and patients without subjects who count in no training of any."""
    import numpy as np

    kept = np.flatnonzero(np.any([(~np.isnan(arm)).any(axis=(0, 2)) for arm in arms], axis=0))
    return [arm[:, kept] for arm in arms], [patients[number] for number in kept.tolist()]


def _weights(patients: Sequence[str], resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Random weights of subjects ``(draw, subject)``, alike for the scans of a patient, and of one who was not seen.

    He has as many scans as the others have on average.
    """
    import numpy as np

    names, number = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    seen = rng.exponential(size=(resamples, len(names)))[:, number]
    return seen, rng.gamma(_UNSEEN, size=resamples) * len(number) / len(names)


def _lean(value: float, bounds: Interval) -> float:
    """Where the value lies between the bounds, 0 to 1: how much the one who was not seen counts at the lower end."""
    return (value - bounds[0]) / (bounds[1] - bounds[0])


def _errors(lean: float) -> Interval:
    """Error beyond the lower and beyond the upper end."""
    return _NEAR_ERROR + lean * (_FAR_ERROR - _NEAR_ERROR), _FAR_ERROR + lean * (_NEAR_ERROR - _FAR_ERROR)


def _ends(value: float, seen: Floats, extreme: Sequence[Floats], *, lean: float, limits: Interval) -> Interval:
    """Ends from what was drawn, without and with one of the least and of the most score; they hold the value."""
    import numpy as np

    low_error, high_error = _errors(lean)
    low, high = (
        float(share * np.quantile(unseen, q) + (1 - share) * np.quantile(seen, q))
        for unseen, q, share in zip(extreme, (low_error, 1 - high_error), (lean, 1 - lean), strict=True)
    )
    return max(min(low, value), limits[0]), min(max(high, value), limits[1])


# ------------------------------------------------------------------------------------------------------ trainings


@dataclass(frozen=True)
class _Chance:
    """Variance of the mean of an arm that is due to its trainings; ``of_means`` is with what patients explain."""

    variance: float
    of_means: float
    freedom: int

    def scaled(self, factor: float) -> _Chance:
        return _Chance(self.variance * factor**2, self.of_means * factor**2, self.freedom)


def _trainings(arm: Floats, patients: Sequence[str]) -> _Chance:
    """Of an arm ``(training, subject, column)`` of at least two trainings and patients.

    The means of trainings differ by the training, and by how it happens to suit each patient; the latter is in the
    interval over patients already (two-way analysis of variance, of what each subject adds to a training's mean).
    """
    import numpy as np

    number = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    n, n_patients = len(arm), int(number.max()) + 1
    of_means = float(means_of(arm).var(ddof=1)) / n
    counted = ~np.isnan(arm)
    in_column = counted.sum(axis=1, keepdims=True)
    away = np.where(counted, arm - _column_means(arm)[:, None], 0.0) / np.maximum(in_column, 1)
    added = away.sum(axis=2) / (in_column > 0).sum(axis=2)
    by_patient = np.stack([np.bincount(number, weights=row) for row in added - added.mean(axis=0)])
    suits = float((by_patient**2).sum()) * n_patients / ((n_patients - 1) * (n - 1) * n)
    return _Chance(max(of_means - suits, 0.0), of_means, n - 1)


def _widened(value: float, patients: Interval, chance: Sequence[_Chance], *, lean: float, limits: Interval) -> Interval:
    """An interval over patients, by chance between trainings as well."""
    total = sum(each.of_means for each in chance)
    if not total > 0:
        return patients
    from scipy.special import stdtrit

    freedom = total**2 / sum(each.of_means**2 / each.freedom for each in chance)
    spread = sum(each.variance for each in chance) ** 0.5
    down, up = (float(stdtrit(freedom, 1 - error)) * spread for error in _errors(lean))
    low, high = value - hypot(value - patients[0], down), value + hypot(patients[1] - value, up)
    return max(low, limits[0]), min(high, limits[1])
