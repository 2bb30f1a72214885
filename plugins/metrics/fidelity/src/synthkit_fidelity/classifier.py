"""The Inception score: exp of the mean Kullback-Leibler divergence of an image's classes from those of all images.

    IS = exp( mean_x sum_c p(c|x) log p(c|x) / p(c) ),   p(c) = mean_x p(c|x)          (Salimans et al. 2016)

It is taken of consecutive parts of the set and averaged, as published (10 parts). It grows with the size of the parts,
so scores compare only at equal numbers of images and parts. It never looks at real images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from synthkit.judging.spreads import Spread, influence_spread
from synthkit_fidelity.sets import FeatureSet, Float64


def classifier_score(logits: NDArray[np.float32], splits: int = 10) -> float:
    """Mean score of ``splits`` consecutive parts of logits ``(n, classes)``; 1 .. classes. At least an image a part."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    return float(np.mean([np.exp(_information(part).mean()) for part in np.array_split(log_p, splits)]))


def classifier_spread(images: FeatureSet, value: float) -> Spread:
    """Sampling variance of the score by the influence ``IS (I_x - mean I)`` of every image, whole groups together."""
    assert images.logits is not None
    log_p = log_softmax(images.logits.astype(np.float64), axis=1)
    return influence_spread(value * _information(log_p), images.group)


def _information(log_p: Float64) -> Float64:
    """Divergence of each row of log probabilities ``(n, classes)`` from their mean."""
    p = np.exp(log_p)
    # Classes that float64 gives no probability in any image count as 0 log 0 = 0.
    log_mean = np.log(np.maximum(p.mean(axis=0), np.finfo(float).tiny))
    divergence: Float64 = np.sum(p * (log_p - log_mean), axis=1)
    return divergence
