"""Are synthetic images closer to training images than held-out images are? Each number is 0.5, or 0, if not.

Functions take r or d = sqrt(2 (1 - r)) of best matches; nothing is searched here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from synthkit_memorization.estimate import Estimate, share_larger
from synthkit_memorization.search.pixels import READ_BATCH, Float32, Float64, Images, Int64

#: Points of either set that a cell of C_T needs: the normal approximation of the rank sum (Meehan et al. 2020).
MINIMUM_OF_CELL = 20

#: Axes of the embedding that cells are made in.
AXES = 32


def c_t(synthetic_d: Float64, holdout_d: Float64, synthetic_cell: Int64, holdout_cell: Int64) -> Estimate:
    """C_T of Meehan, Chaudhuri & Dasgupta (AISTATS 2020): below 0 where synthetic images lie nearer to training ones.

    In a cell with m synthetic and n held-out points, U counts the pairs whose synthetic point is farther from the
    training set (a tie counts half), and

        Z_U = (U - m n / 2) / sqrt(m n (m + n + 1) / 12),   C_T = sum n_cell Z_U / sum n_cell.

    As in the paper, cells with few synthetic points are left out and the others weighted by their held-out points;
    cells with few held-out points are left out too. Distances are to the whole training set, not to its part of the
    cell. Z_U takes points for independent. Slices of one patient are not, so |C_T| grows with the slices of a patient
    and has no interval here: :func:`closer_than_holdout` has one.

    Parameters
    ----------
    synthetic_d, holdout_d : distances to the nearest training image, ``(image,)``.
    synthetic_cell, holdout_cell : 0, 1, ... for each, from :func:`cells`; zeros for the test without cells.
    """
    n_cells = int(max(synthetic_cell.max(initial=0), holdout_cell.max(initial=0))) + 1
    m, n = np.bincount(synthetic_cell, minlength=n_cells), np.bincount(holdout_cell, minlength=n_cells)
    used = np.flatnonzero((m >= MINIMUM_OF_CELL) & (n >= MINIMUM_OF_CELL))
    if not len(used):
        return Estimate(None, n=0, note=f"no cell has {MINIMUM_OF_CELL} images of either set")
    z = []
    for cell in used:
        ranks = rankdata(np.concatenate([synthetic_d[synthetic_cell == cell], holdout_d[holdout_cell == cell]]))
        u = ranks[: m[cell]].sum() - m[cell] * (m[cell] + 1) / 2
        product = float(m[cell]) * float(n[cell])
        z.append((u - product / 2) / np.sqrt(product * (m[cell] + n[cell] + 1) / 12))
    value = float(np.average(z, weights=n[used]))
    return Estimate(value, n=len(used), note=f"{len(used)} of {n_cells} cells; slices count as independent")


def closer_than_holdout(synthetic_r: Float64, holdout_r: Float64, holdout_patient: Int64) -> Estimate:
    """P(d_synthetic < d_holdout), ties half: a synthetic image nearer to the training set than a held-out one; 0.5.

    From best r in the training set, ``(image,)``. The Mann-Whitney U of :func:`c_t` without cells, as a share of pairs,
    with an interval over held-out patients and synthetic images.
    """
    n_patients = len(np.unique(holdout_patient))
    note = f"0.5 without copying; over {n_patients} held-out patients and {len(synthetic_r)} synthetic images"
    return share_larger(synthetic_r, np.arange(len(synthetic_r)), holdout_r, holdout_patient, n_patients, note)


def closer_to_train(train_r: Float64, holdout_r: Float64) -> Estimate:
    """Share of synthetic images whose best match is nearer in the training than in the held-out images; ties half.

    0.5 for equal numbers of exchangeable images. It has no interval: the chance of who the patients are is most of it
    where some are near to many images, and the jackknife over patients, by their best matches, was found to cover
    88 to 100 %. :func:`closer_than_holdout` has one.

    Parameters
    ----------
    train_r, holdout_r : best r of each synthetic image on either side, ``(image,)``.
    """
    nearer = (train_r > holdout_r) + 0.5 * (train_r == holdout_r)
    note = "0.5 without copying; no interval: the chance of who the patients are is not known"
    return Estimate(float(nearer.mean()), n=len(nearer), note=note)


# ------------------------------------------------------------------------------------------------------------- cells


def embedding(images: Images, side: int = 16) -> Float32:
    """Every image at ``side`` x ``side`` pixels a contrast (means over areas), standardised; float32 ``(n, values)``.

    Distances are sqrt(2 (1 - r)) of the reduced joint images. Reads the images once; 4 KB each with four contrasts.
    """
    down, across = (_reduction(length, side) for length in images.size)
    result = np.empty((len(images), len(images.contrasts) * side * side), np.float32)
    for first in range(0, len(images), READ_BATCH):
        rows = np.arange(first, min(first + READ_BATCH, len(images)))
        small = (down @ images.read(rows)[0].astype(np.float32) @ across.T).reshape(len(rows), -1)
        small -= small.mean(axis=1, keepdims=True)
        result[rows] = small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-12)
    return result


def _reduction(length: int, side: int) -> Float32:
    """Mean over ``side`` equal intervals of ``length`` pixels, ``(side, length)``; pixels on a border are shared."""
    edges = np.arange(side + 1) * length / side
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    result: Float32 = (np.clip(overlap, 0, 1) * side / length).astype(np.float32)
    return result


def cells(train: Float32, others: Sequence[Float32], n_cells: int, seed: int) -> list[Int64]:
    """Cells of the points of other sets: k-means on the training points, in the principal axes of these.

    Points are embeddings, ``(image, values)``. Fewer than ``n_cells`` if there are fewer training points.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    reduce = PCA(min(AXES, *train.shape), random_state=seed).fit(train)
    means = KMeans(min(n_cells, len(train)), n_init=1, random_state=seed).fit(reduce.transform(train))
    return [means.predict(reduce.transform(points)).astype(np.int64) for points in others]
