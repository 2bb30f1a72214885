"""The numbers of an audit, each beside its interval and what would be seen without any copying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthkit.judging.audit_scores import FAMILIES, ScoreDict
from synthkit.report.audit.tables import RULES, VIEWS, Column
from synthkit.report.match_rule import BENT
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
        Line("n_identical", "identical to a training image up to brightness and contrast", 0),
        Line("n_copies", "copies of training people", 0),
        Line("copied_rate", "share of copies", 0),
        Line("n_copied_subjects", "training people whom they show", 0),
        Line("n_holdout_copies", "copies of held-out people", 0),
        Line("n_copied_holdout_subjects", "held-out people whom they show", 0),
        Line("n_feature_flagged", "near by features of a network; no copies, and in no other number"),
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
    "Asked for with label maps of training people": (
        Line("n_asked", "images with the label map of a training person"),
        Line("n_returned", "people who come back", 0),
        Line("asked_first_rate", "people to whom their images are nearer than to anybody", "control_first_rate"),
        Line("n_control", "images of the control, with label maps of held-out people"),
        Line("asked_auc", "telling training people from those of the control by their images (AUC)", 0.5),
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
    "n_holdout_twins": "held-out people left out, who are training people under another id",
    "n_null_subjects": "real people whom the cut is taken from",
    "false_fail_rate": "chance that a dataset that copies nobody fails, as asked for",
}
#: Scores of a family, each with the rest of what it is of, and the head of its column.
BY_FAMILY: tuple[tuple[str, dict[str, str], str], ...] = (
    ("n_copies", {}, "copies"),
    ("cut", {}, "cut: a smaller margin is a copy"),
    ("least_margin", {}, "smallest margin to training people"),
    ("cut", {"side": "holdout"}, "cut for held-out people"),
    ("least_margin", {"side": "holdout"}, "smallest margin to held-out people"),
    ("null_margin", {"quantile": "0"}, "smallest margin of real people to others"),
    ("null_margin", {"quantile": "0.5"}, "their median"),
    ("likeness", {}, "likeness of the images to everybody; 1: as real ones"),
)
BY_COLUMN = {
    "n_copies": "copies",
    "copied_rate": "share",
    "threshold": "r that a copy exceeds",
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
    if set(of) != {"contrast", "rule"}:
        return None
    return str(of["contrast"]), str(of["rule"])


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
        return set(of) == {"contrast", "rule", "quantile"}
    if "family" in of:
        return any(name == own and _rest(of) == rest for own, rest, _ in BY_FAMILY)
    return "contrast" not in of and (name in lines or name in baselines or name in _SEARCHED)


# --------------------------------------------------------------------------------------------------- what was searched


def searched(scores: Sequence[ScoreDict], columns: Sequence[Column]) -> list[str]:
    """What was compared with what, in sentences."""
    known = whole(scores)
    n_synthetic, n_train = (_value(known, name) for name in ("n_synthetic", "n_train"))
    sentences = []
    if n_synthetic is not None and n_train is not None:
        others = ""
        if n_holdout := _value(known, "n_holdout"):
            others = f", and with each of {count(int(n_holdout), 'held-out image')}{_of_people(known, 'n_holdout')}"
        sentences.append(
            f"{count(int(n_synthetic), 'synthetic image')}{_blank(known)} were compared with each of "
            f"{count(int(n_train), 'training image')}{_of_people(known, 'n_train')}{others}."
        )
        if any(rule == BENT for _, rule in columns):
            sentences.append("By the rule bent they were compared with the few people whom each is likest to.")
    views = list(dict.fromkeys(view for view, _ in columns))
    meanings = [f"{view} is {VIEWS[view]}" for view in views if view in VIEWS]
    rules = [f"{rule} ({RULES[rule]})" if rule in RULES else rule for rule in rules_of(columns)]
    if views:
        sentences.append(f"Views: {'; '.join([words(views), *meanings])}. Compared by Pearson r: {'; '.join(rules)}.")
    if people := _value(known, "n_null_subjects"):
        sentences.append(
            f"How near chance comes was taken from {_people(int(people))}, training and held-out together, each "
            "compared with the others."
        )
    else:
        sentences.append("There is no cut: no real people could be compared with others.")
    return sentences


def _of_people(known: Mapping[str, ScoreDict], name: str) -> str:
    people = known[name].get("n")
    return f" of {_people(int(people))}" if people else ""


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number:,} people"


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
    own = [s for s in scores if s["name"] == line.name and not {"contrast", "family"} & set(s.get("of") or {})]
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


def families(scores: Sequence[ScoreDict]) -> dict[str, Any] | None:
    """Copies, margins and cut: a row each, a column a family of comparisons; None where the audit tells of none."""
    found: dict[str, dict[str, ScoreDict]] = {}
    for score in scores:
        of = score.get("of") or {}
        for name, rest, text in BY_FAMILY:
            if "family" in of and score["name"] == name and _rest(of) == rest:
                found.setdefault(text, {})[str(of["family"])] = score
    named = {family for own in found.values() for family in own}
    shown = [*(name for name in FAMILIES if name in named), *sorted(named - set(FAMILIES))]
    rows = [
        {"text": text, "cells": [found[text].get(family) for family in shown]}
        for _, _, text in BY_FAMILY
        if text in found
    ]
    return (
        {"heads": shown, "rows": rows, "meanings": {name: FAMILIES.get(name, "") for name in shown}} if rows else None
    )


def _rest(of: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in of.items() if key != "family"}


def overview(scores: Sequence[ScoreDict]) -> dict[str, Any] | None:
    """Copies, views as rows and rules as columns; None for a single rule."""
    rules = rules_of(columns(scores))
    if len(rules) < 2:
        return None
    copies = {column_of(s): s.get("value") for s in scores if s["name"] == "n_copies" and column_of(s)}
    views = dict.fromkeys(view for view, _ in columns(scores))
    return {
        "rules": rules,
        "rows": [{"contrast": view, "cells": [copies.get((view, rule)) for rule in rules]} for view in views],
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
        if score["name"] in _TAILS and set(of) == {"contrast", "rule", "quantile"}:
            quantile = str(of["quantile"])
            quantiles[quantile] = None
            column = (str(of["contrast"]), str(of["rule"]))
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
