"""Numbers about copying from distances to the nearest image, each with its baseline and an interval where there is one.

The distance of two images is that of the standardised images, d = sqrt(2 (1 - r)), so it orders pairs as r does, the
other way round. Functions take r or d of best matches; nothing is searched here.

Independent units are patients for real images (their slices are not independent) and single images for synthetic ones
(draws of the generator). Intervals, 95 %, resample those and hold the training set and the generator as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

from synthkit.judging.intervals import clopper_pearson
from synthkit_memorization.null.null import resampled_subjects
from synthkit_memorization.search.pixels import READ_BATCH, Float32, Float64, Images, Int64

#: Points of either set that a cell of C_T needs: the normal approximation of the rank sum (Meehan et al. 2020).
MINIMUM_OF_CELL = 20

#: Axes of the embedding that cells are made in.
AXES = 32

#: Resamples taken at a time.
_RESAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval (None where there is none) from n independent units; ``note`` says which.

    ``value`` is None where the number is undefined.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


def distance(r: Float64) -> Float64:
    """d = sqrt(2 (1 - r)), 0..2, of the standardised images."""
    result: Float64 = np.sqrt(2 * np.maximum(0.0, 1 - np.asarray(r, np.float64)))
    return result


# ------------------------------------------------------------------------------- synthetic against held-out images


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


def closer_than_holdout(
    synthetic_r: Float64, holdout_r: Float64, holdout_patient: Int64, resamples: int, seed: int
) -> Estimate:
    """P(d_synthetic < d_holdout), ties half: a synthetic image nearer to the training set than a held-out one; 0.5.

    From best r in the training set, ``(image,)``. The Mann-Whitney U of :func:`c_t` without cells, as a share of pairs.
    Its interval resamples patients; to each resample the error of the synthetic side is added as a normal one, from the
    variance of its projection (the two parts of a U statistic are uncorrelated; Hoeffding 1948).
    """
    patient, n_patients = _numbered(holdout_patient)
    nearer = 1 - _mid_rank(np.sort(synthetic_r), holdout_r) / len(synthetic_r)
    farther = _mid_rank(np.sort(holdout_r), synthetic_r) / len(holdout_r)
    rng = np.random.default_rng(seed)
    times = resampled_subjects(n_patients, resamples, rng)
    draws = (times @ np.bincount(patient, nearer)) / (times @ np.bincount(patient))
    draws = np.clip(draws + rng.normal(0, farther.std() / np.sqrt(len(farther)), resamples), 0, 1)
    value = float(nearer.mean())
    note = f"0.5 without copying; resampling {n_patients} held-out patients and {len(farther)} synthetic images"
    return _with_interval(value, draws, min(n_patients, len(farther)), n_patients, note)


@dataclass(frozen=True)
class BestPatients:
    """Best matches of synthetic images by patient.

    Attributes
    ----------
    r : float64 ``(image,)``, the best match. patient : int64 ``(image,)``, its patient.
    elsewhere : float64 ``(image,)``, the best match of any other patient; NaN where there is none.
    n_patients : patients searched in.
    """

    r: Float64
    patient: Int64
    elsewhere: Float64
    n_patients: int


def closer_to_train(train: BestPatients, holdout: BestPatients) -> Estimate:
    """Share of synthetic images whose best match is nearer in the training than in the held-out images; ties half.

    0.5 for equal numbers of exchangeable images. The interval has three parts: the synthetic images, the training and
    the held-out patients. Those of patients are jackknife variances, (S - 1) / S sum (x_(-p) - mean)^2 over the shares
    x_(-p) without patient p, which need only the best match elsewhere. By Efron & Stein (Ann. Statist. 9, 1981) the
    jackknife errs upwards on average, so the interval is rather too wide; only where one patient matches most images
    is it too narrow. Student's t, with the patients of the smaller side less one; never narrower than Clopper-Pearson
    over the synthetic images.
    """
    wins = _beats(train.r, holdout.r)
    n, value = len(wins), float(wins.mean())
    low, high = clopper_pearson(round(value * n), n)
    fewest = min(train.n_patients, holdout.n_patients)
    if fewest < 2:
        return Estimate(
            value, low, high, n, "one patient on a side: interval over synthetic images, given the patients"
        )
    variance = (
        value * (1 - value) / n
        + _jackknife(_beats(train.elsewhere, holdout.r) - wins, train)
        + _jackknife(_beats(train.r, holdout.elsewhere) - wins, holdout)
    )
    half = float(student.ppf(0.975, fewest - 1) * np.sqrt(variance))
    note = f"0.5 without copying; over synthetic images, {train.n_patients} training and {holdout.n_patients} held-out "
    low, high = max(0.0, min(low, value - half)), min(1.0, max(high, value + half))
    return Estimate(value, low, high, n, note + "patients")


def _beats(a: Float64, b: Float64) -> Float64:
    result: Float64 = (a > b) + 0.5 * (a == b)
    return result


def _jackknife(change: Float64, side: BestPatients) -> float:
    """Jackknife variance of a mean from how each image changes when the patient that it matches is left out."""
    moved = np.bincount(side.patient, change, minlength=side.n_patients) / len(change)
    s = side.n_patients
    return float((s - 1) / s * ((moved - moved.mean()) ** 2).sum())


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


# ------------------------------------------------------------------------------------ against other training images


def authentic(r: Float64, match: Int64, train_r: Float64) -> NDArray[np.bool_]:
    """Which synthetic images are authentic (Alaa et al., ICML 2022), ``(image,)``; their share falls with every copy.

    Synthetic image i with nearest training image j = match[i] is authentic unless it is nearer to j than j's nearest
    other training image is: r[i] <= train_r[j]. Two known packages index the distances of the real images with i in
    place of j, and their score rises when copies are planted.

    Slices have near-duplicates in the same patient, which make train_r[j] large and the test blunt: only a copy closer
    than the next slice is then not authentic. With train_r among other patients it asks what a patient loses. Given the
    training set the images are independent, so the share has a Clopper-Pearson interval.

    Parameters
    ----------
    r, match : best r in the training set and its index, ``(synthetic image,)``.
    train_r : best r of each training image among the others, or among those of other patients.
    """
    result: NDArray[np.bool_] = r <= train_r[match]
    return result


def distance_ratio(r_best: Float64, r_other: Float64) -> Float64:
    """d of the best match over d of the best match of another patient, 0..1; low where one patient stands out.

    1 where both are 0 (then nobody is singled out), NaN where there is no other patient.
    """
    near, far = distance(r_best), distance(r_other)
    result: Float64 = np.where(far > 0, near / np.where(far > 0, far, 1.0), 1.0)
    return np.where(np.isnan(r_other), np.nan, result)


@dataclass(frozen=True)
class Ratios:
    """Distance ratios of synthetic and of null images: median, 5 % quantile, and how many are lower than the null's."""

    median: Estimate
    low_quantile: Estimate
    null_median: Estimate
    null_low_quantile: Estimate
    below_null: Estimate


