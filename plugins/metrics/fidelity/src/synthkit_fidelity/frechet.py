"""The Frechet distance between two sets of features (Dowson & Landau 1982; Heusel et al. 2017).

    d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1^(1/2) C2 C1^(1/2))^(1/2)

with means m and unbiased covariances C, in float64. With any roots ``C = R' R`` the last trace is the sum of the
singular values of ``R1 R2'``, so it comes from the eigenvalues of one symmetric matrix: no square root of a matrix is
taken, and singular covariances need no regularisation. R is the Cholesky factor, or the centred features themselves
where there are fewer images than features.

The distance of finite samples is too large by about a constant over n. :func:`extrapolate` removes that bias (Chong &
Forsyth 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from synthkit.judging.spreads import influence_spread
from synthkit_fidelity.sets import Estimate, FeatureSet, Float64

#: Rounding of the trace of the root that is not worth a slower algorithm, relative.
TRACE_TOLERANCE = 1e-9

#: Images that are held in float64 at a time.
BLOCK = 4096

#: Sample sizes of the extrapolation, the full one included; the smallest is this fraction of it at least.
N_SIZES, SMALLEST_FRACTION = 8, 0.25
#: The extrapolation draws whole patients: with fewer of them, sample sizes cannot be told apart.
MIN_PATIENTS_TO_EXTRAPOLATE = 10


Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Gaussian:
    """Mean ``(d,)``, and the covariance ``(d, d)`` or features ``(n, d)``, centred, that it is the product of.

    ``rows`` are the centred features over the root of n - 1, kept where there are fewer of them than features.
    """

    mean: Float64
    covariance: Float64 | None = None
    rows: Float64 | None = None

    @cached_property
    def root(self) -> Float64:
        """R ``(r, d)`` with ``R' R`` the covariance; found when asked for, since of a pair one is often enough."""
        if self.rows is not None:
            return self.rows
        assert self.covariance is not None
        return root_of(self.covariance)

    @property
    def trace(self) -> float:
        """Of the covariance."""
        return float(np.sum(self.root**2) if self.covariance is None else np.trace(self.covariance))


def root_of(covariance: Float64) -> Float64:
    """R ``(r, d)`` with ``R' R = covariance``; r is its rank if it is singular."""
    try:
        return np.asarray(linalg.cholesky(covariance, check_finite=False))
    except linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        kept = values > values[-1] * len(values) * np.finfo(float).eps
        return np.asarray(np.sqrt(values[kept])[:, None] * vectors[:, kept].T, np.float64)


def gaussian_of(features: Features) -> Gaussian:
    """Mean and covariance of features ``(n, d)``, n of at least 2."""
    n, dimension = features.shape
    mean = features.mean(axis=0, dtype=np.float64)
    if n <= dimension:
        return Gaussian(mean, rows=(features - mean) / np.sqrt(n - 1))
    covariance = np.zeros((dimension, dimension))
    for rows in _blocks(n):
        centred = features[rows] - mean
        covariance += centred.T @ centred
    return Gaussian(mean, covariance / (n - 1))


def trace_of_root(first: Gaussian, second: Gaussian) -> float:
    """``tr (C1^(1/2) C2 C1^(1/2))^(1/2)``: the sum of the singular values of ``M = R1 R2'``.

    Square roots of the eigenvalues of ``M M' = R1 C2 R1'`` are a third of the work of singular values, but lose half of
    the digits of those that are small. So the rounding is bounded, and where it could be seen the singular values are
    computed.
    """
    squares = np.clip(_eigenvalues(first, second), 0.0, None)
    if not squares.size:
        return 0.0
    # An eigenvalue errs by a few epsilon of the largest, its root by at most error / (root + root of error).
    error = 8 * np.finfo(float).eps * squares[-1]
    roots = np.sqrt(squares)
    if np.sum(error / (roots + np.sqrt(error) + np.finfo(float).tiny)) > TRACE_TOLERANCE * roots.sum():
        roots = np.linalg.svd(_smaller_side_first(first.root @ second.root.T), compute_uv=False)
    return float(roots.sum())


def _eigenvalues(first: Gaussian, second: Gaussian) -> Float64:
    """Of ``M M'``, ascending."""
    if second.covariance is not None and first.covariance is not None and first.root.shape == first.covariance.shape:
        # R1 is triangular: LAPACK's reduction of a generalised eigenproblem forms R1 C2 R1' in one pass.
        triangle, _ = linalg.lapack.dsygst(second.covariance, first.root, itype=2)
        return np.asarray(linalg.eigvalsh(triangle, lower=False, check_finite=False))
    product = _smaller_side_first(first.root @ second.root.T)
    return np.asarray(np.linalg.eigvalsh(product @ product.T), np.float64)


def gaussian_distance(first: Gaussian, second: Gaussian) -> float:
    """Squared Frechet distance of two Gaussians; never negative."""
    shift = first.mean - second.mean
    rest = first.trace + second.trace - 2 * trace_of_root(first, second)
    return max(float(shift @ shift) + rest, 0.0)


def frechet_distance(real: Features, synthetic: Features) -> float:
    """Squared Frechet distance between features ``(n, d)`` and ``(m, d)``, n and m of at least 2."""
    return gaussian_distance(gaussian_of(real), gaussian_of(synthetic))


