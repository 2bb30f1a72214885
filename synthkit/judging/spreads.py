"""Intervals, 95 %, of scores of sets in which units are independent and values are not: patients, and their slices.

* A score of any kind, from what each unit adds to it (jackknife): :class:`Spread`, :func:`spread_interval`.
* The share of pairs of two sets in which the first is larger: :func:`share_of_pairs`.
* A quantile of independent values: :func:`quantile_interval`.

Beside :mod:`synthkit.judging.intervals`, which is of counts and of means. ``benchmarks/set_intervals.py`` measures what
they cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthkit.judging.intervals import MIN_PATIENTS, Interval, clopper_pearson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Units = NDArray[np.int64]

#: Fewer independent units than this on either side have no interval by the jackknife.
MIN_UNITS = 5

# The unit that was not seen, as a share of one, and the quantile of its weight that is made room for. Both were chosen
# by what they cover.
_UNSEEN, _UNSEEN_QUANTILE = 0.4, 0.8


@dataclass(frozen=True)
class Spread:
    """Sampling variance of a score due to one of two sets, and how many independent units that is known from."""

    variance: float
    n_units: int


def leave_one_out_spread(values: Floats) -> Spread:
    """Jackknife variance ``(g - 1) / g sum (t_i - mean t)^2`` of the scores ``(g,)`` without one unit each.

    Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 11.
    """
    n = len(values)
    return Spread(float((n - 1) / n * ((values - values.mean()) ** 2).sum()), n)


def influence_spread(influence: Floats, unit: Units) -> Spread:
    """Variance ``g / (g - 1) sum_g (sum_(i in g) I_i / n)^2`` from the influences ``(n,)`` of values in ``unit`` g.

    The infinitesimal jackknife (Efron, The jackknife, the bootstrap and other resampling plans, 1982).
    """
    import numpy as np

    sums = np.bincount(unit, weights=influence - influence.mean()) / len(influence)
    n = len(sums)
    return Spread(float(n / max(n - 1, 1) * (sums**2).sum()), n)


def spread_interval(
    value: float, *spreads: Spread, limits: Interval = (float("-inf"), float("inf"))
) -> Interval | None:
    """Student's t with the degrees of freedom of Welch and Satterthwaite, cut to ``limits``.

    None with fewer than :data:`MIN_UNITS` independent units on a side.
    """
    if any(spread.n_units < MIN_UNITS for spread in spreads):
        return None
    half = _half_width(spreads)
    return min(max(value - half, limits[0]), value), max(min(value + half, limits[1]), value)


def _half_width(spreads: tuple[Spread, ...]) -> float:
    """Half of the width of an interval by Student's t."""
    variance = sum(spread.variance for spread in spreads)
    if not variance > 0:
        return 0.0
    from scipy.special import stdtrit

    freedom = variance**2 / sum(s.variance**2 / (s.n_units - 1) for s in spreads)
    return float(stdtrit(freedom, 0.975) * variance**0.5)


# ----------------------------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True)
class Share:
    """A share, 0 to 1, and its interval; None where units are too few."""

    value: float
    interval: Interval | None