def summarise_ratios(
    synthetic: Float64, null: Float64, null_patient: Int64, resamples: int, seed: int, level: float = 0.05
) -> Ratios:
    """Quantiles of :func:`distance_ratio`, and the share of synthetic images below the null's 5 % quantile (0.05).

    Synthetic quantiles have intervals by order statistics, the null's by resampling patients. The share is drawn anew
    for each resampled quantile from Jeffreys' posterior, so that a count of 0 has an upper bound too. NaN is left out.
    """
    kept = ~np.isnan(null)
    null, (patient, n_patients) = np.sort(null[kept]), _numbered(null_patient[kept][np.argsort(null[kept])])
    synthetic = np.sort(synthetic[~np.isnan(synthetic)])
    if not len(synthetic) or not len(null):
        return Ratios(*[Estimate(None, n=0, note="no other patient to compare with")] * 5)
    rng = np.random.default_rng(seed)
    times = resampled_subjects(n_patients, resamples, rng)
    draws = np.concatenate(
        [
            _resampled_quantiles(null, patient, times[first : first + _RESAMPLES_AT_ONCE], (0.5, level))
            for first in range(0, resamples, _RESAMPLES_AT_ONCE)
        ]
    )
    line = _lower_quantile(null, level)
    below, n = int(np.searchsorted(synthetic, line)), len(synthetic)
    counts = np.searchsorted(synthetic, draws[:, 1])
    share = rng.beta(counts + 0.5, n - counts + 0.5)

    def of_null(value: float, resampled: Float64) -> Estimate:
        return _with_interval(value, resampled, n_patients, n_patients, "resampling null patients", share=False)

    note = f"{level:g} without copying; over synthetic images and {n_patients} null patients"
    return Ratios(
        median=_quantile_estimate(synthetic, 0.5),
        low_quantile=_quantile_estimate(synthetic, level),
        null_median=of_null(_lower_quantile(null, 0.5), draws[:, 0]),
        null_low_quantile=of_null(line, draws[:, 1]),
        below_null=_with_interval(below / n, share, n_patients, n, note, share=False),
    )


