"""The segmentation section: evaluate runs side by side, each named by what its segmenter was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthkit.data.lineage import was_trained_on
from synthkit.judging.arms import ArmComparison, interval_warnings, partings
from synthkit.report.gather import Material, RunRecord
from synthkit.report.segmenter_arms import MEASURES, Arm, Compared, arms_of, compared_with_real, measures_of
from synthkit.schemes import MEAN, Scheme

#: Notes of scores that a reader has to know hold one of these.
_WORDS = ("HD95", "border", "lesions by", "EXCLUDED", "perfect")
_MEANS = frozenset(f"{measure}_mean" for measure in MEASURES)


def is_overlap(record: RunRecord) -> bool:
    """Whether an evaluate run has scores of regions."""
    return any(s["name"] in _MEANS for s in record.scores)


def section(material: Material, notes: list[str]) -> dict[str, Any] | None:
    """Tables and dot plots of all evaluate runs that scored regions; None without any.

    ``notes`` takes what cannot be shown.
    """
    records = [record for record in material.of_verb("evaluate") if is_overlap(record)]
    # Scores by different protocols are of different voxels: whole volumes are shown if there are any.
    protocol = min((_protocol(record) for record in records), default="")
    arms = arms_of([record for record in records if _protocol(record) == protocol], material, notes)
    if not arms:
        return None
    banners = _notes(arms)
    compared = [compared_with_real(arm, arms, banners) for arm in arms]
    measures = measures_of(arms)
    return {
        "protocol": protocol,
        "left_out": sum(_protocol(record) != protocol for record in records),
        "arms": arms,
        "tables": [table for name in measures if (table := _table(name, arms, compared))],
        "plots": [plot for name in measures if (plot := _plot(name, arms))],
        "notes": list(dict.fromkeys(banners)),
        "partings": [text for found in compared for text in partings(list(found.values()))],
        "warnings": interval_warnings(item.comparison for found in compared for item in found.values()),
        "regions": _meanings(arms),
    }


def _protocol(record: RunRecord) -> str:
    """Name of the evaluation protocol; empty for whole volumes."""
    return str(record.job.options.get("protocol") or "") if record.job else ""


def _regions(arms: Sequence[Arm], name: str) -> list[str]:
    """In the order of the scores, which is that of their scheme; the mean last."""
    found = [(s.get("of") or {}).get("region") for a in arms for r in a.records for s in r.scores if s["name"] == name]
    regions = dict.fromkeys(region for region in found if region not in (None, MEAN))
    return [*regions, *([MEAN] if MEAN in found else [])]


def _meanings(arms: Sequence[Arm]) -> dict[str, str]:
    """What regions mean, as the runs say that scored them; of several schemes, the first one that has a region."""
    found: dict[str, str] = {}
    for record in (record for arm in arms for record in arm.records):
        try:
            found = {**Scheme.from_dict((record.result or {})["scheme"]).meanings, **found}
        except (KeyError, ValueError):  # from before schemes were recorded
            continue
    return found


def _table(measure: str, arms: Sequence[Arm], compared: Sequence[Compared]) -> dict[str, Any] | None:
    """Rows of one measure, an arm each, grouped by region."""
    regions = _regions(arms, f"{measure}_mean")
    if not regions:
        return None
    title, _, score_name, _ = MEASURES[measure]
    groups: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    for region in regions:
        rows = []
        for arm, found in zip(arms, compared, strict=True):
            scores = arm.scores(f"{measure}_mean", region)
            if not scores:
                continue
            for part in (part for score in scores for part in str(score.get("note") or "").split("; ")):
                if any(word in part for word in _WORDS):
                    notes[part] = None
            rows.append(_row(arm, measure, region, found.get((region, score_name))))
        groups.append({"region": region, "rows": rows})
    every = [row for group in groups for row in group["rows"]]
    digits = 1 if measure == "hd95" else 3
    return {
        "measure": measure,
        "title": title,
        "digits": digits,
        "groups": groups,
        "ratios": any(row["ratio"] for row in every),
        # Shown where it is another number than the mean that the ratio is of.
        "as_scored": any(_printed(row["scored"], digits) != _printed(row["value"], digits) for row in every),
        "notes": list(notes),
    }


def _row(arm: Arm, measure: str, region: str, compared: ArmComparison | None) -> dict[str, Any]:
    mean, cases = arm.mean(measure, region), arm.cases(region)
    low, high = (mean.interval if mean else None) or (None, None)
    ratio = None
    if compared is not None and compared.comparison.ratio is not None:
        ends = compared.comparison.ratio_interval or (None, None)
        ratio = {"value": compared.comparison.ratio, "low": ends[0], "high": ends[1]}
    return {
        "arm": arm,
        "value": mean.mean if mean else None,
        "low": low,
        "high": high,
        "n": mean.n_subjects if mean else None,
        "missed": cases.n_missed if cases else None,
        "false": cases.n_false if cases else None,
        "without": cases.n_without if cases else None,
        "n_trainings": arm.n_trainings,
        "scored": arm.scored(measure, region),
        "ratio": ratio,
    }


def false_of(row: Mapping[str, Any]) -> str:
    """ "2.0 of 3": regions that were found, of those that the reference lacks; empty where that is not known."""
    return "" if row["false"] is None else f"{row['false']:.1f} of {row['without']}"


def _printed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


# --------------------------------------------------------------------------------------------- plots and notes


def _plot(measure: str, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Lanes of dots, one subject each; positions in per cent of the axis."""
    tables = [(arm, arm.per_subject(measure)) for arm in arms]
    values = [v for _, table in tables for column in table.values() for _, v, _ in column if v is not None]
    if not values:
        return None
    top = 1.0 if measure != "hd95" else nice_ceiling(max(values))
    groups = []
    for region in dict.fromkeys(region for _, table in tables for region in table):
        lanes = []
        for arm, table in tables:
            dots = [
                {"x": 100 * v / top, "title": _of_subject(subject, v, measure, false), "false": false}
                for subject, v, false in table.get(region, [])
                if v is not None
            ]
            lanes.append({"arm": arm, "dots": dots, "mean": _ends(arm, measure, region, top)})
        groups.append({"region": region, "lanes": lanes})
    ticks = [{"x": 100 * i / 4, "text": f"{top * i / 4:g}"} for i in range(5)]
    return {
        "measure": measure,
        "title": MEASURES[measure][0],
        "groups": groups,
        "ticks": ticks,
    }


