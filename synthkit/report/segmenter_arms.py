"""Evaluate runs as arms: trainings that differ in their seed alone stand together, named by what they learned from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from synthkit.errors import SynthkitError
from synthkit.judging.arms import ArmComparison, ArmMean, compared_arms, mean_of_arm
from synthkit.judging.comparable import Training, find_differences
from synthkit.judging.intervals import RESAMPLES
from synthkit.judging.learning import still_learning
from synthkit.judging.overlap_tables import Cases, OverlapTable, cases_of, joined, read_overlap
from synthkit.report.gather import DAMAGE, Material, RunRecord, TrainedOn, sentence, training_behind
from synthkit.running.run import EVENTS

#: What a measure is called, its column in the table ``overlap``, its name among the scores of an arm, and its metric.
MEASURES = {
    "dice": ("Dice", "dice", "Dice", "dice"),
    "lesion_dice": ("lesion-wise Dice", "lesion_dice", "lesion-wise Dice", "lesion-dice"),
    "lesion_f1": ("lesion F1", "lesion_f1", "lesion F1", "lesion-f1"),
    "surface_dice": ("NSD (surface Dice)", "surface_dice", "NSD", "surface-dice"),
    "hd95": ("HD95 in mm", "hd95_pooled_mm", "HD95 (mm)", "hausdorff"),
}
_RANK = ("real", "synthetic", "both", "unknown")


@dataclass
class Arm:
    """Evaluate runs of trainings that differ in their seed alone, of the same subjects.

    Attributes
    ----------
    training, trainings : what is known of the first, and of each of which something is.
    label : what they were trained on, made unique among the arms.
    tables : of each run its scores by subject; empty where a run has none.
    """

    records: list[RunRecord]
    training: TrainedOn | None
    tables: list[OverlapTable]
    label: str
    css: str
    trainings: list[TrainedOn] = field(default_factory=list)

    @property
    def is_real(self) -> bool:
        return self.training is not None and self.training.kinds == {"real"}

    @property
    def subjects(self) -> tuple[str, ...]:
        return self.records[0].subjects

    @property
    def n_trainings(self) -> int:
        return len(self.records)

    def mean(self, measure: str, region: str) -> ArmMean | None:
        """What a ratio is of; None without tables, and for a distance by another rule than theirs."""
        if not self.tables or (measure == "hd95" and not self._pooled):
            return None
        return mean_of_arm(self.tables, region, MEASURES[measure][1], resamples=RESAMPLES)

    @property
    def _pooled(self) -> bool:
        return all(r.job is None or r.job.params.get("hausdorff_rule", "pooled") == "pooled" for r in self.records)

    def cases(self, region: str) -> Cases | None:
        return cases_of(self.tables, region) if self.tables else None

    def scores(self, name: str, region: str) -> list[dict[str, Any]]:
        """The score of each run for a region over all subjects."""
        return [s for r in self.records for s in r.scores if s["name"] == name and s.get("of") == {"region": region}]

    def scored(self, measure: str, region: str) -> float | None:
        """The mean as ``evaluate`` gives it, by its own rules; over trainings."""
        values = [s.get("value") for s in self.scores(f"{measure}_mean", region)]
        known = [float(value) for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def per_subject(self, name: str) -> dict[str, list[tuple[str, float | None, bool]]]:
        """Region -> subject, value (None where it does not count) and whether the region is false, of every run."""
        found: dict[str, list[tuple[str, float | None, bool]]] = {}
        tables = self.tables or [{} for _ in self.records]
        for record, table in zip(self.records, tables, strict=True):
            for score in record.scores:
                of = score.get("of") or {}
                if score["name"] == name and "subject" in of and "region" in of:
                    false = table.get((of["subject"], of["region"]), {}).get("case") == "false"
                    found.setdefault(of["region"], []).append((of["subject"], score.get("value"), false))
        return found


def arms_of(records: Sequence[RunRecord], material: Material, notes: list[str]) -> list[Arm]:
    """The arms among evaluate runs, real ones first; ``notes`` takes what could not be read."""
    arms: dict[str, Arm] = {}
    seen: Counter[str] = Counter()
    for record, training in _once(records, material):
        key = _alike(record, training)
        if training is not None:
            # The same model scored again, with other scores, is not another training.
            scored = f"{key} {training.checkpoint}"
            key = f"{key} {seen[scored]}"
            seen[scored] += 1
        if key in arms:
            arms[key].records.append(record)
        else:
            arms[key] = Arm([record], training, [], *_named(training))
        arms[key].trainings += [training] if training is not None else []
    found = sorted(arms.values(), key=lambda arm: _RANK.index(arm.css))
    for arm in found:
        arm.tables = _tables(arm, notes)
    # Arms that would have one name: the segmenter tells them apart, else the run.
    for part in (_segmenter_name, _run_name):
        names = Counter(arm.label for arm in found)
        for arm in found:
            if names[arm.label] > 1 and part(arm) not in arm.label:
                arm.label = f"{arm.label} ({part(arm)})"
    return found


def _once(records: Sequence[RunRecord], material: Material) -> list[tuple[RunRecord, TrainedOn | None]]:
    """Evaluate runs and what is behind them; those of one model that do not disagree on its subjects are one."""
    found: list[tuple[RunRecord, TrainedOn | None]] = []
    for record in records:
        training = training_behind(record, material)
        for number, (other, known) in enumerate(found):
            if known and training and known.checkpoint == training.checkpoint and _scored_alike(other, record):
                found[number] = _together(other, record), known
                break
        else:
            found.append((record, training))
    return found


def _scored_alike(one: RunRecord, two: RunRecord) -> bool:
    """Whether two runs give the same subjects the same scores by the same rules, as far as both were asked for them."""
    try:
        return _rules(one) == _rules(two) and joined(_table_of(one), read_overlap(two.run.path)) is not None
    except DAMAGE:
        return False


def _rules(record: RunRecord) -> tuple[Any, ...]:
    if record.job is None:
        raise KeyError
    params = {name: value for name, value in record.job.params.items() if name not in ("resamples", "seed")}
    return params, record.job.options.get("protocol"), set(record.subjects)


def _together(one: RunRecord, two: RunRecord) -> RunRecord:
    """The first run with the scores that only the second was asked for."""
    assert one.job is not None and two.job is not None
    plugins = tuple(dict.fromkeys([*one.job.plugins, *two.job.plugins]))
    known = [(s["name"], s.get("of")) for s in one.scores]
    scores = [*one.scores, *(s for s in two.scores if (s["name"], s.get("of")) not in known)]
    result = {**(one.result or {}), "scores": scores}
    return replace(one, job=replace(one.job, plugins=plugins), result=result, also=(*one.also, two.run))


def _segmenter_name(arm: Arm) -> str:
    return arm.training.plugin if arm.training else _run_name(arm)


def _run_name(arm: Arm) -> str:
    return arm.records[0].name


def _alike(record: RunRecord, training: TrainedOn | None) -> str:
    """Equal for evaluations of one kind whose trainings differ in their seed alone."""
    try:
        if training is None or record.job is None:
            raise KeyError
        settings = Training(record.name, training.metadata).settings
        data = sorted(str(item.get("digest")) for item in training.datasets)
        how = [record.job.plugins, record.job.params, record.job.options.get("protocol")]
        return json.dumps([settings, data, sorted(set(record.subjects)), how], sort_keys=True, default=str)
    except DAMAGE:
        return record.name


def _named(training: TrainedOn | None) -> tuple[str, str]:
    """Label, and class of the colour."""
    kinds = training.kinds if training else frozenset()
    return {
        frozenset({"real"}): ("real", "real"),
        frozenset({"synthetic"}): ("synthetic", "synthetic"),
        frozenset({"real", "synthetic"}): ("real + synthetic", "both"),
    }.get(kinds, ("not known", "unknown"))


def _tables(arm: Arm, notes: list[str]) -> list[OverlapTable]:
    try:
        tables = [_table_of(record) for record in arm.records]
        for table in tables:
            cases_of([table], "mean")  # a damaged table shows here
        return tables
    except DAMAGE as error:
        names = ", ".join(record.name for record in arm.records)
        notes.append(f"Scores by subject of {names} cannot be read, so there is no ratio: {sentence(error)}")
        return []


def _table_of(record: RunRecord) -> OverlapTable:
    """The scores by subject of a run, and of those that scored the same."""
    table = read_overlap(record.run.path)
    for run in record.also:
        table = joined(table, read_overlap(run.path)) or table
    return table


def measures_of(arms: Sequence[Arm]) -> list[str]:
    """In the order in which the runs were asked for them."""
    asked = [metric for arm in arms for record in arm.records if record.job for metric in record.job.plugins]
    order = {metric: number for number, metric in reversed(list(enumerate(asked)))}
    return sorted(MEASURES, key=lambda measure: order.get(MEASURES[measure][3], len(asked)))


# ------------------------------------------------------------------------------------------------------ the ratio


Compared = dict[tuple[str, str], ArmComparison]


def compared_with_real(arm: Arm, arms: Sequence[Arm], notes: list[str]) -> Compared:
    """By region and score, an arm beside the one that was trained on real images alone; empty if that is not known.

    It is the one of the same segmenter and subjects; of several, the one with the same settings.
    """
    if arm.training is None or arm.is_real or not arm.tables:
        return {}
    plugin = arm.training.plugin
    real = [
        other for other in arms
        if other.is_real and other.training and other.training.plugin == plugin and other.tables
        and set(other.subjects) == set(arm.subjects)
    ]  # fmt: skip
    if len(real) > 1:
        real = [other for other in real if not differences(other, arm)]
    if len(real) != 1:
        return {}
    if texts := _scored_otherwise(real[0], arm):
        notes.append(f"Trained on {arm.label}: there is no ratio, the arms were scored otherwise: {'; '.join(texts)}.")
        return {}
    try:
        compared = {(item.region, item.score): item for item in compared_arms(real[0].tables, arm.tables)}
    except SynthkitError as error:
        notes.append(f"Trained on {arm.label}: there is no ratio. {sentence(error)}")
        return {}
    notes += [f"The arms differ in more than their images: {text}" for text in differences(real[0], arm)]
    notes += _still_learning(real[0], arm)
    return compared


def _still_learning(*arms: Arm) -> list[str]:
    """Trainings that had not ended learning, and those of which that is not known, in sentences."""
    every = [(arm.label, number, one) for arm in arms for number, one in enumerate(arm.trainings, 1)]
    return still_learning(
        {f"{label}, training {number}": one.checkpoint.parents[1] / EVENTS for label, number, one in every}
    )


def _scored_otherwise(real: Arm, arm: Arm) -> list[str]:
    """Settings of ``evaluate`` in which two arms differ, in words: their columns are not the same numbers."""
    params = [record.job.params if record.job else {} for record in (real.records[0], arm.records[0])]
    names = sorted({*params[0], *params[1]} - {"resamples", "seed"})
    values = [(name, *(one.get(name, "not recorded") for one in params)) for name in names]
    return [f"{name} is {a} in {real.label} and {b} in {arm.label}" for name, a, b in values if a != b]


def differences(real: Arm, arm: Arm) -> list[str]:
    """Settings besides data and seed in which two arms differ, in sentences."""
    trainings = [Training(a.label, a.training.metadata) for a in (real, arm) if a.training is not None]
    try:
        return [text for _, text in find_differences(trainings)]
    except DAMAGE:  # a checkpoint of another version may lack a setting
        return []
