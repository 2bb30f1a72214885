"""The numbers of an audit, each beside its interval and what would be seen without any copying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthkit.judging.audit_scores import ScoreDict
from synthkit.report.audit.tables import RULES, Column
from synthkit.report.wording import count, number, words


@dataclass(frozen=True)
class Line:
    """A row of the table of numbers: what the score says, and its baseline: a score of the run, a number, or none."""

    name: str
    text: str
    baseline: str | float | None = None


#: Scores of the whole dataset, in groups. Where ``of`` is not empty, each of its values has a row.
GROUPS: dict[str, tuple[Line, ...]] = {
    "Copies": (
        Line("n_flagged", "flagged synthetic images"),
        Line("flagged_rate", "share of flagged images", "explained_flag_rate"),
        Line("n_copies", "copies of training images"),
        Line("n_identical", "identical up to brightness and contrast"),
        Line("n_copied_subjects", "training subjects that copies match"),
        Line("n_memorized_subjects", "training subjects that flagged images match"),
        Line("n_feature_flagged", "flagged by features of a network; in no other number"),
        Line("feature_flagged_rate", "share of them"),
    ),
    "Closer to the training set than held-out images": (
        Line("closer_to_train", "share closer to training than to as many held-out images", 0.5),
        Line("closer_than_holdout", "probability of being nearer to training than a held-out image", 0.5),
        Line("c_t", "C_T of the distances, far below 0 is copying", 0.0),
        Line("distance_ratio", "distance to the best match over that to another patient", "null_distance_ratio"),
        Line("low_ratio_rate", "share of images with a ratio below the 5 % quantile of real images", 0.05),
        Line("authenticity", "share farther from their match than that is from other training images"),
        Line("authenticity_other_patients", "the same, from training images of other patients"),
        Line("membership_auc", "telling training patients from held-out ones (AUC)", 0.5),
    ),
    "Near-duplicates among the synthetic images": (
        Line("n_near_duplicates", "images with another one above the threshold"),
        Line("near_duplicate_rate", "their share", "near_duplicate_baseline"),
        Line("n_distinct", "groups that near-duplicates join, single images included"),
    ),
}
_SEARCHED = {
    "n_synthetic": "synthetic images",
    "n_blank": "blank ones among them, which do not count as searched",
    "n_train": "training images",
    "n_holdout": "held-out images",
    "n_null": "real images behind the thresholds",
    "n_null_subjects": "subjects behind the thresholds",
    "false_flag_rate": "false-flag rate asked for",
    "explained_flag_rate": "share of unrelated real images flagged",
    "null_flag_rate": "share of real images flagged by thresholds of other subjects",
    "control_flag_rate": "share of synthetic images flagged among subjects never seen",
    "control_floor": "what of that more synthetic images would leave",
    "smoothness_gain": "rise of the null by images as smooth as the synthetic ones",
}
BY_COLUMN = {
    "n_flagged": "flagged",
    "flagged_rate": "share",
    "threshold": "threshold of r",
    "best_r_median": "median best r, synthetic",
    "null_median": "median best r, unrelated real",
    "null_max": "largest, unrelated real",
}
_TAILS = {"best_r_quantile": "synthetic", "null_quantile": "unrelated real"}


def whole(scores: Sequence[ScoreDict]) -> dict[str, ScoreDict]:
    """Scores of the whole dataset by name."""
    return {str(score["name"]): score for score in scores if not score.get("of")}


def column_of(score: ScoreDict) -> Column | None:
    """Of a score of one view: the view and the rule. None of any other."""
    of = score.get("of") or {}
    if "contrast" not in of or set(of) - {"contrast", "rule"}:
        return None
    return str(of["contrast"]), str(of.get("rule") or "pearson")


def is_shown(score: ScoreDict) -> bool:
    """Whether one of the tables of this module shows the score."""
    name, of = score["name"], score.get("of") or {}
    lines = {line.name for group in GROUPS.values() for line in group}
    baselines = {line.baseline for group in GROUPS.values() for line in group}
    if name == "power":
        return {"planted", "strength"} <= set(of)
    if column_of(score):
        return name in BY_COLUMN
    if name in _TAILS:
        return {"contrast", "quantile"} <= set(of)
    return "contrast" not in of and (name in lines or name in baselines or name in _SEARCHED)


# --------------------------------------------------------------------------------------------------- what was searched


def searched(scores: Sequence[ScoreDict], columns: Sequence[Column]) -> list[str]:
    """What was compared with what, in sentences."""
    known = whole(scores)
    n_synthetic, n_train = (_value(known, name) for name in ("n_synthetic", "n_train"))
    sentences = []
    if n_synthetic is not None and n_train is not None:
        patients = f" of {count(int(known['n_train']['n']), 'patient')}" if known["n_train"].get("n") else ""
        sentences.append(
            f"{count(int(n_synthetic), 'synthetic image')}{_blank(known)} were compared with each of "
            f"{count(int(n_train), 'training image')}{patients}."
        )
    views = list(dict.fromkeys(view for view, _ in columns))
    rules = [f"{rule} ({RULES[rule]})" if rule in RULES else rule for rule in rules_of(columns)]
    if views:
        joint = "; joint is all contrasts as one image" if "joint" in views else ""
        sentences.append(f"Views: {words(views)}{joint}. Compared by Pearson r over {words(rules)}.")
    n_null = _value(known, "n_null")
    if n_null:
        kind = known["n_null"].get("note") or "real images"
        patients = f" of {count(int(known['n_null']['n']), 'patient')}" if known["n_null"].get("n") else ""
        sentences.append(f"The thresholds rest on {count(int(n_null), 'real image')}{patients}: {kind}.")
    else:
        sentences.append("There are no thresholds: no real images could be compared with those of other patients.")
    return sentences


def _blank(known: Mapping[str, ScoreDict]) -> str:
    blank = _value(known, "n_blank")
    return f" ({int(blank):,} of them blank, which do not count as searched)" if blank else ""


def searched_lines(scores: Sequence[ScoreDict]) -> list[dict[str, Any]]:
    known = whole(scores)
    return [{"text": text, "score": known[name], "baseline": ""} for name, text in _SEARCHED.items() if name in known]


def rules_of(columns: Sequence[Column]) -> list[str]:
    """The rules, ours first."""
    found = {rule: None for _, rule in columns}
    return [*(rule for rule in RULES if rule in found), *(rule for rule in found if rule not in RULES)]


# -------------------------------------------------------------------------------------------------------- key numbers


def groups(scores: Sequence[ScoreDict]) -> list[dict[str, Any]]:
    """Groups of rows ``{"text", "score", "baseline"}``; only those that the run has."""
    result = []
    for title, lines in GROUPS.items():
        rows = [row for line in lines for row in _rows(line, scores)]
        if rows:
            result.append({"title": title, "rows": rows})
    return result


def _rows(line: Line, scores: Sequence[ScoreDict]) -> list[dict[str, Any]]:
    own = [s for s in scores if s["name"] == line.name and "contrast" not in (s.get("of") or {})]
    return [
        {"text": _text(line, score), "score": score, "baseline": _baseline(line, score, scores)}
        for score in own
        if score.get("value") is not None or score.get("note")
    ]


def _text(line: Line, score: ScoreDict) -> str:
    of = score.get("of") or {}
    return ", ".join([line.text, *(f"{key} {value}" for key, value in of.items())])


def _baseline(line: Line, score: ScoreDict, scores: Sequence[ScoreDict]) -> str:
    if not isinstance(line.baseline, str):
        return "" if line.baseline is None else f"{line.baseline:g}"
    own = score.get("of") or {}
    found = next((s for s in scores if s["name"] == line.baseline and (s.get("of") or {}) == own), None)
    return "" if found is None else number(found.get("value"), 4)


def _value(known: Mapping[str, ScoreDict], name: str) -> Any:
    return known.get(name, {}).get("value")


# --------------------------------------------------------------------------------------------------- by view and rule


def columns(scores: Sequence[ScoreDict]) -> list[Column]:
    """Views and rules that the scores name, in their order."""
    return list(dict.fromkeys(column for score in scores if (column := column_of(score))))


def thresholds(scores: Sequence[ScoreDict]) -> dict[Column, float]:
    found = ((column_of(s), s.get("value")) for s in scores if s["name"] == "threshold")
    return {column: float(value) for column, value in found if column and value is not None}


def overview(scores: Sequence[ScoreDict]) -> dict[str, Any] | None:
    """Flagged images, views as rows and rules as columns; None for a single rule."""
    rules = rules_of(columns(scores))
    if len(rules) < 2:
        return None
    flagged = {column_of(s): s.get("value") for s in scores if s["name"] == "n_flagged" and column_of(s)}
    views = dict.fromkeys(view for view, _ in columns(scores))
    return {
        "rules": rules,
        "rows": [{"contrast": view, "cells": [flagged.get((view, rule)) for rule in rules]} for view in views],
    }


def tables(scores: Sequence[ScoreDict]) -> list[dict[str, Any]]:
    """A table for each rule, a row for each view."""
    found: dict[Column, dict[str, ScoreDict]] = {}
    for score in scores:
        column = column_of(score)
        if column:
            found.setdefault(column, {})[str(score["name"])] = score
    heads = {name: text for name, text in BY_COLUMN.items() if any(name in own for own in found.values())}
    return [
        {
            "rule": rule,
            "meaning": RULES.get(rule, ""),
            "heads": list(heads.values()),
            "rows": [
                {"contrast": view, "cells": [own.get(name) for name in heads]}
                for (view, other), own in found.items()
                if other == rule
            ],
        }
        for rule in rules_of(list(found))
    ]


def tails(scores: Sequence[ScoreDict]) -> dict[str, Any] | None:
    """Tail quantiles of best r, synthetic beside unrelated real; a row for each view and rule."""
    found: dict[Column, dict[tuple[str, str], Any]] = {}
    quantiles: dict[str, None] = {}
    for score in scores:
        of = score.get("of") or {}
        if score["name"] in _TAILS and "contrast" in of and "quantile" in of:
            quantile = str(of["quantile"])
            quantiles[quantile] = None
            column = (str(of["contrast"]), str(of.get("rule") or "pearson"))
            found.setdefault(column, {})[quantile, str(score["name"])] = score.get("value")
    if not found:
        return None
    heads = [(quantile, name) for quantile in quantiles for name in _TAILS]
    return {
        "heads": [f"{quantile} quantile, {_TAILS[name]}" for quantile, name in heads],
        "rows": [
            {"contrast": view, "rule": rule, "cells": [own.get(head) for head in heads]}
            for (view, rule), own in found.items()
        ],
    }
