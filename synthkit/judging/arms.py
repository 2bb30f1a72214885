"""How useful synthetic images are: scores of segmenters trained on them over scores of those trained on real ones.

An *arm* is a set of trainings that differ in their seed alone, on real, on synthetic or on both kinds of images. All
arms are scored on the same subjects, none of which any of them has learned from. For a score s (Dice, say) of training
i of an arm on subject j, the ratio is

    ratio = mean_ij s(synthetic) / mean_ij s(real),

of several regions the mean of their means.

Its interval resamples both sources of chance: patients, the same in both arms (the comparison is paired), and
trainings, in each arm on its own (Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 8).

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
from synthkit.judging.bootstrap import in_order, interval, means_of, resampled
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
    subjects_of,
    values_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Below these numbers the interval of a ratio says little; it is given all the same, with a warning.
FEW_PATIENTS, FEW_TRAININGS = 10, 3

#: A ratio to a score below this is a ratio to next to nothing.
LOWEST_SCORE = 0.1

#: Resamples of an interval, and their seed: the same on all pages, so that these agree to the last digit.
RESAMPLES, SEED = 10_000, 0

#: A mean of a resample below this share of the arm's own is nothing. Where the real arm has nothing and the other
#: something, the ratio is as good as infinite: with more than this share of such resamples, its interval would have no
#: upper end. Where neither has anything there is no ratio, and the resample is left out.
_NOTHING, _MOST_INFINITE = 1e-6, 0.01


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """One score of one region in two arms. Intervals are None where there is but one patient.

    Attributes
    ----------
    real, synthetic : mean over trainings and subjects.
    ratio, difference : synthetic over real, synthetic minus real, with their intervals; no ratio where ``real`` is
        below :data:`LOWEST_SCORE`, and no interval of it where it is infinite in more than 1 % of the resamples.
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
        """The sources of chance in the interval of the ratio; empty where there is no interval.

        Resampling a single training gives that training: chance between trainings is then no part of the interval.
        """
        if self.ratio_interval is None:
            return ""
        several = [n > 1 for n in (self.n_real, self.n_synthetic)]
        if all(several):
            return "patients and trainings"
        return "patients and trainings of one arm" if any(several) else "patients alone"


def compare(
    real: Floats,
    synthetic: Floats,
    patients: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    confidence: float = 0.95,
    lowest: float = LOWEST_SCORE,
) -> PairedComparison:
    """Ratio and difference of two arms, with percentile intervals of a paired bootstrap.

    Percentiles of resamples need not hold the value itself. They miss it by rounding where all resamples agree; a
    search over 70,000 pairs of very unequal arms of 2 to 24 patients found no other case. An interval is drawn out to
    the value all the same, so it always holds it. The order of trainings changes nothing.

    Parameters
    ----------
    real, synthetic : float64 ``(training, subject)`` or ``(training, subject, region)``, the same subjects in the same
        order; NaN where a score does not count, not for all of a training.
    patients : of each subject; scans of one patient are drawn together.
    lowest : no ratio to a mean below this.

    Raises
    ------
    ValueError : no subject, no training, shapes that differ, or a value that is not finite.
    """
    import numpy as np

    real, synthetic = (np.asarray(arm, np.float64) for arm in (real, synthetic))
    real, synthetic = (arm[..., None] if arm.ndim == 2 else arm for arm in (real, synthetic))
    if real.ndim != 3 or real.shape[1:] != synthetic.shape[1:] or real.shape[1] != len(patients):
        raise ValueError(f"the arms differ in shape: {real.shape} and {synthetic.shape} for {len(patients)} subjects")
    for arm in (real, synthetic):
        if 0 in arm.shape or np.isinf(arm).any() or np.isnan(arm).all(axis=(1, 2)).any():
            raise ValueError("an arm is empty, or has a training without a finite value")
    counted = np.flatnonzero((~np.isnan(np.concatenate([real, synthetic]))).any(axis=(0, 2))).tolist()
    patients = [patients[number] for number in counted]
    real, synthetic = in_order(real[:, counted]), in_order(synthetic[:, counted])
    means = float(means_of(real).mean()), float(means_of(synthetic).mean())
    ratio = means[1] / means[0] if means[0] >= lowest else None
    ratio_interval = difference_interval = None
    n_patients = len(set(patients))
    if n_patients > 1:
        drawn = resampled((real, synthetic), patients, resamples, seed)
        usable, other = (arm > _NOTHING * mean for arm, mean in zip(drawn, means, strict=True))
        if ratio is not None and (other & ~usable).mean() <= _MOST_INFINITE:
            ratio_interval = interval(drawn[1][usable] / drawn[0][usable], ratio, confidence)
        difference_interval = interval(drawn[1] - drawn[0], means[1] - means[0], confidence)
    return PairedComparison(
        real=means[0],
        synthetic=means[1],
        ratio=ratio,
        ratio_interval=ratio_interval,
        difference=means[1] - means[0],
        difference_interval=difference_interval,
        n_patients=n_patients,
        n_subjects=len(patients),
        n_real=len(real),
        n_synthetic=len(synthetic),
    )


