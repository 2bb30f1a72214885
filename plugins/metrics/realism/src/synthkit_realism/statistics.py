"""Two samples, one of them in patients: how far apart they are, and how far real patients are from each other.

Slices of a patient are never independent, so real values are held as one histogram a patient over a common grid.
Resampling or splitting patients is then a sum of histograms, and any number of resamples one matrix product.

* Kolmogorov-Smirnov distance ``max |F - G|``, and Wasserstein-1 distance ``integral of |F - G|`` (Vallender 1974), of
  the empirical distribution functions F and G.
* Cliff's delta, ``P(synthetic > real) - P(synthetic < real)`` (Cliff 1993): has a sign, needs no scale, and is defined
  for counts and shares that are mostly one value, where a median difference over the MAD is 0 / 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

#: Distinct values beyond this many are reduced to as many quantiles: a distance then errs by at most their spacing.
GRID = 1024
MIN_PATIENTS_FOR_INTERVAL = 3
MIN_PATIENTS_FOR_FLOOR = 2


@dataclass(frozen=True)
class Resamples:
    """Draws shared by all properties, so that a patient who is drawn is drawn with every property.

    Attributes
    ----------
    draws : how often each patient is drawn, ``(resample, patient)``.
    halves : 1 for the patients in the first half of a random split, ``(split, patient)``.
    """

    draws: Float64
    halves: Float64

    @staticmethod
    def of(n_patients: int, *, resamples: int, splits: int, seed: int) -> Resamples:
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)
        order = rng.random((splits, n_patients)).argsort(axis=1)
        return Resamples(draws.astype(np.float64), (order < n_patients // 2).astype(np.float64))


@dataclass(frozen=True)
class Comparison:
    """How synthetic values of one property differ from real ones. None where it is undefined; ``note`` says why.

    Attributes
    ----------
    ks, wasserstein : distances, the second in the unit of the property; ``wasserstein_sd`` in standard deviations of
        the real values.
    effect, effect_low, effect_high : Cliff's delta with its 95 % percentile bootstrap interval (patients, images).
    floor : KS distance between two random halves of the real patients: median, 2.5 % and 97.5 % over splits.
    floor_share : share of the splits, and of the observed one among them, whose halves are at least ``ks`` apart.
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
    real: Float64, patients: NDArray[np.intp], synthetic: Float64, resamples: Resamples, rng: np.random.Generator
) -> Comparison:
    """Compare one property; NaN in ``real`` ``(n,)`` or ``synthetic`` ``(m,)`` does not count.

    ``patients`` numbers the patient of each real value, as in ``resamples``.
    """
    kept = ~np.isnan(real)
    real, patients, synthetic = real[kept], patients[kept], synthetic[~np.isnan(synthetic)]
    present = np.unique(patients)
    counts = (len(real), len(synthetic), len(present))
    if not len(real) or not len(synthetic):
        missing = " or ".join(name for name, n in (("real", counts[0]), ("synthetic", counts[1])) if not n)
        return Comparison(*counts, note=f"no {missing} slice has it")
    grid = _grid(np.concatenate([real, synthetic]))
    n_patients = resamples.draws.shape[1]
    by_patient = np.bincount(
        patients * len(grid) + np.searchsorted(grid, real), minlength=n_patients * len(grid)
    ).reshape(n_patients, -1)
    f = _shares(by_patient.sum(axis=0))
    g = _shares(np.bincount(np.searchsorted(grid, synthetic), minlength=len(grid)))
    ks, effect = float(_ks(f, g)), float(_cliff(f, g))
    wasserstein = float(np.abs(f.cumsum() - g.cumsum())[:-1] @ np.diff(grid))
    spread = float(real.std())
    notes = [] if spread > 0 else ["all real values are equal: no standard deviation"]
    low = high = floor = floor_share = None
    if len(present) >= MIN_PATIENTS_FOR_INTERVAL:
        drawn = resamples.draws @ by_patient
        drawn = _shares(drawn[drawn.sum(axis=1) > 0])
        deltas = _cliff(drawn, rng.multinomial(len(synthetic), g, size=len(drawn)) / len(synthetic))
        ends = np.percentile(deltas, [2.5, 97.5])
        low, high = min(float(ends[0]), effect), max(float(ends[1]), effect)
    else:
        notes.append(f"no interval below {MIN_PATIENTS_FOR_INTERVAL} patients")
    distances = _floor(by_patient, resamples.halves) if len(present) >= MIN_PATIENTS_FOR_FLOOR else np.empty(0)
    if len(distances):
        quantiles = np.percentile(distances, [50, 2.5, 97.5])
        floor = (float(quantiles[0]), float(quantiles[1]), float(quantiles[2]))
        # Rounding must not decide whether a split equals the observed distance.
        floor_share = float((1 + np.count_nonzero(distances >= ks - 1e-12)) / (1 + len(distances)))
    else:
        notes.append(f"no floor below {MIN_PATIENTS_FOR_FLOOR} patients")
    return Comparison(
        *counts,
        ks=ks,
        wasserstein=wasserstein,
        wasserstein_sd=wasserstein / spread if spread > 0 else None,
        effect=effect,
        effect_low=low,
        effect_high=high,
        floor=floor,
        floor_share=floor_share,
        note="; ".join(notes),
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


def _cliff(real: Float64, synthetic: Float64) -> Float64:
    """Cliff's delta of shares ``(..., grid)``: for a synthetic value, real values below it less those above it."""
    at_most = real.cumsum(axis=-1)
    delta: Float64 = (synthetic * (2 * at_most - real - 1)).sum(axis=-1)
    return delta


def _floor(by_patient: NDArray[np.int64], halves: Float64) -> Float64:
    """KS distances between the two halves of the patients, a split a value; splits with an empty half are left out."""
    first = halves @ by_patient
    second = by_patient.sum(axis=0) - first
    kept = (first.sum(axis=1) > 0) & (second.sum(axis=1) > 0)
    return _ks(_shares(first[kept]), _shares(second[kept]))
