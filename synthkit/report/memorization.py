"""The audit section: verdict, numbers, distributions against the null, and the worst pairs side by side."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.dataset import Dataset
from synthkit.report import pictures
from synthkit.report.gather import DAMAGE, Material, RunRecord, sentence

#: Pairs shown, and bins of a histogram.
N_PAIRS = 6
N_BINS = 40
N_SUBJECTS = 10

_WHOLE = {
    "n_synthetic": "synthetic images searched",
    "n_train": "training images searched in",
    "n_null": "real images that the thresholds rest on",
    "n_null_subjects": "subjects that the thresholds rest on",
    "n_flagged": "flagged synthetic images",
    "flagged_rate": "share of flagged images",
    "explained_flag_rate": "share that unrelated real images explain",
    "n_copies": "copies of training images",
    "n_identical": "identical up to brightness and contrast",
    "n_memorized_subjects": "training subjects that flagged images match",
    "closer_to_train": "share closer to training than to held-out images (0.5 without memorization)",
}
_BY_CONTRAST = {
    "n_flagged": "flagged",
    "threshold": "threshold of r",
    "best_r_median": "median best r, synthetic",
    "null_median": "median best r, unrelated real",
    "null_max": "largest, unrelated real",
}


def sections(material: Material, notes: list[str]) -> list[dict[str, Any]]:
    """One section an audit run; what cannot be read is added to ``notes``."""
    found = []
    for record in material.of_verb("audit-memorization"):
        try:
            found.append(_section(record))
        except DAMAGE as error:
            notes.append(f"The audit {record.name} cannot be shown: {sentence(error)}")
    return found


def _section(record: RunRecord) -> dict[str, Any]:
    verdict = (record.result or {}).get("verdict") or {}
    job_options = record.job.options if record.job else {}
    notes: list[str] = []
    remarks = []
    thresholds = {
        s["of"]["contrast"]: s.get("value")
        for s in record.scores
        if s["name"] == "threshold" and "contrast" in (s.get("of") or {})
    }
    whole = {s["name"]: s for s in record.scores if not s.get("of")}
    contrasts = list(
        dict.fromkeys(s["of"]["contrast"] for s in record.scores if set(s.get("of") or {}) == {"contrast"})
    )
    table = []
    for contrast in contrasts:
        own = {s["name"]: s for s in record.scores if (s.get("of") or {}) == {"contrast": contrast}}
        table.append({"contrast": contrast, "cells": [own.get(name) for name in _BY_CONTRAST]})
    if job_options.get("lineage") == "unknown":
        remarks.append(
            "Where the synthetic images come from is not known: the audit shows only what they copy from this "
            "training set."
        )
    return {
        "record": record,
        "outcome": str(verdict.get("outcome") or "no verdict"),
        "reasons": list(map(str, verdict.get("reasons") or ())),
        "not_proven": list(map(str, verdict.get("not_proven") or ())),
        "policy": dict(job_options.get("policy") or {}),
        "numbers": [(text, whole[name]) for name, text in _WHOLE.items() if name in whole],
        "columns": list(_BY_CONTRAST.values()),
        "table": table,
        "others": [s for s in record.scores if _is_other(s)],
        "histograms": _histograms(record, thresholds, notes),
        "subjects": _subjects(record),
        "pairs": _pairs(record, notes),
        "gain": pictures.DIFFERENCE_GAIN,
        "notes": notes,
        "remarks": remarks,
    }


def _is_other(score: dict[str, Any]) -> bool:
    of = score.get("of") or {}
    return not (score["name"] in _WHOLE and not of) and not (score["name"] in _BY_CONTRAST and set(of) == {"contrast"})


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


# --------------------------------------------------------------------------------------------------- histograms


def _histograms(record: RunRecord, thresholds: dict[str, Any], notes: list[str]) -> dict[str, Any] | None:
    """Best-match r of synthetic images (up) and of unrelated real images (down), on one axis for all contrasts."""
    synthetic = _r_by_contrast(record, "matches", notes)
    null = _r_by_contrast(record, "null", notes if thresholds and any(thresholds.values()) else [])
    if not synthetic:
        return None
    everything = np.concatenate([*synthetic.values(), *null.values()])
    low = min(np.floor(float(everything.min()) * 20) / 20, 0.95)
    edges = np.linspace(low, 1.0, N_BINS + 1)
    panels = []
    for contrast, values in synthetic.items():
        shares = [
            np.histogram(np.clip(r, low, 1.0), edges)[0] / len(r) if r is not None and len(r) else None
            for r in (values, null.get(contrast))
        ]
        tallest = max(float(share.max()) for share in shares if share is not None)
        threshold = thresholds.get(contrast)
        panels.append(
            {
                "contrast": contrast,
                "up": _bars(shares[0], tallest),
                "down": _bars(shares[1], tallest),
                "n_up": len(values),
                "n_down": len(null[contrast]) if contrast in null else 0,
                "tallest": tallest,
                "threshold": threshold,
                "threshold_x": None if threshold is None else float(np.clip((threshold - low) / (1 - low), 0, 1)) * 100,
            }
        )
    ticks = [{"x": 100 * i / 2, "text": f"{low + (1 - low) * i / 2:.3g}"} for i in range(3)]
    return {"panels": panels, "ticks": ticks, "width": 100 / N_BINS}


def _r_by_contrast(record: RunRecord, table: str, notes: list[str]) -> dict[str, Any]:
    values: dict[str, list[float]] = {}
    try:
        for row in _rows(record.run.outputs / f"{table}.csv"):
            if row["r"]:
                values.setdefault(row["contrast"], []).append(float(row["r"]))
    except DAMAGE as error:
        notes.append(f"The table {table} cannot be shown: {sentence(error)}")
        return {}
    return {contrast: np.array(r) for contrast, r in values.items()}


def _bars(shares: Any, tallest: float) -> list[dict[str, float]]:
    """Bars that are not empty: position and height in per cent."""
    if shares is None:
        return []
    return [
        {"x": 100 * i / N_BINS, "height": 100 * float(share) / tallest} for i, share in enumerate(shares) if share > 0
    ]


def _subjects(record: RunRecord) -> dict[str, Any] | None:
    """Training subjects that flagged images match, most first."""
    try:
        rows = [row for row in _rows(record.run.outputs / "subjects.csv") if row["n_flagged"]]
        rows = sorted((row for row in rows if int(row["n_flagged"])), key=lambda row: -int(row["n_flagged"]))
        shown = [{**row, "best_r": float(row["best_r"]) if row["best_r"] else None} for row in rows[:N_SUBJECTS]]
    except DAMAGE:
        return None
    return {"rows": shown, "n": len(rows)} if rows else None


# -------------------------------------------------------------------------------------------------------- pairs


def _pairs(record: RunRecord, notes: list[str]) -> dict[str, Any] | None:
    """The pairs of largest r, with pictures where the datasets are still there."""
    try:
        found = _most_similar(record)
    except DAMAGE as error:
        notes.append(f"The most similar pairs cannot be shown: {sentence(error)}")
        return None
    if not found:
        return None
    shelves: dict[str, _Shelf] = {}
    for role in record.job.inputs if record.job else ():
        try:
            shelves[role] = _Shelf(Dataset(record.run.input(role)))
        except DAMAGE as error:
            notes.append(f"No pictures of the {role} images: {sentence(error)}")
    shown = []
    for pair in found[:N_PAIRS]:
        try:
            shown.append(_pair(pair, shelves))
        except DAMAGE as error:
            notes.append(f"No pictures of {pair['synthetic_id']}: {sentence(error)}")
            shown.append(_pair(pair, {}))
    return {"shown": shown, "n": len(found)}


def _most_similar(record: RunRecord) -> list[dict[str, Any]]:
    pairs = record.run.outputs / "pairs.csv"
    if pairs.is_file():
        rows = [{**row, "r": float(row["r"]), "r_holdout": float(row["r_holdout"] or "nan")} for row in _rows(pairs)]
        return sorted(rows, key=lambda row: -row["r"])
    matches = list(_rows(record.run.outputs / "matches.csv"))
    contrasts = {row["contrast"] for row in matches}
    primary = "joint" if "joint" in contrasts else next(iter(contrasts), "")
    best = sorted((row for row in matches if row["contrast"] == primary and row["r"]), key=lambda r: -float(r["r"]))
    return [
        {"synthetic_id": row["synthetic_id"], "train_id": row["train_id"], "r": float(row["r"]), "holdout_id": ""}
        for row in best[: 2 * N_PAIRS]
    ]


class _Shelf:
    """Images of a dataset by the id of their sample."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._rows = {sample.id: row for row, sample in enumerate(dataset.samples)}

    def take(self, sample_id: str) -> tuple[Any, str]:
        row = self._rows[sample_id]
        return self.dataset.read([row])[0][0], pictures.describe(self.dataset.samples[row])


