"""The segmentation section: evaluate runs side by side, each named by what its segmenter was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthkit.data.conventions import BRATS
from synthkit.data.lineage import was_trained_on
from synthkit.report.gather import Material, RunRecord, Training, training_behind

_RESAMPLES = 2000
_MINIMUM_SUBJECTS = 3
_LOWEST_DICE = 0.1


@dataclass
class Arm:
    """One evaluate run. ``label`` is what its segmenter was trained on, made unique among the arms."""

    record: RunRecord
    training: Training | None
    label: str
    css: str

    @property
    def is_real(self) -> bool:
        return self.training is not None and self.training.kinds == {"real"}

    def score(self, name: str, **of: str) -> dict[str, Any] | None:
        return next((s for s in self.record.scores if s["name"] == name and (s.get("of") or {}) == of), None)

    def per_subject(self, name: str) -> dict[str, dict[str, float | None]]:
        """Region -> subject -> value; None where the region does not count."""
        values: dict[str, dict[str, float | None]] = {}
        for score in self.record.scores:
            of = score.get("of") or {}
            if score["name"] == name and "subject" in of and "region" in of:
                values.setdefault(of["region"], {})[of["subject"]] = score.get("value")
        return values


def is_overlap(record: RunRecord) -> bool:
    """Whether an evaluate run has scores of regions."""
    return any(s["name"] in ("dice_mean", "hd95_mean") for s in record.scores)


def section(material: Material) -> dict[str, Any] | None:
    """Tables and dot plots of all evaluate runs that scored regions; None without any."""
    records = [record for record in material.of_verb("evaluate") if is_overlap(record)]
    # Scores by different protocols are of different voxels: whole volumes are shown if there are any.
    protocol = min((_protocol(record) for record in records), default="")
    arms = _arms([record for record in records if _protocol(record) == protocol], material)
    if not arms:
        return None
    return {
        "protocol": protocol,
        "left_out": len(records) - len(arms),
        "arms": arms,
        "tables": [table for name in ("dice", "hd95") if (table := _table(name, arms))],
        "plots": [plot for name in ("dice", "hd95") if (plot := _plot(name, arms))],
        "notes": _notes(arms),
        "regions": BRATS.meanings,
    }


def _protocol(record: RunRecord) -> str:
    """Name of the evaluation protocol; empty for whole volumes."""
    return str(record.job.options.get("protocol") or "") if record.job else ""


def _arms(records: Sequence[RunRecord], material: Material) -> list[Arm]:
    arms = []
    for record in records:
        training = training_behind(record, material)
        kinds = training.kinds if training else frozenset()
        label = {
            frozenset({"real"}): "real",
            frozenset({"synthetic"}): "synthetic",
            frozenset({"real", "synthetic"}): "real + synthetic",
        }.get(kinds, "not known")
        css = {"real": "real", "synthetic": "synthetic", "real + synthetic": "both"}.get(label, "unknown")
        arms.append(Arm(record, training, label, css))
    rank = ("real", "synthetic", "both", "unknown")
    arms.sort(key=lambda arm: rank.index(arm.css))
    # Arms that would have one name: the segmenter tells them apart, else the run.
    for parts in (_segmenter_name, _run_name):
        names = Counter(arm.label for arm in arms)
        for arm in arms:
            if names[arm.label] > 1 and parts(arm) not in arm.label:
                arm.label = f"{arm.label} ({parts(arm)})"
    return arms


def _segmenter_name(arm: Arm) -> str:
    return arm.training.plugin if arm.training else _run_name(arm)


def _run_name(arm: Arm) -> str:
    return arm.record.name


def _regions(arms: Sequence[Arm], name: str) -> list[str]:
    found = {(s.get("of") or {}).get("region") for arm in arms for s in arm.record.scores if s["name"] == name}
    return [region for region in BRATS.scored if region in found]


def _table(measure: str, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Rows of one measure, an arm each, grouped by region."""
    regions = _regions(arms, f"{measure}_mean")
    if not regions:
        return None
    groups: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    for region in regions:
        rows = []
        for arm in arms:
            score = arm.score(f"{measure}_mean", region=region)
            if score is None:
                continue
            for part in str(score.get("note") or "").split("; "):
                if "HD95" in part or "EXCLUDED" in part or "perfect" in part:
                    notes[part] = None
            counts = {case: arm.score(f"n_{case}", region=region) for case in ("missed", "false", "empty")}
            rows.append(
                {
                    "arm": arm,
                    "value": score.get("value"),
                    "low": score.get("low"),
                    "high": score.get("high"),
                    "n": score.get("n"),
                    "note": score.get("note") or "",
                    **{case: None if s is None else s.get("value") for case, s in counts.items()},
                    "ratio": ratio_to_real(arm, arms, region) if measure == "dice" else None,
                }
            )
        groups.append({"region": region, "rows": rows})
    ratios = any(row["ratio"] for group in groups for row in group["rows"])
    return {
        "measure": measure,
        "title": "Dice" if measure == "dice" else "HD95 in mm",
        "groups": groups,
        "ratios": ratios,
        "notes": list(notes),
    }


