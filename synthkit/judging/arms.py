"""How useful synthetic images are: scores of segmenters trained on them over scores of those trained on real ones.

An *arm* is a set of trainings that differ in their seed alone, on real, on synthetic or on both kinds of images. All
arms are scored on the same subjects, none of which any of them has learned from. For a score s (Dice, say) of training
i of an arm on subject j, the ratio is

    ratio = mean_ij s(synthetic) / mean_ij s(real).

Its interval resamples both sources of chance: patients, the same in both arms (the comparison is paired), and
trainings, in each arm on its own (Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 8).

Only subjects whose reference has the region count: there a missed region has Dice 0, and HD95 the diagonal of the
volume, so missing never pays. Regions found where the reference has none are counted apart (``n_false``).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.data.conventions import BRATS, MEAN
from synthkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Below these numbers the interval of a ratio says little; it is given all the same, with a warning.
FEW_PATIENTS, FEW_TRAININGS = 10, 3

#: A ratio to a score below this is a ratio to next to nothing.
LOWEST_SCORE = 0.1


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One score of one region in two arms. Intervals are None where there is but one patient.

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


def compare(
    real: Floats,
    synthetic: Floats,
    patients: Sequence[str],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
    lowest: float = LOWEST_SCORE,
) -> Comparison:
    """Ratio and difference of two arms, with percentile intervals of a paired bootstrap.

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
    number = np.unique(patients, return_inverse=True)[1]
    n_patients = int(number.max()) + 1
    means = float(real.mean()), float(synthetic.mean())
    ratio = means[1] / means[0] if means[0] >= lowest else None
    ratio_interval = difference_interval = None
    if n_patients > 1:
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(n_patients, np.full(n_patients, 1 / n_patients), size=resamples)[:, number]
        weights = weights / weights.sum(axis=1, keepdims=True)
        drawn = [_means(arm, weights, rng) for arm in (real, synthetic)]
        ends = [50 * (1 - confidence), 50 * (1 + confidence)]
        if ratio is not None:
            # A resample of patients that all score next to nothing has no ratio; it is left out.
            usable = drawn[0] > 0
            low, high = np.percentile(drawn[1][usable] / drawn[0][usable], ends)
            ratio_interval = float(low), float(high)
        low, high = np.percentile(drawn[1] - drawn[0], ends)
        difference_interval = float(low), float(high)
    return Comparison(
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


def _means(arm: Floats, weights: Floats, rng: np.random.Generator) -> Floats:
    """Mean of each resample, of subjects by ``weights`` and of trainings drawn with replacement."""
    n = len(arm)
    trainings = rng.multinomial(n, [1 / n] * n, size=len(weights)) / n
    result: Floats = ((trainings @ arm) * weights).sum(axis=1)
    return result


# ------------------------------------------------------------------------------------------- comparable arms


@dataclass(frozen=True)
class Training:
    """What must be alike in all trainings of a comparison: notes of a checkpoint (``synthkit.json``)."""

    name: str
    metadata: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """By the name that allows a difference: segmenter, contrasts, size, protocol, each parameter but the seed.

        A budget in passes over the data is as large as the data: then their number is a setting too.
        """
        params = {key: value for key, value in self.metadata["params"].items() if key != "seed"}
        if params.get("epochs"):
            params["n_samples"] = sum(entry["n_samples"] for entry in self.metadata["training_datasets"])
        contrasts = params.pop("contrasts", None) or list(self.metadata["contrasts"])
        return {
            "segmenter": self.metadata["plugin"],
            "contrasts": list(contrasts),
            "size": list(self.metadata["size"]),
            "protocol": dict(self.metadata.get("protocol") or {}),
            **params,
        }


def check_comparable(trainings: Sequence[Training], allowed: Sequence[str] = ()) -> list[str]:
    """Refuse trainings that differ in anything but their data and seed.

    Returns
    -------
    a sentence for each difference that ``allowed`` names.

    Raises
    ------
    UsageError : a difference that is not allowed, or an allowed name that nothing has.
    """
    names = list(dict.fromkeys(key for training in trainings for key in training.settings))
    if unknown := sorted(set(allowed) - set(names)):
        raise UsageError(
            f"There is nothing called {', '.join(unknown)} to differ in.",
            f"The trainings have {', '.join(names)}.",
            "Correct --allow-different.",
        )
    differences = find_differences(trainings)
    if refused := [(name, text) for name, text in differences if name not in allowed]:
        raise UsageError(
            "The trainings cannot be compared.",
            " ".join(text for _, text in refused[:5]),
            "Train every arm with the same settings, or name what may differ: "
            + " ".join(f"--allow-different {name}" for name, _ in refused)
            + ".",
        )
    return [text for _, text in differences]


def find_differences(trainings: Sequence[Training]) -> list[tuple[str, str]]:
    """Settings in which trainings differ from the first: their name and a sentence, once each."""
    names = dict.fromkeys(key for training in trainings for key in training.settings)
    found = []
    for name in names:
        mine = trainings[0].settings.get(name)
        for training in trainings[1:]:
            other = training.settings.get(name)
            if mine != other:
                found.append((name, f"{name} is {mine} in {trainings[0].name} and {other} in {training.name}."))
                break
    return found


def sentence(region: str, score: str, found: Comparison) -> str:
    """What a paper would write of one region."""
    arms = f"{_trainings(found.n_synthetic)} on synthetic and {_trainings(found.n_real)} on real images"
    who = f"{found.n_patients} held-out patient{'s' * (found.n_patients != 1)}"
    text = (
        f"Trained on synthetic images, the segmenter reached a mean {score} of {found.synthetic:.3f} for {region}, "
        f"against {found.real:.3f} trained on real images"
    )
    if found.ratio is not None:
        text += f": a ratio of {found.ratio:.3f}"
        if found.ratio_interval is not None:
            text += f" (95 % interval {found.ratio_interval[0]:.3f} to {found.ratio_interval[1]:.3f})"
    return f"{text}; {who}, {arms}."


def _trainings(n: int) -> str:
    return f"{n} training{'s' * (n != 1)}"


# ---------------------------------------------------------------------------------------- from tables of scores to arms

#: The table ``overlap`` of a run of ``evaluate``: rows by subject and region, as text.
OverlapTable = Mapping[tuple[str, str], Mapping[str, str]]
OVERLAP_TABLE = "overlap.csv"

#: Columns of that table, what the score is called, and the least mean that supports a ratio.
SCORES = (("dice", "Dice", LOWEST_SCORE), ("hd95_pooled_mm", "HD95 (mm)", 0.1))


@dataclass(frozen=True)
class ArmComparison:
    """A region's score in two arms; ``n_missed`` and ``n_false`` of the second (Dice only), means over trainings."""

    region: str
    score: str
    comparison: Comparison
    n_missed: float | None = None
    n_false: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat: every interval as two numbers."""
        data = {"region": self.region, "score": self.score, **asdict(self.comparison)}
        for name in ("ratio", "difference"):
            low, high = data.pop(f"{name}_interval") or (None, None)
            data |= {f"{name}_low": low, f"{name}_high": high}
        counts = {"n_missed": self.n_missed, "n_false": self.n_false}
        return {**data, **{name: value for name, value in counts.items() if value is not None}}


def read_overlap(run: Path) -> OverlapTable:
    """The table ``overlap`` of a run of ``evaluate``."""
    with (run / "outputs" / OVERLAP_TABLE).open(newline="", encoding="utf-8") as file:
        return {(row["subject"], row["region"]): row for row in csv.DictReader(file)}


def regions_of(table: OverlapTable) -> list[str]:
    """Regions in the order of the table, and :data:`MEAN`: of those of its regions that a reference has."""
    return [*dict.fromkeys(region for _, region in table), MEAN]


def values_of(table: OverlapTable, region: str, column: str) -> dict[str, float]:
    """Score of each subject whose reference has the region."""
    found: dict[str, list[float]] = {}
    for (subject, _), row in _counted(table, region).items():
        if row.get(column):
            found.setdefault(subject, []).append(float(row[column]))
    return {subject: sum(values) / len(values) for subject, values in found.items()}


def _counted(table: OverlapTable, region: str) -> OverlapTable:
    """Rows of the region, or of those behind :data:`MEAN`, where the reference has it."""
    names = BRATS.averaged(region)
    return {key: row for key, row in table.items() if key[1] in names and int(row["reference_voxels"])}


def count_cases(tables: Sequence[OverlapTable], region: str, case: str) -> float:
    """Mean over trainings of the number of subjects whose region was "missed", or is "false"."""
    names = BRATS.averaged(region)
    return sum(row["case"] == case for table in tables for (_, name), row in table.items() if name in names) / len(
        tables
    )


def compared_arms(
    real: Sequence[OverlapTable], other: Sequence[OverlapTable], *, resamples: int = 10_000, seed: int = 0
) -> list[ArmComparison]:
    """Every region and score of two arms, a table a training, all of the same subjects.

    A distance that a training lacks for a subject (``hausdorff_one_empty="exclude"``) is not compared.

    Raises :class:`UsageError` where a table lacks a subject of the others, or where references differ.
    """
    import numpy as np

    from synthkit.data.splits import patient_of

    subjects = {frozenset(subject for subject, _ in table) for table in (*real, *other)}
    if len(subjects) > 1:
        raise UsageError("The trainings were scored on different subjects.", fix="Score all on the same.")
    found = []
    for region in regions_of(real[0]):
        counted = [_counted(table, region) for table in (*real, *other)]
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
            patients = [patient_of(name) for name in names]
            result = compare(one, two, patients, resamples=resamples, seed=seed, lowest=lowest)
            counts = {f"n_{case}": count_cases(other, region, case) for case in ("missed", "false")}
            found.append(ArmComparison(region, score, result, **(counts if score == "Dice" else {})))
    return found
