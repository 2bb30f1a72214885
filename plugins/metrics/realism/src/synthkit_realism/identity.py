"""Which real contrast each synthetic channel looks like.

A channel is described by the signatures of :mod:`synthkit.data.naming` (quantiles of healthy brain, oedema, enhancing
tumour, brightness, rank correlations with the other channels): the median over a patient's images, then over patients;
of synthetic images, the median over images. A naming of the channels costs the mean distance of all features from
those of the real contrasts, in robust standard deviations between real patients. There are at most 24 namings of four
channels, so the best one is found by looking at all: the correlations depend on two channels at once, which an
assignment channel by channel cannot use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.data.naming import Signatures

    Float64 = NDArray[np.float64]

# Added to the spread between patients: a feature on which few patients agree by chance must not decide alone.
_MIN_SPREAD = 0.1
# No single feature counts for more: one that a generator misses altogether says little about the name.
_MAX_DISTANCE = 4.0

# A name is wrong only if another one is nearer by so much of the distance that it leaves. Of exchanged channels it is
# 0.6 and more, 0.25 once all were blurred by 1 pixel of 128; of blur, noise and gamma alone at most 0.14.
_LEAST_GAIN = 0.2

#: With more contrasts there are too many namings to look at all.
MAX_CONTRASTS = 6


@dataclass(frozen=True)
class Identity:
    """The answer. C contrasts, channels in the same order.

    Attributes
    ----------
    best : the real contrast that each channel looks like, ``(C,)``.
    cost : how far the channels are from the real contrasts that they look like, in standard deviations.
    distance : of channel i from real contrast j, ``(C, C)``, in standard deviations between patients.
    margin : least cost of a naming that gives this channel another name, less that of one that keeps it, ``(C,)``.
    margin_resampled : the same for each resample, ``(resample, C)``.
    keeps_name : share of resamples whose best naming leaves the channel its name, ``(C,)``.
    """

    best: NDArray[np.intp]
    cost: float
    distance: Float64
    margin: Float64
    margin_resampled: Float64
    keeps_name: Float64

    def explains(self, channel: int) -> bool:
        """Whether another name for the channel does away with a good part of the distance.

        Blurred images, or such of other brightness, are far from every real contrast, and a little nearer to another
        one by chance; exchanged ones are about as near to the right one as any.
        """
        return -float(self.margin[channel]) >= _LEAST_GAIN * self.cost


def identify_against(
    real: Signatures, patients: NDArray[np.intp], synthetic: Signatures, *, resamples: int, seed: int
) -> Identity | None:
    """Match the channels; None if either side shows no brain, or there are fewer than two or more than six channels.

    ``patients`` numbers the patient of each real image, ``(n,)``.
    """
    real_features, synthetic_features = _features(real), _features(synthetic)
    shown, synthetic_shown = (~np.isnan(part.level).any(axis=1) for part in (real, synthetic))
    if not 2 <= real_features.shape[1] <= MAX_CONTRASTS or not shown.any() or not synthetic_shown.any():
        return None
    synthetic_features = synthetic_features[synthetic_shown]
    by_patient = np.stack([_median(real_features[shown & (patients == k)]) for k in np.unique(patients[shown])])
    centre = _median(by_patient)
    # 1.4826 MAD is the standard deviation of a normal distribution.
    spread = np.hypot(1.4826 * np.nan_to_num(_median(np.abs(by_patient - centre))), _MIN_SPREAD)
    n_contrasts = centre.shape[0]
    namings = list(permutations(range(n_contrasts)))
    costs = _costs(namings, _median(synthetic_features), centre, spread)
    rng = np.random.default_rng(seed)
    resampled = np.stack(
        [
            _costs(
                namings,
                _median(synthetic_features[rng.integers(len(synthetic_features), size=len(synthetic_features))]),
                _median(by_patient[rng.integers(len(by_patient), size=len(by_patient))]),
                spread,
            )
            for _ in range(resamples)
        ]
    )
    moves = np.array([[k != j for j, k in enumerate(naming)] for naming in namings])
    best = np.array(namings)[costs.argmin()]
    return Identity(
        best=best.astype(np.intp),
        cost=float(costs.min()),
        distance=_distances(_median(synthetic_features), centre, spread),
        margin=_margins(costs[None], moves)[0],
        margin_resampled=_margins(resampled, moves),
        keeps_name=1 - moves[resampled.argmin(axis=1)].mean(axis=0),
    )


def _features(found: Signatures) -> Float64:
    """``(n, contrast, feature)``: those of one channel, then its correlations with every channel."""
    own = np.concatenate(
        [found.quantiles, found.oedema[..., None], found.enhancing[..., None], found.level[..., None]], 2
    )
    return np.concatenate([own, found.rho], axis=2)


def _median(features: Float64) -> Float64:
    """Median over the first axis of what is not NaN."""
    counted = np.sort(features, axis=0)  # NaN last
    n = np.count_nonzero(~np.isnan(features), axis=0)
    low, high = (np.clip(k, 0, len(features) - 1)[None] for k in ((n - 1) // 2, n // 2))
    middle = np.take_along_axis(counted, low, axis=0) + np.take_along_axis(counted, high, axis=0)
    return np.where(n > 0, middle[0] / 2, np.nan)


def _scaled(difference: Float64, spread: Float64) -> Float64:
    return np.minimum(np.abs(difference) / spread, _MAX_DISTANCE)


def _costs(namings: Sequence[tuple[int, ...]], synthetic: Float64, real: Float64, spread: Float64) -> Float64:
    """Cost of each naming: channel j is called contrast naming[j]. Features that are NaN on a side do not count."""
    n_contrasts = real.shape[0]
    own = real.shape[1] - n_contrasts
    costs = []
    for naming in namings:
        order = list(naming)
        columns = [*range(own), *(own + k for k in order)]
        costs.append(np.nanmean(_scaled(synthetic - real[order][:, columns], spread[order][:, columns])))
    return np.array(costs)


def _distances(synthetic: Float64, real: Float64, spread: Float64) -> Float64:
    """Distance of each channel from each real contrast, by the features of one channel, ``(channel, contrast)``."""
    own = real.shape[1] - real.shape[0]
    each = _scaled(synthetic[:, None, :own] - real[None, :, :own], spread[None, :, :own])
    distances: Float64 = np.nanmean(each, axis=2)
    return distances


def _margins(costs: Float64, moves: NDArray[np.bool_]) -> Float64:
    """From costs ``(resample, naming)``: margin of each channel, ``(resample, channel)``."""
    return np.stack([costs[:, moved].min(axis=1) - costs[:, ~moved].min(axis=1) for moved in moves.T], axis=1)
