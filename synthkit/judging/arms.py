"""How useful synthetic images are: scores of segmenters trained on them over scores of those trained on real ones.

An *arm* is a set of trainings that differ in their seed alone, on real, on synthetic or on both kinds of images. All
arms are scored on the same subjects, none of which any of them has learned from. For a score s (Dice, say) of training
i of an arm on subject j, the ratio is

    ratio = mean_ij s(synthetic) / mean_ij s(real).

Its interval resamples both sources of chance: patients, the same in both arms (the comparison is paired), and
trainings, in each arm on its own (Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 8).

Only subjects whose reference has the region count: there a missed region has Dice 0, and HD95 the diagonal of the
volume, so missing never pays. Regions found where the reference has none cannot be scored so: Dice would be 0 for a
single stray voxel and undefined without it. They are counted apart (``n_false``), and whoever shows a ratio shows them
beside it.

Every ratio that synthkit shows is of this module, and so is the mean beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from synthkit.errors import UsageError
from synthkit.judging.bootstrap import in_order, interval, resampled
from synthkit.judging.overlap_tables import OverlapTable, counted_rows, patients_of, regions_of_all, rows_of, values_of

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
    real, synthetic : float64 ``(training, subject)``, the same subjects in the same order; finite.
    patients : of each subject; scans of one patient are drawn together.
    lowest : no ratio to a mean below this.

    Raises
    ------
    ValueError : no subject, no training, shapes that differ, or a value that is not finite.
    """
    import numpy as np

    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    if real.ndim != 2 or real.shape[1:] != synthetic.shape[1:] or real.shape[1] != len(patients):
        raise ValueError(f"the arms differ in shape: {real.shape} and {synthetic.shape} for {len(patients)} subjects")
    if 0 in (*real.shape, *synthetic.shape) or not (np.isfinite(real).all() and np.isfinite(synthetic).all()):
        raise ValueError("an arm is empty or has values that are not finite")
    real, synthetic = in_order(real), in_order(synthetic)
    means = float(real.mean()), float(synthetic.mean())
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
            f" These means leave out what was found where the reference has none: {false:.1f} of "
            f"{item.cases.n_without} regions, against {false_real:.1f} trained on real images."
        )
    return text


def _trainings(n: int) -> str:
    return f"{n} training{'s' * (n != 1)}"


# ---------------------------------------------------------------------------------------- from tables of scores to arms

#: Columns of the table ``overlap``, what the score is called, and the least mean that supports a ratio.
SCORES = (("dice", "Dice", LOWEST_SCORE), ("hd95_pooled_mm", "HD95 (mm)", 0.1))


@dataclass(frozen=True)
class Cases:
    """Regions that a mean does not tell of, as means over the trainings of an arm; of "mean", summed over its labels.

    Attributes
    ----------
    n_missed : there in the reference, and not predicted at all; these count in the mean, with the worst score.
    n_false : predicted, and not there in the reference; these are not in the mean.
    n_without : subjects whose reference lacks the region: those that can be false.
    """

    n_missed: float
    n_false: float
    n_without: int


@dataclass(frozen=True)
class ArmComparison:
    """A region's score in two arms, with the cases of the second and of the real arm (Dice only)."""

    region: str
    score: str
    comparison: PairedComparison
    cases: Cases | None = None
    cases_real: Cases | None = None

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
        return data


@dataclass(frozen=True, kw_only=True)
class ArmMean:
    """One score of one region in one arm, over the subjects whose reference has the region.

    Attributes
    ----------
    mean, sd : over trainings and subjects; standard deviation between trainings (n - 1), None for a single one.
    interval : 95 %, over patients and trainings; None where it was not asked for, for a single patient, and where the
        trainings were scored on different subjects.
    n_subjects : of the first training.
    """

    mean: float
    sd: float | None
    interval: tuple[float, float] | None
    n_subjects: int
    n_trainings: int


def cases_of(tables: Sequence[OverlapTable], region: str) -> Cases:
    """Missed and false regions of an arm, a table a training."""
    rows = [row for table in tables for row in rows_of(table, region).values()]
    n_missed, n_false = (sum(row["case"] == case for row in rows) / len(tables) for case in ("missed", "false"))
    return Cases(n_missed, n_false, len(rows_of(tables[0], region)) - len(counted_rows(tables[0], region)))


def mean_of_arm(tables: Sequence[OverlapTable], region: str, column: str, *, resamples: int = 0) -> ArmMean | None:
    """Mean of a column of an arm, a table a training; ``resamples`` above 0 for its interval.

    None where no reference has the region, and where a row has Dice and not this score: a protocol leaves distances of
    missed regions out, and a mean of the others would reward missing.
    """
    import numpy as np

    for table in tables:
        if any(row.get("dice") and not row.get(column) for row in counted_rows(table, region).values()):
            return None
    scored = [values_of(table, region, column) for table in tables]
    if not all(scored):
        return None
    means = [statistics.fmean(values.values()) for values in scored]
    names, mean, between = sorted(scored[0]), statistics.fmean(means), None
    patients = patients_of(tables, names)
    if resamples and len(set(patients)) > 1 and all(values.keys() == scored[0].keys() for values in scored):
        arm = in_order(np.array([[values[name] for name in names] for values in scored]))
        between = interval(resampled([arm], patients, resamples, SEED)[0], mean)
    return ArmMean(
        mean=mean,
        sd=statistics.stdev(means) if len(means) > 1 else None,
        interval=between,
        n_subjects=len(names),
        n_trainings=len(tables),
    )


def compared_arms(
    real: Sequence[OverlapTable], other: Sequence[OverlapTable], *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[ArmComparison]:
    """Every region that all tables have, and every score, of two arms, a table a training, all of the same subjects.

    Segmenters of different labels have different regions; the mean is compared where it is over the same ones in all.

    A distance that a training lacks for a subject (``hausdorff_one_empty="exclude"``) is not compared.

    Raises :class:`UsageError` where a table lacks a subject of the others, or where references differ.
    """
    import numpy as np

    subjects = {frozenset(subject for subject, _ in table) for table in (*real, *other)}
    if len(subjects) > 1:
        raise UsageError("The trainings were scored on different subjects.", fix="Score all on the same.")
    found = []
    for region in regions_of_all([*real, *other]):
        counted = [counted_rows(table, region) for table in (*real, *other)]
        if any(rows.keys() != counted[0].keys() for rows in counted):
            raise UsageError(
                "The trainings were scored on different references.",
                f"{region} is there for some subjects in one and not in another.",
                "Score all on the same.",
            )
        names = sorted({subject for subject, _ in counted[0]})
        for column, score, lowest in SCORES:
            # Where distances of missed regions are left out, a mean of the others would reward missing.
            if not names or not all(row.get(column) for rows in counted for row in rows.values()):
                continue
            arms = [[values_of(table, region, column) for table in tables] for tables in (real, other)]
            one, two = (np.array([[values[name] for name in names] for values in arm]) for arm in arms)
            result = compare(
                one, two, patients_of([*real, *other], names), resamples=resamples, seed=seed, lowest=lowest
            )
            cases = (cases_of(other, region), cases_of(real, region)) if score == "Dice" else (None, None)
            found.append(ArmComparison(region, score, result, *cases))
    return found