def share_of_pairs(first: Floats, first_unit: Units, second: Floats, second_unit: Units) -> Share:
    """Of all pairs, those in which the value of the first set is larger, ties half: an AUC, or the U of Mann-Whitney.

    The variance is that of the two projections (Hoeffding, Annals of Mathematical Statistics 19:293, 1948), summed by
    unit, less what pairs add to it in projections of few values (Perme and Manevski, Statistical Methods in Medical
    Research 28:3755, 2019). The interval is one of the logarithm of the odds, with Student's t: shares near 0 and 1
    stay inside. Its end towards a half makes room for a unit that was not seen and has the opposite outcome, as
    :mod:`synthkit.judging.intervals` does: the more, the farther the share is from a half. Where one set lies above
    the other altogether, as many disjoint pairs as the smaller side has units are independent trials of one outcome,
    and have the interval of Clopper and Pearson.

    Parameters
    ----------
    first, second : ``(n,)`` and ``(m,)``, at least one value each.
    first_unit, second_unit : the patient of each value, or the image itself; int64.

    Returns
    -------
    The share; without interval below :data:`~synthkit.judging.intervals.MIN_PATIENTS` units on a side.
    """
    import numpy as np

    above, ties = _below(np.sort(second), first)
    of_second, its_ties = _below(np.sort(first), second)
    wins, losses = (above + ties / 2) / len(second), 1 - (of_second + its_ties / 2) / len(first)
    value = float(wins.mean())
    sides = [np.unique(unit, return_inverse=True)[1] for unit in (first_unit, second_unit)]
    n_units = min(int(side.max()) + 1 for side in sides)
    if n_units < MIN_PATIENTS:
        return Share(value, None)
    if value in (0.0, 1.0):
        return Share(value, clopper_pearson(round(value * n_units), n_units))
    spreads = [influence_spread(part, side) for part, side in zip((wins, losses), sides, strict=True)]
    variance = sum(spread.variance for spread in spreads)
    if not variance > 0:  # nothing but ties: who was not seen may win or lose
        seen = 0.025 ** (1 / n_units)
        return Share(value, (value * seen, 1 - (1 - value) * seen))
    # What one pair adds. Of several values of one unit it is more, and leaving that in errs on the careful side.
    pair = (float((above + ties / 4).mean()) / len(second) - value**2) / (len(first) * len(second))
    kept = max(1 - pair / variance, 0.5)
    half = _half_width(tuple(Spread(kept * spread.variance, spread.n_units) for spread in spreads))
    half, odds = half / (value * (1 - value)), value / (1 - value)
    low, high = (float(1 / (1 + np.exp(-sign * half) / odds)) for sign in (-1, 1))
    return Share(value, _with_room(value, low, high, n_units))


def _with_room(value: float, low: float, high: float, n_units: int) -> Interval:
    """The interval with room for a unit that was not seen, at its end towards a half."""
    from scipy.special import betaincinv

    away = 2 * value - 1
    room = abs(away) * float(betaincinv(_UNSEEN, n_units, _UNSEEN_QUANTILE))
    low, high = (low * (1 - room), high) if away > 0 else (low, high + room * (1 - high))
    return min(low, value), max(high, value)


def _below(ordered: Floats, values: Floats) -> tuple[Floats, Floats]:
    """How many of the ascending values lie below each of ``values``, and how many equal it."""
    import numpy as np

    below = np.searchsorted(ordered, values, "left")
    return below.astype(np.float64), (np.searchsorted(ordered, values, "right") - below).astype(np.float64)


# ------------------------------------------------------------------------------------------------------- quantiles


def quantile_interval(values: Floats, level: float) -> Interval | None:
    """Of a quantile of independent values ``(n,)``, by order statistics that are interpolated.

    Distribution-free up to the interpolation (Nyblom, Statistics and Probability Letters 14:129, 1992). None where the
    least or the largest value is no end: of the median below 6 values, of the 5 % quantile below 72.
    """
    import numpy as np

    ordered = np.sort(values)
    low, high = _order_end(ordered, level), _order_end(-ordered[::-1], 1 - level)
    return None if low is None or high is None else (low, -high)


def _order_end(ordered: Floats, level: float) -> float | None:
    """The lower end."""
    import numpy as np
    from scipy.special import bdtr

    n, error = len(ordered), 0.025
    if n == 0 or (1 - level) ** n > error:
        return None
    # Chance that the value of each rank lies above the quantile: fewer values than the rank lie below.
    above = bdtr(np.arange(n), n, level)
    rank = int(np.searchsorted(above, error, "right"))
    if rank == n:
        return float(ordered[-1])
    before, after = float(above[rank - 1]), float(above[rank])
    share = 0.0
    if error > before:
        odds = rank * (1 - level) * (after - error) / ((n - rank) * level * (error - before))
        share = 1 / (1 + odds)
    return float((1 - share) * ordered[rank - 1] + share * ordered[rank])