def _lower_quantile(ordered: Float64, level: float) -> float:
    """The smallest value that a share of at least ``level`` does not exceed: the same rule for whole and resampled."""
    return float(ordered[max(0, int(np.ceil(level * len(ordered) - 1e-9)) - 1)])


def _resampled_quantiles(ordered: Float64, patient: Int64, times: Int64, levels: tuple[float, ...]) -> Float64:
    """Lower quantiles of ascending values in each resample, ``(resample, level)``."""
    held = times[:, patient].cumsum(axis=1)
    targets = [np.maximum(1, np.ceil(level * held[:, -1] - 1e-9)) for level in levels]
    return np.stack([ordered[(held < target[:, None]).sum(axis=1)] for target in targets], axis=1)


def _quantile_estimate(ordered: Float64, level: float) -> Estimate:
    """A quantile with its interval from order statistics (normal approximation of the binomial rank)."""
    n = len(ordered)
    half = 1.96 * np.sqrt(n * level * (1 - level))
    low, high = (int(np.clip(rank, 1, n)) for rank in (np.floor(n * level - half), np.ceil(n * level + half) + 1))
    return Estimate(
        _lower_quantile(ordered, level), float(ordered[low - 1]), float(ordered[high - 1]), n, "over synthetic images"
    )


# -------------------------------------------------------------------------------------------------------- membership


def membership_auc(
    train_r: Float64,
    train_patient: Int64,
    holdout_r: Float64,
    holdout_patient: Int64,
    resamples: int,
    seed: int,
    score: Literal["mean", "max"] = "mean",
) -> Estimate:
    """Can an attacker who has a patient's images tell whether the generator was trained on the patient? AUC.

    The attack scores a patient by the best r of its slices among the synthetic images, averaged over slices ("mean") or
    the largest ("max"). The mean uses all slices and does not grow with their number, as the largest does; the largest
    is the stronger attack where few slices are copied. The AUC is the probability that a training patient scores above
    a held-out one, ties half: 0.5 if membership does not show. The interval resamples patients of both sides.

    Parameters
    ----------
    train_r, holdout_r : best r of real images among the synthetic ones, ``(image,)``; their patients likewise.
    """
    trained, held = _patient_scores(train_r, train_patient, score), _patient_scores(holdout_r, holdout_patient, score)
    wins = _beats(trained[:, None], held[None, :])
    rng = np.random.default_rng(seed)
    a, b = (resampled_subjects(len(side), resamples, rng) for side in (trained, held))
    draws = ((a.astype(np.float64) @ wins) * b).sum(axis=1) / wins.size
    note = f"0.5 if membership does not show; resampling {len(trained)} training and {len(held)} held-out patients"
    fewest = min(len(trained), len(held))
    return _with_interval(float(wins.mean()), draws, fewest, len(trained) + len(held), note)


def _patient_scores(r: Float64, patient: Int64, score: Literal["mean", "max"]) -> Float64:
    number, n = _numbered(patient)
    if score == "mean":
        mean: Float64 = np.bincount(number, r) / np.bincount(number)
        return mean
    result = np.full(n, -np.inf)
    np.maximum.at(result, number, r)
    return result


# ----------------------------------------------------------------------------------------------------------- helpers


def _numbered(patient: Int64) -> tuple[Int64, int]:
    """0, 1, ... without gaps for each patient, and how many there are."""
    names, number = np.unique(patient, return_inverse=True)
    return number.astype(np.int64), len(names)


def _mid_rank(ordered: Float64, values: Float64) -> Float64:
    """How many of the ascending values lie below each, those that equal it as a half."""
    result: Float64 = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    return result


def _with_interval(value: float, draws: Float64, units: int, n: int, note: str, *, share: bool = True) -> Estimate:
    """Percentile interval; none if the smaller side has one unit.

    A share of 0 or 1 never varies in resamples. As many disjoint pairs as the smaller side has units are independent
    trials, here all with the same outcome: then the interval is Clopper-Pearson of those.
    """
    if units < 2:
        return Estimate(value, n=n, note=f"{note}; no interval from one")
    low, high = (float(bound) for bound in np.quantile(draws, (0.025, 0.975)))
    if share and value in (0.0, 1.0):
        low, high = clopper_pearson(round(value * units), units)
    return Estimate(value, min(low, value), max(high, value), n, note)
