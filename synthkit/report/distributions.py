"""Distributions of properties in real and synthetic images, as a metric left them: ``distributions.csv``.

One row a property and side, with quantiles at equal steps (columns ``q000``, ``q005``, ... ``q100``); a panel draws
them as cumulative distributions on one axis. Beside it may lie a table with a row a property that holds ``excess``, how
much farther apart real and synthetic are than two halves of the real patients: the panels are in that order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthkit.files import open_table
from synthkit.report.gather import DAMAGE, RunRecord, sentence

#: Panels shown at once; the others are folded away.
N_SHOWN = 12

#: Sides in the order of drawing, the most important last.
SIDES = ("holdout", "real", "synthetic")

Key = tuple[str, str, str]


def distributions(record: RunRecord, notes: list[str]) -> dict[str, Any] | None:
    """Panels of a run's properties, those that differ most first; None if the run has no such table."""
    table = record.run.outputs / "distributions.csv"
    if not table.is_file():
        return None
    try:
        sides = _sides(table)
        ranks = _excess(record)
    except DAMAGE as error:
        notes.append(f"The distributions of {record.name} cannot be shown: {sentence(error)}")
        return None
    keys = sorted(sides, key=lambda key: -ranks.get(key, float("-inf")))
    panels = [_panel(key, sides[key], ranks.get(key)) for key in keys]
    panels = [panel for panel in panels if panel["curves"]]
    return {"shown": panels[:N_SHOWN], "others": panels[N_SHOWN:]} if panels else None


def _rows(path: Path) -> Iterable[dict[str, str]]:
    with open_table(path) as file:
        yield from csv.DictReader(file)


def _sides(table: Path) -> dict[Key, dict[str, dict[str, Any]]]:
    """By property, region and contrast: of each side its quantiles, number and unit."""
    found: dict[Key, dict[str, dict[str, Any]]] = {}
    for row in _rows(table):
        quantiles = [(int(name[1:]), float(value)) for name, value in row.items() if name[:1] == "q" and value]
        side = {"n": int(row["n"]), "unit": row["unit"], "quantiles": quantiles}
        found.setdefault((row["property"], row["region"], row["contrast"]), {})[row["side"]] = side
    return found


def _excess(record: RunRecord) -> dict[Key, float]:
    """``excess`` of each property, from whichever table of the run has it."""
    for table in sorted(record.run.outputs.glob("*.csv")):
        rows = [row for row in _rows(table) if {"property", "excess"} <= set(row)]
        if rows:
            return {(r["property"], r["region"], r["contrast"]): float(r["excess"]) for r in rows if r["excess"]}
    return {}


def _panel(key: Key, sides: dict[str, dict[str, Any]], excess: float | None) -> dict[str, Any]:
    """One property: the curve of each side in per cent of the panel, right and up."""
    values = [value for side in sides.values() for _, value in side["quantiles"]]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    width = high - low or 1.0
    curves = []
    for name in SIDES:
        side = sides.get(name)
        if side and side["quantiles"]:
            points = " ".join(f"{100 * (v - low) / width:.2f},{100 - level:.2f}" for level, v in side["quantiles"])
            curves.append({"side": name, "points": points, "n": side["n"]})
    unit = next((side["unit"] for side in sides.values() if side["unit"]), "")
    name = " ".join(part for part in (key[0].replace("_", " "), key[1], key[2]) if part)
    return {"name": name, "unit": unit, "curves": curves, "low": low, "high": high, "excess": excess}