# ------------------------------------------------------------------------------------------- what is said of a ratio


def interval_warnings(compared: Iterable[PairedComparison]) -> list[str]:
    """What the intervals of these leave open, in sentences; none where there is no ratio."""
    found = [comparison for comparison in compared if comparison.ratio is not None]
    if not found:
        return []
    said = []
    numbers = {n for comparison in found for n in (comparison.n_real, comparison.n_synthetic)}
    if numbers == {1}:
        said.append(
            "One training an arm: intervals are over patients alone, and how much trainings differ by chance is not in "
            "them."
        )
    elif 1 in numbers:
        said.append("Some arms have one training: how much theirs differ by chance is not in the intervals.")
    elif min(numbers) < FEW_TRAININGS:
        said.append(
            f"Some arms have fewer than {FEW_TRAININGS} trainings: how much these differ by chance is hardly in the "
            "intervals."
        )
    n_patients = max(comparison.n_patients for comparison in found)
    if n_patients == 1:
        said.append("One patient: there is no interval.")
    elif n_patients < FEW_PATIENTS:
        said.append(f"{n_patients} patients: the intervals are too uncertain to rest a claim on.")
    return said


def sentence(item: ArmComparison) -> str:
    """What a paper would write of one region."""
    found = item.comparison
    arms = f"{_trainings(found.n_synthetic)} on synthetic and {_trainings(found.n_real)} on real images"
    who = f"{found.n_patients} held-out patient{'s' * (found.n_patients != 1)}"
    text = (
        f"Trained on synthetic images, the segmenter reached a mean {item.score} of {found.synthetic:.3f} for "
        f"{item.region}, against {found.real:.3f} trained on real images"
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
#: Ratios by voxels and by lesions that differ by more than this are said to part.
PARTING = 0.1
#: Columns that every row has which has Dice.
WITH_DICE = ("hd95_pooled_mm", "surface_dice")


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
    interval : 95 %, over patients and trainings; None where it was not asked for, for a single patient, and where the
        trainings were scored on different subjects.
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
    arm = in_order(arm[:, counted])
    means = means_of(arm)
    mean, between = float(means.mean()), None
    patients = patients_of(tables, [names[number] for number in counted])
    alike = all(subjects_of(table) == names for table in tables)
    if resamples and len(set(patients)) > 1 and alike:
        between = interval(resampled([arm], patients, resamples, SEED)[0], mean)
    return ArmMean(
        mean=mean,
        sd=statistics.stdev(means.tolist()) if len(means) > 1 else None,
        interval=between,
        n_subjects=len(patients),
        n_trainings=len(tables),
    )


def _arm(tables: Sequence[OverlapTable], region: str, column: str, subjects: Sequence[str]) -> Floats | None:
    if column in WITH_DICE and any(leaves_out(table, region, column) for table in tables):
        return None
    return values_of(tables, region, column, subjects)


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
            arms = [_arm(tables, region, column, names) for tables in (real, other)]
            if arms[0] is None or arms[1] is None:
                continue
            result = compare(arms[0], arms[1], patients_of(every, names), resamples=resamples, seed=seed, lowest=lowest)
            cases = (cases_of(other, region), cases_of(real, region)) if score == "Dice" else (None, None)
            lesions = (lesions_of(other, region), lesions_of(real, region)) if score == BY_LESION else (None, None)
            found.append(ArmComparison(region, score, result, *cases, *lesions))
    return found