# ---------------------------------------------------------------------------------------------------- intervals


def estimate(real: FeatureSet, synthetic: FeatureSet) -> Estimate:
    """The distance, and its sampling variance due to each set (infinitesimal jackknife)."""
    first, second = gaussian_of(real.values), gaussian_of(synthetic.values)
    shift, factors = first.mean - second.mean, _transport(first, second)
    spreads = (
        influence_spread(_influence(real.values, first, shift, factors[0]), real.group),
        influence_spread(_influence(synthetic.values, second, -shift, factors[1]), synthetic.group),
    )
    return Estimate(gaussian_distance(first, second), spreads)


def with_influence(first: Gaussian, images: Features) -> tuple[float, Float64]:
    """The distance of ``images (n, d)`` to a Gaussian, and the influence ``(n,)`` of each image, up to a constant."""
    second = gaussian_of(images)
    factor = _transport(first, second)[1]
    return gaussian_distance(first, second), _influence(images, second, second.mean - first.mean, factor)


def _transport(first: Gaussian, second: Gaussian) -> tuple[Float64, Float64]:
    """F and G of the optimal transport between both: ``F' F = (M M')^(1/2)`` and ``G' G = (M' M)^(1/2)``, M = R1 R2'.

    With ``a = x - m1`` and the optimal transport map T from N(0, C1) to N(0, C2), the influence of x on the distance is
    ``2 (m1 - m2)' a + n / (n - 1) (|a|^2 - a' T a)`` less its mean, and likewise for the other set. For ``C1 = R1' R1``
    and ``a = R1' z`` the last term is ``z' (M M')^(1/2) z``. Where a singular value is 0, so is its part of both.
    """
    product = first.root @ second.root.T
    swapped = product.shape[0] > product.shape[1]
    product = _smaller_side_first(product)
    squares, vectors = np.linalg.eigh(product @ product.T)
    singular = np.sqrt(np.clip(squares, 0.0, None))
    kept = singular > singular.max(initial=0.0) * 1e-7
    near = np.sqrt(singular[kept])[:, None] * vectors[:, kept].T
    far = (vectors[:, kept].T @ product) / np.sqrt(singular[kept])[:, None]
    return (far, near) if swapped else (near, far)


def _influence(values: Features, gaussian: Gaussian, shift: Float64, factor: Float64) -> Float64:
    """Influence of each image on the distance, up to a constant; ``factor`` is F of the quadratic form ``|F z|^2``."""
    n, dimension = values.shape
    influence = np.empty(n)
    for rows in _blocks(n):
        centred = values[rows] - gaussian.mean
        if n <= dimension:  # the root holds the images themselves: z is a unit vector times sqrt(n - 1)
            quadratic = (n - 1) * np.sum(factor[:, rows] ** 2, axis=0)
        else:
            quadratic = np.sum((factor @ _coordinates(gaussian.root, centred)) ** 2, axis=0)
        squared = np.sum(centred**2, axis=1) - quadratic
        influence[rows] = 2 * (centred @ shift) + n / (n - 1) * squared
    return influence


def _coordinates(root: Float64, centred: Float64) -> Float64:
    """The z of ``a = root' z`` for every row a, as columns."""
    if root.shape[0] == root.shape[1]:
        return np.asarray(linalg.solve_triangular(root, centred.T, trans="T", check_finite=False))
    z: Float64 = (root / np.sum(root**2, axis=1)[:, None]) @ centred.T  # rows of this root are orthogonal
    return z


def _blocks(n: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, n)) for first in range(0, n, BLOCK)]


def _smaller_side_first(product: Float64) -> Float64:
    return product if product.shape[0] <= product.shape[1] else product.T


# ------------------------------------------------------------------------------------------------ extrapolation


def why_not_extrapolated(real: FeatureSet, synthetic: FeatureSet) -> str:
    """Why the distance cannot be extrapolated, or nothing."""
    needed = 2 * real.dimension
    if min(len(real), len(synthetic)) < needed:
        return f"extrapolation needs {needed} images of each kind, twice the features"
    if real.n_groups < MIN_PATIENTS_TO_EXTRAPOLATE:
        return f"extrapolation needs {MIN_PATIENTS_TO_EXTRAPOLATE} patients"
    return ""


def extrapolate(real: FeatureSet, synthetic: FeatureSet, seed: int) -> tuple[float, float]:
    """The distance at infinitely many patients and images, and the variance of the fit.

    Both sets are drawn in the same fractions f, whole patients of the real one; the distance is a line in 1/f (Chong &
    Forsyth 2020), whose value at 1/f = 0 is the answer. Only if :func:`why_not_extrapolated` is empty.
    """
    rng = np.random.default_rng(seed)
    smallest = max(SMALLEST_FRACTION, real.dimension / min(len(real), len(synthetic)))
    inverse = np.linspace(1.0, 1.0 / smallest, N_SIZES)
    distances = [
        frechet_distance(real.fraction(1.0 / f, rng).values, synthetic.fraction(1.0 / f, rng).values) for f in inverse
    ]
    line, covariance = np.polyfit(inverse, distances, 1, cov=True)
    return max(float(line[1]), 0.0), float(covariance[1, 1])