def _of_subject(subject: str, value: float, measure: str, false: bool) -> str:
    text = f"{subject}: {value:.3f}" if measure != "hd95" else f"{subject}: {value:.1f} mm"
    return f"{text}, false: the reference has no such region" if false else text


def _ends(arm: Arm, measure: str, region: str, top: float) -> dict[str, float]:
    """The mean of the table and its interval; the mean as scored where that is all there is."""
    mean = arm.mean(measure, region)
    value, interval = (mean.mean, mean.interval) if mean else (arm.scored(measure, region), None)
    ends = {"value": value, "low": interval[0] if interval else None, "high": interval[1] if interval else None}
    return {key: 100 * end / top for key, end in ends.items() if end is not None}


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 2, 4, 8 times a power of ten that is not below ``value``, so that quarters are round."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value))


def _notes(arms: Sequence[Arm]) -> list[str]:
    notes = []
    seen: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for arm in arms:
        training = arm.training.behind if arm.training else ()
        own = sorted(name for name in set(arm.subjects) if was_trained_on(name, training))
        if own:
            seen.setdefault((tuple(own), len(arm.subjects)), []).append(arm.label)
        if arm.training is None:
            notes.append(
                f"Trained on {arm.label}: the segmenter's training data cannot be traced, because its predictions or "
                "its checkpoint are not where they were."
            )
    for (names, n), labels in seen.items():
        notes.append(
            f"Trained on {'; '.join(labels)}: {len(names)} of {n} scored subjects were trained on, directly or through "
            f"a generator ({', '.join(names[:5])}{' and others' if len(names) > 5 else ''}). Their scores say nothing "
            "about new patients."
        )
    if len({frozenset(arm.subjects) for arm in arms}) > 1:
        notes.append(
            "The evaluations scored different subjects, so their means cannot be compared; there is no ratio of these."
        )
    return notes
