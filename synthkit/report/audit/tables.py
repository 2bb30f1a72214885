"""The tables of an audit run, read back; what they hold is declared in :mod:`synthkit.judging.audit_scores`.

A *column* is a view (a contrast, or ``joint``) under a rule. Tables without a column ``rule`` were made when there was
one rule, and those without ``contrast`` when pairs were of the joint image alone: both are filled in.
"""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthkit.judging.audit_scores import NAMES_OF_REAL, TABLES

#: Rules in the order in which they are shown, with what they compare.
RULES = {
    "pearson": "all pixels, in place",
    "brain": "pixels of the brain alone, in place",
    "flip": "all pixels, the synthetic image mirrored left to right",
    "shift": "all pixels, the synthetic image moved by a few pixels",
}

#: Matches of largest r that are kept of each column.
N_LARGEST = 12

Column = tuple[str, str]


@dataclass(frozen=True)
class Pair:
    """A synthetic image and its best training match in one view under one rule; None and "" where not known."""

    contrast: str
    rule: str
    synthetic_id: str
    train_id: str
    r: float
    threshold: float | None = None
    null_quantile: float | None = None
    flagged: bool | None = None
    holdout_id: str = ""
    r_holdout: float | None = None

    @property
    def column(self) -> Column:
        return self.contrast, self.rule

    @property
    def excess(self) -> float:
        """How far r is above its threshold, as a share of what lies between threshold and 1; r without a threshold."""
        if self.threshold is None:
            return self.r
        return (self.r - self.threshold) / (1.0 - min(self.threshold, 0.999999))


@dataclass
class Matches:
    """r of every image, ``(n,)`` for each column, and the pairs of largest r of each column, largest first."""

    r: dict[Column, NDArray[np.float64]] = field(default_factory=dict)
    largest: dict[Column, list[Pair]] = field(default_factory=dict)


def read_matches(path: Path) -> Matches:
    """``matches.csv``, in one pass. Raises what a damaged file raises."""
    values: dict[Column, list[float]] = {}
    largest: dict[Column, list[tuple[float, int, Pair]]] = {}
    for number, row in enumerate(_rows(path)):
        r, column = _number(row["r"]), _column(row)
        if r is None:
            continue
        values.setdefault(column, []).append(r)
        heap = largest.setdefault(column, [])
        if len(heap) < N_LARGEST:
            heapq.heappush(heap, (r, -number, _match(row, column, r)))
        elif r > heap[0][0]:
            heapq.heapreplace(heap, (r, -number, _match(row, column, r)))
    ordered = {column: [pair for _, _, pair in sorted(heap, reverse=True)] for column, heap in largest.items()}
    return Matches({column: np.array(r) for column, r in values.items()}, ordered)


def read_null(path: Path) -> dict[Column, NDArray[np.float64]]:
    """``null.csv``: r of every real image, ``(n,)`` for each column."""
    values: dict[Column, list[float]] = {}
    for row in _rows(path):
        r = _number(row["r"])
        if r is not None:
            values.setdefault(_column(row), []).append(r)
    return {column: np.array(r) for column, r in values.items()}


def read_pairs(path: Path, primary: str) -> list[Pair]:
    """``pairs.csv``; ``primary`` is the view of a table that names none."""
    return [
        Pair(
            contrast=row.get("contrast") or primary,
            rule=row.get("rule") or "pearson",
            synthetic_id=row["synthetic_id"],
            train_id=row["train_id"],
            r=float(row["r"]),
            threshold=_number(row.get("threshold")),
            null_quantile=_number(row.get("r_null_quantile")),
            holdout_id=row["holdout_id"],
            r_holdout=_number(row["r_holdout"]),
        )
        for row in _rows(path)
    ]


def completed(pair: Pair, matches: Matches, thresholds: dict[Column, float]) -> Pair:
    """The pair with what its own table lacks: from the matches, else from the threshold."""
    known = (match for match in matches.largest.get(pair.column, ()) if match.synthetic_id == pair.synthetic_id)
    match = next(known, None)
    threshold = pair.threshold if pair.threshold is not None else thresholds.get(pair.column)
    flagged = match.flagged if match else None if threshold is None else pair.r > threshold
    quantile = match.null_quantile if match and pair.null_quantile is None else pair.null_quantile
    return replace(pair, threshold=threshold, flagged=flagged, null_quantile=quantile)


def read_subjects(path: Path) -> list[dict[str, str | int | float | None]]:
    """``subjects.csv``: training subjects that flagged images match, most flagged first."""
    rows = [
        {
            "subject": row["train_subject"],
            "n_train": int(row["n_train"]),
            "n_flagged": int(row["n_flagged"]),
            "n_copies": int(row["n_copies"]) if row.get("n_copies") else None,
            "best_r": _number(row["best_r"]),
        }
        for row in _rows(path)
        if row["n_flagged"] and int(row["n_flagged"])
    ]
    return sorted(rows, key=lambda row: -int(row["n_flagged"] or 0))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _column(row: dict[str, str]) -> Column:
    return row["contrast"], row.get("rule") or "pearson"


def _match(row: dict[str, str], column: Column, r: float) -> Pair:
    return Pair(
        *column,
        synthetic_id=row["synthetic_id"],
        train_id=row["train_id"],
        r=r,
        null_quantile=_number(row["r_null_quantile"]),
        flagged={"True": True, "False": False}.get(row["flagged"]),
    )


def _number(text: str | None) -> float | None:
    """A finite number; None where the cell is empty or NaN."""
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def named_in(outputs: Path) -> Iterator[str]:
    """Every id of a real subject or image in the tables of a run; damaged tables are read as far as they go."""
    for table in TABLES.values():
        try:
            for row in _rows(outputs / table.file):
                yield from (row[column] for column in NAMES_OF_REAL if row.get(column))
        except (OSError, ValueError, csv.Error):
            continue
