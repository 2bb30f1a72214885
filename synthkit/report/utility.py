"""The results of ``synthkit utility``: what synthetic images are worth, first on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthkit.report.gather import DAMAGE, Material, sentence
from synthkit.report.wording import count, interval
from synthkit.schemes import MEAN

_TRAINED_ON = {"synthetic": ("synthetic", "synthetic"), "both": ("real + synthetic", "both")}


def sections(material: Material, notes: list[str]) -> list[dict[str, Any]]:
    """A section for each result: its sentences, and a table an arm of ratios by region and score.

    ``notes`` takes what cannot be read.
    """
    found = []
    for file in material.utilities:
        try:
            found.append(_section(file))
        except DAMAGE as error:
            notes.append(f"What {file} says of utility cannot be shown: {sentence(error)}")
    return found


def _section(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text(encoding="utf-8"))
    items = document["comparisons"]
    return {
        "name": file.parent.name,
        "n_subjects": len(document["subjects"]),
        "leads": _leads([str(text) for text in document["sentences"]]),
        "doubts": [str(text) for text in document.get("doubts", ())],
        "arms": [
            _arm(arm, [item for item in items if item["arm"] == arm]) for arm in dict.fromkeys(map(_arm_of, items))
        ],
    }


def _arm_of(item: dict[str, Any]) -> str:
    return str(item["arm"])


def _arm(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of regions, the mean first; of each score its ratio and what it is of."""
    label, css = _TRAINED_ON[name]
    scores = list(dict.fromkeys(str(item["score"]) for item in items))
    cells = {(item["region"], item["score"]): _cell(item) for item in items}
    regions = sorted(dict.fromkeys(region for region, _ in cells), key=lambda region: region != MEAN)
    return {
        "label": label,
        "css": css,
        "scores": scores,
        "rows": [{"region": region, "cells": [cells.get((region, score)) for score in scores]} for region in regions],
        "n_real": items[0]["n_real"],
        "n_other": items[0]["n_synthetic"],
        "n_patients": max(int(item["n_patients"]) for item in items),
        "with_interval": any(cell["low"] is not None for cell in cells.values()),
    }


def _cell(item: dict[str, Any]) -> dict[str, Any]:
    ratio = {"value": item["ratio"], "low": item["ratio_low"], "high": item["ratio_high"]}
    return {**ratio, "real": float(item["real"]), "other": float(item["synthetic"]), "digits": _digits(item["score"])}


def _digits(score: str) -> int:
    return 1 if score.endswith("(mm)") else 3


def _leads(sentences: list[str]) -> list[str]:
    """Where scores part, and the sentence on the mean, or on the last region where there is no mean."""
    return [text for text in sentences if text == sentences[-1] or ": Dice " in text]


def summary(found: list[dict[str, Any]]) -> list[str]:
    """What is said first of each result."""
    return [text for each in found for text in each["leads"]]


def figures(found: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The ratio of mean Dice of each arm, with its interval and what it is over."""
    shown = []
    for arm in (arm for each in found for arm in each["arms"]):
        cell = arm["rows"][0]["cells"][0]
        if cell is None:
            continue
        detail = [interval(cell), count(arm["n_patients"], "patient")]
        value = "–" if cell["value"] is None else f"{cell['value']:.3f}"
        what = f"Ratio of {arm['scores'][0]}, {arm['rows'][0]['region']}: {arm['label']} to real"
        shown.append({"what": what, "value": value, "detail": ", ".join(filter(None, detail))})
    return shown