# ------------------------------------------------------------------------------------------------ the ratio


def ratio_to_real(arm: Arm, arms: Sequence[Arm], region: str) -> dict[str, float | None] | None:
    """Mean Dice of an arm over that of the arm trained on real data alone, with its interval.

    None unless there is exactly one such arm of the same segmenter, both scored the same subjects, and the real mean is
    at least 0.1 (a ratio to next to nothing says nothing). The interval is the 95 % percentile bootstrap over subjects,
    drawn for both arms together, since both scored the same ones; none below three subjects.
    """
    if arm.training is None or arm.is_real:
        return None
    plugin = arm.training.plugin
    real = [other for other in arms if other.is_real and other.training and other.training.plugin == plugin]
    if len(real) != 1 or set(real[0].record.subjects) != set(arm.record.subjects):
        return None
    means = [(a.score("dice_mean", region=region) or {}).get("value") for a in (arm, real[0])]
    if means[0] is None or means[1] is None or means[1] < _LOWEST_DICE:
        return None
    low, high = _ratio_interval(arm, real[0], region)
    return {"value": means[0] / means[1], "low": low, "high": high}


def _ratio_interval(arm: Arm, real: Arm, region: str) -> tuple[float | None, float | None]:
    regions = BRATS.averaged(region)
    subjects = sorted(set(arm.record.subjects))
    tables = []
    for one in (arm, real):
        values = one.per_subject("dice")
        columns = [[values.get(name, {}).get(subject) for subject in subjects] for name in regions]
        tables.append(np.array(columns, dtype=np.float64).T)  # (subject, region), NaN where it does not count
    counted = ~np.isnan(tables[0]).all(axis=1) & ~np.isnan(tables[1]).all(axis=1)
    n = int(counted.sum())
    if n < _MINIMUM_SUBJECTS:
        return None, None
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(np.float64)
    above, below = (_resampled_means(table[counted], draws) for table in tables)
    usable = np.isfinite(above) & np.isfinite(below) & (below > 0)
    # Where the real arm fails on a notable share of resamples, the ratio has no upper end to speak of.
    if usable.mean() < 0.99:
        return None, None
    low, high = np.percentile(above[usable] / below[usable], [2.5, 97.5])
    return float(low), float(high)


def _resampled_means(values: Any, draws: Any) -> Any:
    """Mean over regions of the mean over drawn subjects, for each resample; NaN if nothing counts."""
    counted = ~np.isnan(values)
    weights = draws @ counted
    sums = draws @ np.where(counted, values, 0.0)
    columns = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    n_regions = (weights > 0).sum(axis=1)
    return np.divide(columns.sum(axis=1), n_regions, out=np.full(len(draws), np.nan), where=n_regions > 0)


# --------------------------------------------------------------------------------------------- plots and notes


def _plot(measure: str, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Lanes of dots, one subject each; positions in per cent of the axis."""
    tables = [(arm, arm.per_subject(measure)) for arm in arms]
    values = [v for _, table in tables for column in table.values() for v in column.values() if v is not None]
    if not values:
        return None
    top = 1.0 if measure == "dice" else nice_ceiling(max(values))
    groups = []
    for region in [r for r in BRATS.region_values if any(r in table for _, table in tables)]:
        lanes = []
        for arm, table in tables:
            mean = arm.score(f"{measure}_mean", region=region) or {}
            dots = [
                {"x": 100 * v / top, "title": f"{subject}: {v:.3f}" if measure == "dice" else f"{subject}: {v:.1f} mm"}
                for subject, v in table.get(region, {}).items()
                if v is not None
            ]
            ends = {key: 100 * mean[key] / top for key in ("value", "low", "high") if mean.get(key) is not None}
            lanes.append({"arm": arm, "dots": dots, "mean": ends, "n_left_out": len(table.get(region, {})) - len(dots)})
        groups.append({"region": region, "lanes": lanes})
    ticks = [{"x": 100 * i / 4, "text": f"{top * i / 4:g}"} for i in range(5)]
    return {
        "measure": measure,
        "title": "Dice" if measure == "dice" else "HD95 in mm",
        "groups": groups,
        "ticks": ticks,
    }


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 2, 4, 8 times a power of ten that is not below ``value``, so that quarters are round."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value))


def _notes(arms: Sequence[Arm]) -> list[str]:
    notes = []
    seen: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for arm in arms:
        training = arm.training.behind if arm.training else ()
        own = sorted(name for name in set(arm.record.subjects) if was_trained_on(name, training))
        if own:
            seen.setdefault((tuple(own), len(arm.record.subjects)), []).append(arm.label)
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
    if len({frozenset(arm.record.subjects) for arm in arms}) > 1:
        notes.append("The evaluations scored different subjects, so their means cannot be compared; no ratio is given.")
    return notes
