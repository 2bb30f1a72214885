"""The kernel distance: squared maximum mean discrepancy with the kernel (x . y / d + 1)^3 (Binkowski et al. 2018).

The unbiased estimate over all pairs

    sum_(i != j) k(x_i, x_j) / n (n - 1) + sum_(i != j) k(y_i, y_j) / m (m - 1) - 2 sum_ij k(x_i, y_j) / n m

in blocks, instead of the mean over random subsets that other tools report: the same expectation, less noise. It may be
negative. All that is kept are sums for every image, from which the jackknife over patients and images is exact.

With features as deviations u from a common centre, x . y / d + 1 is s + r, where s = a_x + q_y is a sum of what either
image has and r = u_x . u_y is small. Of (s + r)^3 the terms s^3 and 3 s^2 r need no pairs, only sums over images, in
float64. The rest, 3 s r^2 + r^3, is of pairs: in float32, which takes half the time and whose rounding is far below
the standard error.

"Unbiased" takes images for independent. Two slices of one patient are more alike than two of different patients, which
adds to the first term. :attr:`KernelDistance.between_patients` leaves such pairs out and is unbiased for patients. What
they add is all that an ideal generator is expected to have: :func:`ideal`, from the real images alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthkit.judging.spreads import Spread, leave_one_out_spread
from synthkit_fidelity.sets import Estimate, FeatureSet, Float64, Indices

#: Rows of a block of the kernel matrix, and those that are multiplied at a time.
BLOCK, STRIP = 1024, 32
#: Draws of what an ideal generator would have, and patients that they rest on at most.
DRAWS, MOST_PATIENTS = 4000, 1000


@dataclass(frozen=True)
class KernelDistance:
    """``all_pairs``: the usual estimate. ``between_patients``: None where there is a single patient."""

    all_pairs: Estimate
    between_patients: Estimate | None


def kernel_distance(real: FeatureSet, synthetic: FeatureSet) -> KernelDistance:
    """Both estimates. Each set has at least 2 images."""
    centre = (real.values.mean(axis=0, dtype=np.float64) + synthetic.values.mean(axis=0, dtype=np.float64)) / 2
    x, y = _Deviations.of(real.values, centre), _Deviations.of(synthetic.values, centre)
    within_x, within_y = (_by_group(each.group, _within(one)) for each, one in ((real, x), (synthetic, y)))
    same_x, same_y = (_same(each) for each in (real, synthetic))
    rows, columns = _across(x, y)
    across = _by_group(real.group, rows), _by_group(synthetic.group, columns)
    n, m = np.bincount(real.group).astype(np.float64), np.bincount(synthetic.group).astype(np.float64)
    sides = _Side(within_x, same_x, n), _Side(within_y, same_y, m)
    between = _estimate(*sides, across, with_own=False) if min(len(n), len(m)) > 1 else None
    return KernelDistance(_estimate(*sides, across, with_own=True), between)


def ideal(real: FeatureSet, n_synthetic: int, seed: int) -> tuple[float, float, float]:
    """What a generator that draws ``n_synthetic`` images of new people would have over all pairs: mean, 95 % of them.

    The mean is what pairs of one patient add. Around it, the estimate is the squared distance of two means of centred
    features, less its expectation: of patients and of ``n_synthetic`` images. Both are drawn as sums over patients with
    standard normal weights (the wild bootstrap of degenerate U-statistics; Leucht & Neumann 2013).

    Parameters
    ----------
    real : at least 2 patients; of more than :data:`MOST_PATIENTS`, as many are drawn.
    """
    rng = np.random.default_rng(seed)
    x = _with_offset(real.values)
    deviations = _Deviations.of(real.values, real.values.mean(axis=0, dtype=np.float64))
    within = _by_group(real.group, _within(deviations))
    own = _Side(within, _same(real), np.bincount(real.group).astype(np.float64))
    added = _mean_within(own, with_own=True)[0] - _mean_within(own, with_own=False)[0]

    chosen = np.isin(real.group, rng.permutation(real.n_groups)[:MOST_PATIENTS])
    patient = np.unique(real.group[chosen], return_inverse=True)[1].astype(np.int64)
    people, mixed, images, share = _centred(x[chosen], patient, rng)
    n = len(share)
    weights, others = rng.standard_normal((2, DRAWS, n))
    weights, others = weights * share, others * np.sqrt(share)
    of_people = _distinct_pairs(weights, people) / ((n - 1) * real.n_groups)
    of_images = _distinct_pairs(others, images) / ((n - 1) * n_synthetic)
    across = np.sum((weights @ mixed) * others, axis=1) / ((n - 1) * np.sqrt(real.n_groups * n_synthetic))
    low, high = np.percentile(of_people + of_images - 2 * across, [2.5, 97.5])
    return added, added + float(low), added + float(high)


def _centred(x: Float64, patient: Indices, rng: np.random.Generator) -> tuple[Float64, Float64, Float64, Float64]:
    """Centred kernels ``(n, n)`` between means of patients, between these and one image of each, and between images.

    Also the images of each patient, over their mean: what each weighs in the centre.
    """
    order = rng.permutation(len(x))
    order = order[np.argsort(patient[order], kind="stable")]
    x, patient = x[order], patient[order]
    single = np.flatnonzero(np.diff(patient, prepend=-1))  # the first of each, in random order
    n_images = np.bincount(patient).astype(np.float64)
    names = np.arange(len(single))
    share = n_images / n_images.mean()
    people = _sums_between(x, patient, x, patient) / np.outer(n_images, n_images)
    mixed = _sums_between(x, patient, x[single], names) / n_images[:, None]
    images = _sums_between(x[single], names, x[single], names)
    # Of every patient and of every image: its kernel with the mean of all images; and that mean with itself.
    of_patient, of_image = people @ share / len(share), share @ mixed / len(share)
    whole = float(of_patient @ share) / len(share)
    return (
        people - of_patient[:, None] - of_patient + whole,
        mixed - of_patient[:, None] - of_image + whole,
        images - of_image[:, None] - of_image + whole,
        share,
    )


def _sums_between(x: Float64, group_x: Indices, y: Float64, group_y: Indices) -> Float64:
    """The kernel summed over pairs of each group of x, which lie side by side, and each group of y."""
    sums = np.zeros((group_x.max() + 1, group_y.max() + 1))
    for first in range(0, len(x), BLOCK):
        mine = group_x[first : first + BLOCK]
        starts = np.flatnonzero(np.diff(mine, prepend=-1))
        for second in range(0, len(y), BLOCK):
            other = group_y[second : second + BLOCK]
            columns = np.flatnonzero(np.diff(other, prepend=-1))
            kernel = np.add.reduceat(_kernel(x[first : first + BLOCK], y[second : second + BLOCK]), starts, axis=0)
            sums[np.ix_(mine[starts], other[columns])] += np.add.reduceat(kernel, columns, axis=1)
    return sums


def _distinct_pairs(weights: Float64, kernel: Float64) -> Float64:
    """``sum_(g != h) w_g w_h k_gh`` of each row of weights."""
    sums: Float64 = np.sum((weights @ kernel) * weights, axis=1) - weights**2 @ np.diag(kernel)
    return sums


@dataclass(frozen=True)
class _Side:
    """Of each group of one set: kernel sums over pairs with any other image and over pairs inside, and its images."""

    any_pairs: Float64
    same_pairs: Float64
    images: Float64

    @property
    def n_same(self) -> Float64:
        return self.images * (self.images - 1)


def _estimate(x: _Side, y: _Side, across: tuple[Float64, Float64], *, with_own: bool) -> Estimate:
    """The estimate and its leave-one-group-out jackknife, with or without pairs of one group."""
    total = float(across[0].sum())
    n, m = float(x.images.sum()), float(y.images.sum())
    mean_x, without_x = _mean_within(x, with_own)
    mean_y, without_y = _mean_within(y, with_own)
    value = mean_x + mean_y - 2 * total / (n * m)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_x = without_x + mean_y - 2 * (total - across[0]) / ((n - x.images) * m)
        left_y = mean_x + without_y - 2 * (total - across[1]) / (n * (m - y.images))
    return Estimate(value, (_spread(left_x), _spread(left_y)))


def _mean_within(side: _Side, with_own: bool) -> tuple[float, Float64]:
    """Mean kernel over the pairs of one set, and the same without each group."""
    n = side.images.sum()
    pairs, images = side.any_pairs.sum(), n * (n - 1)
    # A group takes with it its pairs with others, twice, and its own, once.
    left_pairs = pairs - 2 * side.any_pairs + side.same_pairs
    left_images = (n - side.images) * (n - side.images - 1)
    if not with_own:
        pairs, images = pairs - side.same_pairs.sum(), images - side.n_same.sum()
        left_pairs = left_pairs - (side.same_pairs.sum() - side.same_pairs)
        left_images = left_images - (side.n_same.sum() - side.n_same)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(pairs / images), left_pairs / left_images


def _spread(left: Float64) -> Spread:
    """Too few images remain without a group: no variance can be told."""
    return leave_one_out_spread(left) if np.isfinite(left).all() else Spread(0.0, 0)


@dataclass(frozen=True)
class _Deviations:
    """Features of images as ``u (n, d)``, deviations from a centre c over the root of d, and what of s each image has.

    ``q (n,)`` is u . c, and ``a`` is q + c . c + 1.
    """

    u: Float64
    small: NDArray[np.float32]
    q: Float64
    a: Float64

    @classmethod
    def of(cls, values: NDArray[np.float32], centre: Float64) -> _Deviations:
        root = np.sqrt(len(centre))
        u, c = (values - centre) / root, centre / root
        q = u @ c
        return cls(u, u.astype(np.float32), q, q + c @ c + 1)

    def __len__(self) -> int:
        return len(self.u)


def _within(x: _Deviations) -> Float64:
    """For each image: the kernel summed over pairs with any other of its set."""
    sums = _without_pairs(x, x)
    itself = x.a + x.q
    sums -= itself**3 + 3 * itself**2 * np.sum(x.u**2, axis=1)
    for first in _blocks(len(x)):
        # Only pairs up to here: the kernel matrix is symmetric.
        for second in _blocks(first.start + 1):
            rest = _rest(x, x, first, second)
            if first == second:
                np.fill_diagonal(rest, 0.0)
            else:
                sums[second] += _sums(rest, 0)
            sums[first] += _sums(rest, 1)
    return sums


def _across(x: _Deviations, y: _Deviations) -> tuple[Float64, Float64]:
    """For each image of either set: the kernel summed over pairs with the other set."""
    rows, columns = _without_pairs(x, y), _without_pairs(y, x)
    for first in _blocks(len(x)):
        for second in _blocks(len(y)):
            rest = _rest(x, y, first, second)
            rows[first] += _sums(rest, 1)
            columns[second] += _sums(rest, 0)
    return rows, columns


def _without_pairs(x: _Deviations, y: _Deviations) -> Float64:
    """``s^3 + 3 s^2 r`` of each image of x, summed over y."""
    cubes = len(y) * x.a**3 + 3 * x.a**2 * y.q.sum() + 3 * x.a * (y.q**2).sum() + (y.q**3).sum()
    plain, once, twice = (x.u @ weighted for weighted in (y.u.sum(axis=0), y.q @ y.u, y.q**2 @ y.u))
    sums: Float64 = cubes + 3 * (x.a**2 * plain + 2 * x.a * once + twice)
    return sums


def _rest(x: _Deviations, y: _Deviations, rows: slice, columns: slice) -> NDArray[np.float32]:
    """``r^2 (3 s + r)`` of every pair of a block."""
    r: NDArray[np.float32] = x.small[rows] @ y.small[columns].T
    of_rows, of_columns = ((3 * part).astype(np.float32) for part in (x.a[rows], y.q[columns]))
    for first in range(0, len(r), STRIP):  # few enough at a time to stay in the cache
        strip = r[first : first + STRIP]
        other = strip + of_rows[first : first + STRIP, None]
        other += of_columns
        strip *= strip
        strip *= other
    return r


def _same(images: FeatureSet) -> Float64:
    """For each group: the kernel summed over pairs of one of its images with another of its own."""
    sums = np.zeros(int(images.group.max()) + 1)
    order = np.argsort(images.group, kind="stable")
    ends = np.cumsum(np.bincount(images.group))
    for group, (end, n) in enumerate(zip(ends, np.bincount(images.group), strict=True)):
        if n > 1:
            x = _with_offset(images.values[order[end - n : end]])
            kernel = _kernel(x, x)
            sums[group] = kernel.sum() - np.trace(kernel)
    return sums


def _blocks(n: int) -> list[slice]:
    return [slice(first, first + BLOCK) for first in range(0, n, BLOCK)]


def _by_group(group: Indices, values: Float64) -> Float64:
    return np.asarray(np.bincount(group, weights=values), np.float64)


def _with_offset(values: NDArray[np.float32]) -> Float64:
    """Features over the root of d, and a column of ones: their inner products are ``x . y / d + 1``."""
    n, dimension = values.shape
    extended = np.ones((n, dimension + 1))
    np.divide(values, np.sqrt(dimension), out=extended[:, :-1])
    return extended


def _kernel(x: Float64, y: Float64) -> Float64:
    """Kernel matrix of features with their offset."""
    product = x @ y.T
    for rows in range(0, len(product), STRIP):  # few enough at a time to stay in the cache between the two products
        strip = product[rows : rows + STRIP]
        strip *= strip * strip
    return product


def _sums(rest: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Sums over ``axis`` as a product with ones, which uses all cores."""
    ones = np.ones(rest.shape[axis], np.float32)
    return rest @ ones if axis else ones @ rest
