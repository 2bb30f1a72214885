"""Lesion-wise Dice, HD95, surface Dice and F1 of each subject, and their means over subjects.

What is decided by the rules of a challenge (:mod:`synthkit_overlap.lesion_rules`), and written into the notes:

* A missed lesion of the reference and a false one of the prediction have Dice and surface Dice 0 and the penalty as
  HD95; a subject's score is the mean over all its lesions. Lesions of the reference that are too small do not count.
* Without a lesion that counts on either side, a subject's score is perfect: 1, HD95 0, as in the challenges, unless
  ``lesion_both_empty="exclude"``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from synthkit import Row, Score
from synthkit.schemes import MEAN, enumerated
from synthkit_overlap import Params
from synthkit_overlap.comparison import diagonal_mm
from synthkit_overlap.lesion_rules import RULES
from synthkit_overlap.lesions import Lesion, LesionScores, Wanted, lesion_scores, lesions_by_region
from synthkit_overlap.pairing import LabelPair
from synthkit_overlap.regions import Regions
from synthkit_overlap.summaries import summary

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCORES = {
    "lesion-dice": ("lesion_dice",),
    "lesion-hd95": ("lesion_hd95",),
    "lesion-nsd": ("lesion_nsd", "lesion_nsd_strict"),
    "lesion-f1": ("lesion_f1",),
}
_CASES = ("found", "missed", "false", "small")


class LesionsOfSubjects:
    """The lesions of one subject after another, for those of the metrics asked for that are by lesion."""

    def __init__(self, metrics: Sequence[str], regions: Regions, params: Params) -> None:
        self._names = [name for metric in metrics for name in _SCORES.get(metric, ())]
        self._regions, self._params = regions, params
        self._rules = RULES[params.lesion_rules]
        strict = "lesion-nsd" in metrics
        tolerances = (params.lesion_tolerance_mm, params.lesion_strict_tolerance_mm) if strict else ()
        self._wanted = Wanted(hd95="lesion-hd95" in metrics, tolerances_mm=tolerances)
        self._subjects: list[str] = []
        self._found: list[dict[str, LesionScores]] = []
        self._most_mm = self._rules.penalty_mm or 0.0

    def columns(self, region: str) -> dict[str, float | int | None]:
        """What the table ``overlap`` has of the subject that was added last: None of what was not asked for."""
        found = self._found[-1][region] if self._found else None
        names = ("lesion_dice", "lesion_nsd", "lesion_f1")
        values: dict[str, float | int | None] = {
            name: self._value(name, found) if found and name in self._names else None for name in names
        }
        values["lesions_missed"], values["lesions_false"] = (found.missed, found.false) if found else (None, None)
        return values

    def add(self, subject: str, pair: LabelPair) -> Iterator[Score | Row]:
        """The rows of a subject's lesions, and its scores; nothing if no metric is by lesion."""
        if not self._names:
            return
        ours, theirs = ({region: values[side] for region, values in self._regions.values.items()} for side in (0, 1))
        lesions = lesions_by_region(*pair, ours, theirs, self._rules, self._wanted)
        scores = {region: lesion_scores(found, self._rules, self._wanted) for region, found in lesions.items()}
        self._subjects.append(subject)
        self._found.append(scores)
        # A penalty in voxels is a distance like another: the widest that any can be is the longer of the diagonals.
        diagonals = (diagonal_mm(pair.reference.shape, spacing) for spacing in (pair.spacing_mm, (1.0, 1.0, 1.0)))
        self._most_mm = max(self._most_mm, *diagonals)
        for region, found in lesions.items():
            for number, lesion in enumerate(found, start=1):
                yield _row(subject, region, number, lesion)
            for name in self._names:
                note = self._of_subject(scores[region])
                value = self._value(name, scores[region])
                yield Score(name=name, value=value, of={"subject": subject, "region": region}, note=note)

    def over_subjects(self, notes: Sequence[str]) -> Iterator[Score]:
        """The means of all subjects that were added, ``notes`` among theirs, and how many lesions there were."""
        for name in self._names:
            columns = {region: self._column(name, region) for region in self._regions.names}
            for region, values in columns.items():
                note = "; ".join((*self._conventions(name, [region]), *notes))
                yield from self._summary(name, region, values[:, None], note)
            yield from self._mean(name, notes)
        if self._names:
            for region in (*self._regions.names, MEAN):
                yield from self._counts(region)

    def _mean(self, name: str, notes: Sequence[str]) -> Iterator[Score]:
        """Of the regions that the scheme averages."""
        members = self._regions.mean_of
        if not members:
            why = f"none of {enumerated(self._regions.reference.mean_of)} is scored"
            yield Score(name=f"{name}_mean", value=None, of={"region": MEAN}, n=0, note="; ".join((why, *notes)))
            yield Score(name=f"{name}_std", value=None, of={"region": MEAN}, n=0, note=why)
            return
        columns = [self._column(name, region) for region in members]
        counted = [region for region, column in zip(members, columns, strict=True) if not np.isnan(column).all()]
        parts = [f"mean of the means of {', '.join(counted)}"] if counted else []
        parts += [f"no subject counts for {region}" for region in members if region not in counted]
        note = "; ".join((*parts, *self._conventions(name, members), *notes))
        yield from self._summary(name, MEAN, np.stack(columns, axis=1), note)

    def _summary(self, name: str, region: str, values: NDArray[np.float64], note: str) -> Iterator[Score]:
        most = self._most_mm if name == "lesion_hd95" else 1.0
        return summary(name, region, values, note, self._params, subjects=self._subjects, most=most)

    def _column(self, name: str, region: str) -> NDArray[np.float64]:
        values = (self._value(name, scores[region]) for scores in self._found)
        return np.array([np.nan if value is None else value for value in values])

    def _value(self, name: str, scores: LesionScores) -> float | None:
        if scores.empty and self._params.lesion_both_empty == "exclude":
            return None
        if name == "lesion_hd95":
            return scores.hd95_mm
        if name in _SCORES["lesion-nsd"]:
            return scores.nsd[_SCORES["lesion-nsd"].index(name)]
        return scores.dice if name == "lesion_dice" else scores.f1

    # ---------------------------------------------------------------------------------------------- in words

    def _of_subject(self, scores: LesionScores) -> str:
        if scores.empty:
            counted = "counted as perfect" if self._params.lesion_both_empty == "perfect" else "not counted"
            small = f", {scores.small} too small to count" if scores.small else ""
            return f"no lesion on either side{small}: {counted}"
        return ", ".join(f"{getattr(scores, case)} {case}" for case in _CASES if getattr(scores, case))

    def _conventions(self, name: str, regions: Sequence[str]) -> list[str]:
        """What a mean rests on, and how many lesions and subjects each convention touched."""
        of = [scores[region] for scores in self._found for region in regions]
        missed, false, small = (sum(getattr(scores, case) for scores in of) for case in ("missed", "false", "small"))
        empty = sum(scores.empty for scores in of)
        parts = [f"lesions by the rules {self._params.lesion_rules}"]
        if name == "lesion_hd95":
            parts.append("95th percentile over surface elements (surface-distance)")
        elif name in _SCORES["lesion-nsd"]:
            tolerance = self._wanted.tolerances_mm[_SCORES["lesion-nsd"].index(name)]
            parts.append(f"mean of the shares of both borders within {tolerance:g} mm (nnU-Net)")
        if name == "lesion_f1":
            parts.append(f"{missed} missed, {false} false")
        else:
            free = false if not self._rules.false_count else 0
            if missed + false - free:
                parts.append(f"{missed + false - free} missed or false counted as {self._worst(name)}")
            if free:
                parts.append(f"{free} false NOT counted by these rules: they lower F1 alone")
        if small:
            parts.append(f"{small} of the reference too small to count")
        if empty:
            perfect = self._params.lesion_both_empty == "perfect"
            parts.append(f"{empty} without a lesion on either side {'perfect' if perfect else 'not counted'}")
        return parts

    def _worst(self, name: str) -> str:
        if name != "lesion_hd95":
            return "0"
        return "the diagonal of the volume" if self._rules.penalty_mm is None else f"{self._rules.penalty_mm:g} mm"

    def _counts(self, region: str) -> Iterator[Score]:
        """How many lesions of each case all subjects have."""
        of = self._regions.mean_of if region == MEAN else (region,)
        note = ""
        if region == MEAN:
            note = f"summed over {', '.join(of)}" if of else "no region of the mean is scored"
        for case in _CASES:
            total = sum(getattr(scores[member], case) for scores in self._found for member in of)
            yield Score(name=f"lesions_{case}", value=total, of={"region": region}, n=len(self._found), note=note)


def _row(subject: str, region: str, number: int, lesion: Lesion) -> Row:
    nsd = lesion.nsd or (None, None)
    return Row(
        table="lesions",
        values={
            "subject": subject,
            "region": region,
            "lesion": number,
            "reference_voxels": lesion.reference_voxels,
            "prediction_voxels": lesion.prediction_voxels,
            "dice": lesion.dice,
            "hd95_mm": lesion.hd95_mm,
            "nsd": nsd[0],
            "nsd_strict": nsd[1],
            "case": lesion.case,
        },
    )
