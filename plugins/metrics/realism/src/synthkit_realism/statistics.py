"""Two samples, one of them in patients: how far apart they are, and how far images of an ideal generator would be.

Slices of a patient are never independent, so real values are held as one histogram a patient over a common grid.

* Kolmogorov-Smirnov distance ``max |F - G|``, and Wasserstein-1 distance ``integral of |F - G|`` (Vallender 1974), of
  the empirical distribution functions F and G.
* Cliff's delta, ``P(synthetic > real) - P(synthetic < real)`` (Cliff 1993): has a sign, needs no scale, and is defined
  for counts and shares that are mostly one value, where a median difference over the MAD is 0 / 0.

An ideal generator draws images of new people. Its distance is what chance gives: of the patients, whose histograms get
random weights of mean 0 around the whole (the multiplier bootstrap of clusters; Kline and Santos, Journal of
Econometric Methods 1:23, 2012), with Student's t for the few that there are; and of as many images as are synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthkit.judging.intervals import MIN_PATIENTS, no_interval
from synthkit.judging.spreads import share_of_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

#: Distinct values beyond this many are reduced to as many quantiles: a distance then errs by at most their spacing.
GRID = 1024


@dataclass(frozen=True)
class Draws:
    """Chance shared by all properties: random weights of the patients ``(draw, patient)``, of mean 0."""

    weights: Float64

    @staticmethod
    def of(n_patients: int, *, n_draws: int, seed: int) -> Draws:
        rng = np.random.default_rng(seed)
        freedom = max(n_patients - 1, 1)
        weights = rng.normal(size=(n_draws, n_patients)) * np.sqrt(n_patients / freedom)
        return Draws(weights / np.sqrt(rng.chisquare(freedom, size=(n_draws, 1)) / freedom))


@dataclass(frozen=True)
class Comparison:
    """How synthetic values of one property differ from real ones. None where it is undefined; ``note`` says why.

    Attributes
    ----------
    ks, wasserstein : distances, the second in the unit of the property; ``wasserstein_sd`` in standard deviations of
        the real values.
    effect, effect_low, effect_high : Cliff's delta with its 95 % interval, over patients and images.
    floor : KS distance of an ideal generator: median, 2.5 % and 97.5 %.
    floor_share : share of the ideal generators, and of the observed one among them, that are at least ``ks`` apart.
    n_real, n_synthetic, n_patients : slices that have the property, and the patients of the real ones.
    """

    n_real: int
    n_synthetic: int
    n_patients: int
    ks: float | None = None
    wasserstein: float | None = None
    wasserstein_sd: float | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    floor: tuple[float, float, float] | None = None
    floor_share: float | None = None
    note: str = ""

    @property
    def excess(self) -> float | None:
        """What the KS distance has beyond the median floor."""
        return None if self.ks is None or self.floor is None else self.ks - self.floor[0]


def compare(
    real: Float64, patients: NDArray[np.intp], synthetic: Float64, draws: Draws, rng: np.random.Generator
) -> Comparison:
    """Compare one property; NaN in ``real`` ``(n,)`` or ``synthetic`` ``(m,)`` does not count.

    ``patients`` numbers the patient of each real value, as in ``draws``.
    """
    kept = ~np.isnan(real)
    real, patients, synthetic = real[kept], patients[kept], synthetic[~np.isnan(synthetic)]
    n_patients = len(np.unique(patients))
    counts = (len(real), len(synthetic), n_patients)
    if not len(real) or not len(synthetic):
        missing = " or ".join(name for name, n in (("real", counts[0]), ("synthetic", counts[1])) if not n)
        return Comparison(*counts, note=f"no {missing} slice has it")
    grid = _grid(np.concatenate([real, synthetic]))
    by_patient = np.bincount(
        patients * len(grid) + np.searchsorted(grid, real), minlength=draws.weights.shape[1] * len(grid)
    ).reshape(-1, len(grid))
    f = _shares(by_patient.sum(axis=0))
    g = _shares(np.bincount(np.searchsorted(grid, synthetic), minlength=len(grid)))
    ks = float(_ks(f, g))
    wasserstein = float(np.abs(f.cumsum() - g.cumsum())[:-1] @ np.diff(grid))
    spread = float(real.std())
    larger = share_of_pairs(synthetic, np.arange(len(synthetic)), real, patients)
    low, high = (2 * end - 1 for end in larger.interval) if larger.interval else (None, None)
    floor = floor_share = None
    if n_patients >= MIN_PATIENTS:
        distances = _ideal(by_patient, f, len(synthetic), draws.weights, rng)
        quantiles = np.percentile(distances, [50, 2.5, 97.5])
        floor = (float(quantiles[0]), float(quantiles[1]), float(quantiles[2]))
        # Rounding must not decide whether a draw equals the observed distance.
        floor_share = float((1 + np.count_nonzero(distances >= ks - 1e-12)) / (1 + len(distances)))
    notes = [
        "" if spread > 0 else "all real values are equal: no standard deviation",
        "" if floor else f"{no_interval(n_patients, MIN_PATIENTS).replace('no interval', 'no interval and no floor')}",
        no_interval(len(synthetic), MIN_PATIENTS, "synthetic slice"),
    ]
    return Comparison(
        *counts,
        ks=ks,
        wasserstein=wasserstein,
        wasserstein_sd=wasserstein / spread if spread > 0 else None,
        effect=2 * larger.value - 1,
        effect_low=low,
        effect_high=high,
        floor=floor,
        floor_share=floor_share,
        note="; ".join(filter(None, notes)),
    )


def ks_distance(a: Float64, b: Float64) -> float | None:
    """Kolmogorov-Smirnov distance of two samples, on the same kind of grid; None if one of them has no values."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or not len(b):
        return None
    grid = _grid(np.concatenate([a, b]))
    f, g = (_shares(np.bincount(np.searchsorted(grid, sample), minlength=len(grid))) for sample in (a, b))
    return float(_ks(f, g))


def _grid(pooled: Float64) -> Float64:
    """Increasing values that end with the largest: all distinct ones, or :data:`GRID` quantiles of them."""
    distinct = np.unique(pooled)
    if len(distinct) <= GRID:
        return distinct
    return np.unique(np.quantile(pooled, np.linspace(0, 1, GRID), method="inverted_cdf"))


def _shares(counts: NDArray[np.generic]) -> Float64:
    """Counts ``(..., grid)`` as shares."""
    shares: Float64 = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def _ks(f: Float64, g: Float64) -> Float64:
    """Kolmogorov-Smirnov distance of shares ``(..., grid)``."""
    distance: Float64 = np.abs((f - g).cumsum(axis=-1)).max(axis=-1)
    return distance


def _ideal(
    by_patient: NDArray[np.int64], f: Float64, n_synthetic: int, weights: Float64, rng: np.random.Generator
) -> Float64:
    """KS distances of ideal generators from the real slices, whose shares are ``f``; one a draw."""
    own = by_patient - by_patient.sum(axis=1, keepdims=True) * f
    of_people = weights @ (own.cumsum(axis=1) / by_patient.sum())
    of_images = (rng.multinomial(n_synthetic, f, size=len(weights)) / n_synthetic - f).cumsum(axis=1)
    return np.asarray(np.abs(of_people - of_images).max(axis=1), np.float64)