def _pair(pair: dict[str, Any], shelves: dict[str, _Shelf]) -> dict[str, Any]:
    """One pair as lines of pictures. r a contrast is of these two images, over all pixels."""
    result: dict[str, Any] = {**pair, "lines": [], "contrasts": []}
    if "synthetic" not in shelves or "train" not in shelves:
        return result
    synthetic, caption = shelves["synthetic"].take(pair["synthetic_id"])
    train, train_caption = shelves["train"].take(pair["train_id"])
    result["contrasts"] = list(shelves["train"].dataset.contrasts)
    count = range(len(result["contrasts"]))

    def line(title: str, text: str, image: Any, r: float | None, compared: Any = None) -> dict[str, Any]:
        each = [None if compared is None else pictures.pearson(compared[c], image[c]) for c in count]
        return {"title": title, "text": text, "r": r, "cells": [(pictures.png(image[c]), each[c]) for c in count]}

    result["lines"] = [
        line("Synthetic", caption, synthetic, None),
        line("Nearest training image", train_caption, train, pair["r"], synthetic),
        line("Absolute difference", "", pictures.difference(synthetic, train), None),
    ]
    if pair.get("holdout_id") and "holdout" in shelves:
        held, held_caption = shelves["holdout"].take(pair["holdout_id"])
        result["lines"].append(line("Nearest held-out image", held_caption, held, pair["r_holdout"], synthetic))
    return result
