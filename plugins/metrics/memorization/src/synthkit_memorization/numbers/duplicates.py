"""Near-duplicates inside the synthetic set: a generator that collapsed makes few images, many times over.

Two images are near-duplicates if their r exceeds a line that the caller draws (a quantile or the
threshold of the null). Groups are connected components: near-duplicates of near-duplicates belong together.

How many images have a near-duplicate grows with the size of the set, as birthdays do, and is not a share of independent
trials. So two numbers: the groups of the set as it is, and a share with a valid interval, of images of one half of the
set that have a near-duplicate in the other half. Synthetic images are independent draws, so given the other half these
are independent trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from synthkit.judging.intervals import clopper_pearson
from synthkit_memorization.estimate import Estimate
from synthkit_memorization.search.matches import Matches
from synthkit_memorization.search.pixels import Float64


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicates of a synthetic set.

    Attributes
    ----------
    n_images : images with a near-duplicate.
    n_groups : groups that near-duplicates join, single images included: how many distinct images there are.
    largest : images of the largest group, 1 without near-duplicates.
    across_halves : share of the images at odd places (1, 3, ...) with a near-duplicate at an even place.
    n_cut : images with as many near-duplicates as matches were given: groups may then be parts of larger ones, and
        ``across_halves`` is a lower bound.
    """

    n_images: int
    n_groups: int
    largest: int
    across_halves: Estimate
    n_cut: int


def near_duplicates(matches: Matches, line: float) -> Duplicates:
    """Groups of synthetic images, from the best matches of each among the others; ``line`` is an r in -1..1."""
    n, k = matches.index.shape
    near = (matches.index >= 0) & (matches.r > line)
    row, column = np.nonzero(near)
    links = coo_array((np.ones(len(row), np.int8), (row, matches.index[row, column])), shape=(n, n))
    _, group = connected_components(links, directed=False)
    sizes = np.bincount(group)
    return Duplicates(
        n_images=int(sizes[sizes > 1].sum()),
        n_groups=len(sizes),
        largest=int(sizes.max(initial=0)),
        across_halves=_across_halves((near & (matches.index % 2 == 0)).any(axis=1)[1::2]),
        n_cut=int(near[:, -1].sum()) if k < n - 1 else 0,
    )


def _across_halves(duplicated: NDArray[np.bool_]) -> Estimate:
    n = len(duplicated)
    if n == 0:
        return Estimate(None, n=0, note="fewer than two images")
    low, high = clopper_pearson(int(duplicated.sum()), n)
    return Estimate(float(duplicated.mean()), low, high, n, "images of one half of the set, given the other half")


def share_of_real(r: Float64, line: float) -> Estimate:
    """The baseline: share of real images with a near-duplicate among real images of other patients.

    Compare sets of the same size: the share grows with the size. Where the line is a quantile of these images, the
    share is what that quantile leaves, and no interval of it would say anything.

    Parameters
    ----------
    r : best r of each real image among those of other patients, ``(image,)``.
    """
    return Estimate(float((r > line).mean()), n=len(r), note="by how the line is drawn; of real images")
