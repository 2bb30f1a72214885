"""How useful synthetic images are: scores of segmenters trained on them over scores of those trained on real ones.

An *arm* is a set of trainings that differ in their seed alone, on real, on synthetic or on both kinds of images. All
arms are scored on the same subjects, none of which any of them has learned from. For a score s (Dice, say) of training
i of an arm on subject j, the ratio is

    ratio = mean_ij s(synthetic) / mean_ij s(real),

of several regions the mean of their means.

Its interval (:mod:`synthkit.judging.intervals`) knows both sources of chance: patients, the same in both arms (the
comparison is paired), and trainings, in each arm on its own. Where either are too few there is none.

What counts is what ``evaluate`` counts, by the rules of its run, so that its means are the means here: a missed region
has Dice 0, and so has one that was found where the reference has none (as HD95 both have the diagonal of the volume);
a region that neither has is not counted. So neither missing nor inventing pays. Missed and false regions are counted
beside the means all the same (:class:`Cases`).

Every ratio that synthkit shows is of this module, and so is the mean beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from synthkit.errors import UsageError
from synthkit.judging.intervals import (
    MIN_PAIRED_PATIENTS,
    MIN_TRAININGS,
    RESAMPLES,
    SEED,
    Interval,
    arm_interval,
    means_of,
    no_interval,
    paired_intervals,
)
from synthkit.judging.overlap_tables import (
    Cases,
    Lesions,
    OverlapTable,
    cases_of,
    leaves_out,
    lesions_of,
    patients_of,
    references_of,
    regions_of_all,
    rows_of,
    subjects_of,
    values_of,
)
from synthkit.schemes import MEAN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Below this many patients an interval does not know what the real arm alone may miss; that is said.
FEW_PATIENTS = 50

#: A ratio to a score below this is a ratio to next to nothing.
LOWEST_SCORE = 0.1


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """One score of one region in two arms. Intervals are None where patients or trainings are too few.

    Attributes
    ----------
    real, synthetic : mean over trainings and subjects.
    ratio, difference : synthetic over real, synthetic minus real, with their intervals; no ratio where ``real`` is
        below :data:`LOWEST_SCORE`.
    n_patients, n_subjects, n_real, n_synthetic : patients, subjects (scans), trainings of each arm.
    """

    real: float
    synthetic: float
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    difference: float
    difference_interval: tuple[float, float] | None
    n_patients: int
    n_subjects: int
    n_real: int
    n_synthetic: int

    @property
    def interval_over(self) -> str:
        """The sources of chance in the interval of the ratio; empty where there is no interval."""
        return "" if self.ratio_interval is None else "patients and trainings"


def compare(
    real: Floats,
    synthetic: Floats,
    patients: Sequence[str],
    *,
    bounds: Interval | None = (0.0, 1.0),
    resamples: int = RESAMPLES,
    seed: int = SEED,
    lowest: float = LOWEST_SCORE,
) -> PairedComparison:
    """Ratio and difference of two arms, with their intervals. The order of trainings changes nothing.

    Parameters
    ----------
    real, synthetic : float64 ``(training, subject)`` or ``(training, subject, region)``, the same subjects in the same
        order; NaN where a score does not count, not for all of a training.
    patients : of each subject; scans of one patient are no independent subjects.
    bounds : the least and the most that a score can be; None where that is not known, and there is no interval.
    lowest : no ratio to a mean below this.

    Raises
    ------
    ValueError : no subject, no training, shapes that differ, or a value that is not finite or beyond the bounds.
    """
    import numpy as np

    real, synthetic = (np.asarray(arm, np.float64) for arm in (real, synthetic))
    real, synthetic = (arm[..., None] if arm.ndim == 2 else arm for arm in (real, synthetic))
    if real.ndim != 3 or real.shape[1:] != synthetic.shape[1:] or real.shape[1] != len(patients):
        raise ValueError(f"the arms differ in shape: {real.shape} and {synthetic.shape} for {len(patients)} subjects")
    real, synthetic = (np.asarray(arm, np.float64) for arm in (real, synthetic))
    real, synthetic = (arm[..., None] if arm.ndim == 2 else arm for arm in (real, synthetic))
    if real.ndim != 3 or real.shape[1:] != synthetic.shape[1:] or real.shape[1] != len(patients):
        raise ValueError(f"the arms differ in shape: {real.shape} and {synthetic.shape} for {len(patients)} subjects")
    for arm in (real, synthetic):
        if 0 in arm.shape or np.isinf(arm).any() or np.isnan(arm).all(axis=(1, 2)).any():
            raise ValueError("an arm is empty, or has a training without a finite value")
    counted = np.flatnonzero((~np.isnan(np.concatenate([real, synthetic]))).any(axis=(0, 2))).tolist()
    patients = [patients[number] for number in counted]
    real, synthetic = _in_order(real[:, counted]), _in_order(synthetic[:, counted])
    means = float(means_of(real).mean()), float(means_of(synthetic).mean())
    has_ratio = means[0] >= lowest
    found = bounds and paired_intervals(real, synthetic, bounds, patients, resamples=resamples, seed=seed)
    return PairedComparison(
        real=means[0],
        synthetic=means[1],
        ratio=means[1] / means[0] if has_ratio else None,
        ratio_interval=found.ratio if found and has_ratio else None,
        difference=means[1] - means[0],
        difference_interval=found.difference if found else None,
        n_patients=len(set(patients)),
        n_subjects=len(patients),
        n_real=len(real),
        n_synthetic=len(synthetic),
    )


def _in_order(arm: Floats) -> Floats:
    """Trainings by their scores, so that the order in which they were named changes no digit."""
    import numpy as np

    ordered: Floats = arm[np.lexsort(arm.reshape(len(arm), -1).T[::-1])]
    return ordered


# ------------------------------------------------------------------------------------------- what is said of a ratio


def interval_warnings(compared: Iterable[PairedComparison]) -> list[str]:
    """What the intervals of these leave open, in sentences; none where there is no ratio."""
    found = [comparison for comparison in compared if comparison.ratio is not None]
    if not found:
        return []
    said = []
    n_trainings = min(n for comparison in found for n in (comparison.n_real, comparison.n_synthetic))
    n_patients = max(comparison.n_patients for comparison in found)
    if n_trainings < MIN_TRAININGS:
        said.append(
            "An arm has one training: its ratio has no interval, since nobody knows how much its trainings differ by "
            f"chance. Train each arm with at least {MIN_TRAININGS} seeds."
        )
    with_interval = [comparison for comparison in found if comparison.ratio_interval is not None]
    if why := no_interval(n_patients, MIN_PAIRED_PATIENTS):
        said.append(f"{why.replace('no interval', 'no interval of a ratio')}.")
    elif not said and len(with_interval) < len(found):
        said.append(
            f"A ratio without interval is of a score that counts for fewer than {MIN_PAIRED_PATIENTS} patients in an "
            "arm, or of a distance in a table that does not say how long it can be."
        )
    if with_interval and n_patients < FEW_PATIENTS:
        said.append(
            f"{n_patients} patients: the upper ends of the intervals are too low if the real arm alone misses patients "
            "of a kind that is not among these."
        )
    return said


def sentence(item: ArmComparison, images: str = "synthetic") -> str:
    """What a paper would write of one region; ``images`` are what the other arm was trained on."""
    found, region = item.comparison, "the mean of labels" if item.region == MEAN else item.region
    arms = f"{_trainings(found.n_synthetic)} on {images} and {_trainings(found.n_real)} on real images"
    who = f"{found.n_patients} held-out patient{'s' * (found.n_patients != 1)}"
    text = (
        f"Trained on {images} images, the segmenter reached a mean {item.score} of {found.synthetic:.3f} for "
        f"{region}, against {found.real:.3f} trained on real images"
    )
    if found.ratio is not None:
        text += f": a ratio of {found.ratio:.3f}"
        if found.ratio_interval is not None:
            text += f" (95 % interval {found.ratio_interval[0]:.3f} to {found.ratio_interval[1]:.3f})"
    text += f"; {who}, {arms}."
    false, false_real = (0.0 if cases is None else cases.n_false for cases in (item.cases, item.cases_real))
    if item.cases is not None and (false or false_real):
        text += (
            f" What was found where the reference has none counts as 0: {false:.1f} of {item.cases.n_without} regions, "
            f"against {false_real:.1f} trained on real images."
        )
    return text


def partings(items: Sequence[ArmComparison]) -> list[str]:
    """Where the ratios of one arm by voxels and by lesions part, in sentences: a region each."""
    ratios = {(item.region, item.score): item.comparison.ratio for item in items}
    said = []
    for item in items:
        dice, own = ratios.get((item.region, "Dice")), item.comparison.ratio
        if item.lesions is None or item.lesions_real is None or dice is None or own is None:
            continue
        if abs(dice - own) <= PARTING:
            continue
        more_false = item.lesions.n_false - item.lesions_real.n_false
        more_missed = item.lesions.n_missed - item.lesions_real.n_missed
        why = "false islands" if more_false >= more_missed else "missed lesions"
        said.append(
            f"{item.region}: Dice {dice:.2f} of real, lesion-wise {own:.2f}"
            + (f": {why}" if own < dice and max(more_false, more_missed) > 0 else "")
            + f" ({item.lesions.n_false:.1f} false and {item.lesions.n_missed:.1f} missed lesions, against "
            f"{item.lesions_real.n_false:.1f} and {item.lesions_real.n_missed:.1f} trained on real images)."
        )
    return said


def _trainings(n: int) -> str:
    return f"{n} training{'s' * (n != 1)}"


# ---------------------------------------------------------------------------------------- from tables of scores to arms

#: Columns of the table ``overlap``, what the score is called, and the least mean that supports a ratio.
SCORES = (
    ("dice", "Dice", LOWEST_SCORE),
    ("lesion_dice", "lesion-wise Dice", LOWEST_SCORE),
    ("lesion_f1", "lesion F1", LOWEST_SCORE),
    ("surface_dice", "NSD", LOWEST_SCORE),
    ("hd95_pooled_mm", "HD95 (mm)", 0.1),
)
BY_LESION = "lesion-wise Dice"
#: The file in which ``synthkit utility`` says what it found.
UTILITY = "utility.json"
#: Ratios by voxels and by lesions that differ by more than this are said to part.
PARTING = 0.1
#: Columns that every row has which has Dice.
WITH_DICE = ("hd95_pooled_mm", "surface_dice")
#: The column with the most that a distance can be: what a missed region counts.
DIAGONAL = "diagonal_mm"


@dataclass(frozen=True)
class ArmComparison:
    """A region's score in two arms, with the cases of the second and of the real arm (Dice), or their lesions."""

    region: str
    score: str
    comparison: PairedComparison
    cases: Cases | None = None
    cases_real: Cases | None = None
    lesions: Lesions | None = None
    lesions_real: Lesions | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat: every interval as two numbers."""
        data = {"region": self.region, "score": self.score, **asdict(self.comparison)}
        for name in ("ratio", "difference"):
            low, high = data.pop(f"{name}_interval") or (None, None)
            data |= {f"{name}_low": low, f"{name}_high": high}
        if self.cases is not None:
            data |= asdict(self.cases)
        if self.cases_real is not None:
            data |= {"n_missed_real": self.cases_real.n_missed, "n_false_real": self.cases_real.n_false}
        for arm, lesions in (("", self.lesions), ("_real", self.lesions_real)):
            if lesions is not None:
                data |= {f"lesions_missed{arm}": lesions.n_missed, f"lesions_false{arm}": lesions.n_false}
        return data


@dataclass(frozen=True, kw_only=True)
class ArmMean:
    """One score of one region in one arm, over the subjects for whom it counts.

    Attributes
    ----------
    mean, sd : over trainings and subjects; standard deviation between trainings (n - 1), None for a single one.
    interval : 95 %, over patients and trainings, of a single training over patients; None where it was not asked for,
        below :data:`~synthkit.judging.intervals.MIN_PATIENTS` patients, and where the trainings were scored on
        different subjects.
    n_subjects : for whom it counts in any training.
    """

    mean: float
    sd: float | None
    interval: tuple[float, float] | None
    n_subjects: int
    n_trainings: int


def mean_of_arm(tables: Sequence[OverlapTable], region: str, column: str, *, resamples: int = 0) -> ArmMean | None:
    """Mean of a column of an arm, a table a training; ``resamples`` above 0 for its interval.

    None where a training has no number that counts, and for distances of which some are left out (:func:`leaves_out`).
    """
    import numpy as np

    names = sorted({name for table in tables for name in subjects_of(table)})
    arm = _arm(tables, region, column, names)
    if arm is None:
        return None
    counted = np.flatnonzero((~np.isnan(arm)).any(axis=(0, 2))).tolist()
    arm = _in_order(arm[:, counted])
    means = means_of(arm)
    patients = patients_of(tables, [names[number] for number in counted])
    alike = all(subjects_of(table) == names for table in tables)
    between, bounds = None, _bounds(tables, region, column)
    if resamples and bounds and alike:
        between = arm_interval(arm, bounds, patients, resamples=resamples)
    return ArmMean(
        mean=float(means.mean()),
        sd=statistics.stdev(means.tolist()) if len(means) > 1 else None,
        interval=between,
        n_subjects=len(patients),
        n_trainings=len(tables),
    )


def _arm(tables: Sequence[OverlapTable], region: str, column: str, subjects: Sequence[str]) -> Floats | None:
    if column in WITH_DICE and any(leaves_out(table, region, column) for table in tables):
        return None
    return values_of(tables, region, column, subjects)


def _bounds(tables: Iterable[OverlapTable], region: str, column: str) -> Interval | None:
    """The least and the most that the column can be; None for a distance in a table that does not say."""
    if column != "hd95_pooled_mm":
        return 0.0, 1.0
    diagonals = [row.get(DIAGONAL) for table in tables for row in rows_of(table, region).values() if row.get(column)]
    return (0.0, max(float(d) for d in diagonals if d)) if diagonals and all(diagonals) else None


def compared_arms(
    real: Sequence[OverlapTable], other: Sequence[OverlapTable], *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[ArmComparison]:
    """Every region that all tables have, and every score, of two arms, a table a training, all of the same subjects.

    Segmenters of different labels have different regions; the mean is compared where it is over the same ones in all.

    A distance that a training lacks for a subject (``hausdorff_one_empty="exclude"``) is not compared.

    Raises :class:`UsageError` where a table lacks a subject of the others, or where references differ.
    """
    every = (*real, *other)
    names = subjects_of(every[0])
    if any(subjects_of(table) != names for table in every):
        raise UsageError("The trainings were scored on different subjects.", fix="Score all on the same.")
    found = []
    for region in regions_of_all(every):
        if len({references_of(table, region) for table in every}) > 1:
            raise UsageError(
                "The trainings were scored on different references.",
                f"{region} is there for some subjects in one and not in another.",
                "Score all on the same.",
            )
        for column, score, lowest in SCORES:
            arms = _arm(real, region, column, names), _arm(other, region, column, names)
            if arms[0] is None or arms[1] is None:
                continue
            bounds, patients = _bounds(every, region, column), patients_of(every, names)
            result = compare(arms[0], arms[1], patients, bounds=bounds, resamples=resamples, seed=seed, lowest=lowest)
            cases = (cases_of(other, region), cases_of(real, region)) if score == "Dice" else (None, None)
            lesions = (lesions_of(other, region), lesions_of(real, region)) if score == BY_LESION else (None, None)
            found.append(ArmComparison(region, score, result, *cases, *lesions))
    return found
