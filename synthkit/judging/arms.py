"""How useful synthetic images are: scores of segmenters trained on them over scores of those trained on real ones.

An *arm* is a set of trainings that differ in their seed alone, on real, on synthetic or on both kinds of images. All
arms are scored on the same subjects, none of which any of them has learned from. For a score s (Dice, say) of training
i of an arm on subject j, the ratio is

    ratio = mean_ij s(synthetic) / mean_ij s(real).

Its interval (:mod:`synthkit.judging.intervals`) knows both sources of chance: patients, the same in both arms (the
comparison is paired), and trainings, in each arm on its own. Where either are too few there is none.

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
from synthkit.judging.intervals import (
    MIN_PAIRED_PATIENTS,
    MIN_TRAININGS,
    RESAMPLES,
    SEED,
    Interval,
    arm_interval,
    no_interval,
    paired_intervals,
)
from synthkit.judging.overlap_tables import OverlapTable, counted_rows, patients_of, regions_of_all, rows_of, values_of

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
    real, synthetic : float64 ``(training, subject)``, the same subjects in the same order; finite.
    patients : of each subject; scans of one patient are no independent subjects.
    bounds : the least and the most that a score can be; None where that is not known, and there is no interval.
    lowest : no ratio to a mean below this.

    Raises
    ------
    ValueError : no subject, no training, shapes that differ, or a value that is not finite or beyond the bounds.
    """
    import numpy as np

    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    if real.ndim != 2 or real.shape[1:] != synthetic.shape[1:] or real.shape[1] != len(patients):
        raise ValueError(f"the arms differ in shape: {real.shape} and {synthetic.shape} for {len(patients)} subjects")
    if 0 in (*real.shape, *synthetic.shape) or not (np.isfinite(real).all() and np.isfinite(synthetic).all()):
        raise ValueError("an arm is empty or has values that are not finite")
    real, synthetic = _in_order(real), _in_order(synthetic)
    means = float(real.mean()), float(synthetic.mean())
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

    ordered: Floats = arm[np.lexsort(arm.T[::-1])]
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
    if why := no_interval(n_patients, MIN_PAIRED_PATIENTS):
        said.append(f"{why.replace('no interval', 'no interval of a ratio')}.")
    elif n_patients < FEW_PATIENTS and any(comparison.ratio_interval is not None for comparison in found):
        said.append(
            f"{n_patients} patients: the upper ends of the intervals are too low if the real arm alone misses patients "
            "of a kind that is not among these."
        )
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

#: The column of that table with the most that a distance can be: what a missed region counts.
DIAGONAL = "diagonal_mm"


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
    interval : 95 %, over patients and trainings, of a single training over patients; None where it was not asked for,
        below :data:`~synthkit.judging.intervals.MIN_PATIENTS` patients, and where the trainings were scored on
        different subjects.
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
    names, between, bounds = sorted(scored[0]), None, _bounds(tables, region, column)
    if resamples and bounds and all(values.keys() == scored[0].keys() for values in scored):
        arm = _in_order(np.array([[values[name] for name in names] for values in scored]))
        between = arm_interval(arm, bounds, patients_of(tables, names), resamples=resamples)
    return ArmMean(
        mean=statistics.fmean(means),
        sd=statistics.stdev(means) if len(means) > 1 else None,
        interval=between,
        n_subjects=len(names),
        n_trainings=len(tables),
    )


def _bounds(tables: Iterable[OverlapTable], region: str, column: str) -> Interval | None:
    """The least and the most that the column can be; None for a distance in a table that does not say."""
    if column != "hd95_pooled_mm":
        return 0.0, 1.0
    diagonals = [row.get(DIAGONAL) for table in tables for row in counted_rows(table, region).values()]
    return (0.0, max(float(d) for d in diagonals if d)) if diagonals and all(diagonals) else None


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
            bounds, patients = _bounds((*real, *other), region, column), patients_of([*real, *other], names)
            result = compare(one, two, patients, bounds=bounds, resamples=resamples, seed=seed, lowest=lowest)
            cases = (cases_of(other, region), cases_of(real, region)) if score == "Dice" else (None, None)
            found.append(ArmComparison(region, score, result, *cases))
    return found
