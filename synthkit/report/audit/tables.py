"""The tables of an audit run, read back; what they hold is declared in :mod:`synthkit.judging.audit_tables`.

A *column* is a view (a contrast, or one of :data:`VIEWS`) under a rule.
"""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthkit.files import open_table
from synthkit.judging.audit_tables import NAMES_OF_REAL, TABLES

#: Rules in the order in which they are shown, with what they compare.
RULES = {
    "pearson": "all pixels, in place",
    "brain": "pixels of the brain alone, in place",
    "flip": "all pixels, the synthetic image mirrored left to right",
    "shift": "all pixels, the synthetic image moved by a few pixels",
    "inverted": "all pixels, the synthetic image with dark and bright exchanged",
    "brain-inverted": "pixels of the brain alone, dark and bright exchanged in it",
    "turned": "in a common frame, in eight orientations and turned by small angles",
    "bent": "in a finer common frame, in eight orientations, turned by small angles and bent onto the likest people",
    "turned-inside": "of what is inside the labels alone, in eight orientations and moved by a pixel",
    "outside": "of what is labelled in neither image, nor beside what is",
    "outside-brain": "the same in both brains alone",
    "inside": "inside the label map, each label centred in itself",
}
#: Views that are no contrast, with what they show.
VIEWS = {
    "joint": "all contrasts as one image",
    "labels": "the label map",
    "tumour": "the tumour alone, in a window around its centroid",
    "asked": "where its label map says nothing, each image with the person whose label map it was asked to have",
}

#: Matches that are kept of each column.
N_NEAREST = 12

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
    copy: bool | None = None
    margin: float | None = None
    holdout_id: str = ""
    r_holdout: float | None = None
    holdout_copy: bool | None = None

    @property
    def column(self) -> Column:
        return self.contrast, self.rule

    @property
    def nearness(self) -> float:
        """The larger, the nearer: by the margin, else r above its threshold as a share of what is left to 1, else r."""
        if self.margin is not None:
            return -self.margin
        if self.threshold is None:
            return self.r
        return (self.r - self.threshold) / (1.0 - min(self.threshold, 0.999999))


@dataclass
class Matches:
    """r of every image, ``(n,)`` for each column, and the pairs that stand out most in each column, nearest first."""

    r: dict[Column, NDArray[np.float64]] = field(default_factory=dict)
    nearest: dict[Column, list[Pair]] = field(default_factory=dict)


def read_matches(path: Path) -> Matches:
    """``matches.csv``, in one pass. Raises what a damaged file raises."""
    values: dict[Column, list[float]] = {}
    nearest: dict[Column, list[tuple[float, int, Pair]]] = {}
    for number, row in enumerate(_rows(path)):
        r, margin, column = _number(row["r"]), _number(row["margin"]), _column(row)
        if r is None:
            continue
        values.setdefault(column, []).append(r)
        heap = nearest.setdefault(column, [])
        near = r if margin is None else -margin
        if len(heap) < N_NEAREST:
            heapq.heappush(heap, (near, -number, _match(row, column, r)))
        elif near > heap[0][0]:
            heapq.heapreplace(heap, (near, -number, _match(row, column, r)))
    ordered = {column: [pair for _, _, pair in sorted(heap, reverse=True)] for column, heap in nearest.items()}
    return Matches({column: np.array(r) for column, r in values.items()}, ordered)


def read_null(path: Path) -> dict[Column, NDArray[np.float64]]:
    """``null.csv``: r of every real image, ``(n,)`` for each column."""
    values: dict[Column, list[float]] = {}
    for row in _rows(path):
        r = _number(row["r"])
        if r is not None:
            values.setdefault(_column(row), []).append(r)
    return {column: np.array(r) for column, r in values.items()}


def read_pairs(path: Path) -> list[Pair]:
    """``pairs.csv``."""
    return [
        Pair(
            contrast=row["contrast"],
            rule=row["rule"],
            synthetic_id=row["synthetic_id"],
            train_id=row["train_id"],
            r=float(row["r"]),
            threshold=_number(row["threshold"]),
            null_quantile=_number(row["r_null_quantile"]),
            copy=_truth(row["copy"]),
            margin=_number(row["margin"]),
            holdout_id=row["holdout_id"],
            r_holdout=_number(row["r_holdout"]),
            holdout_copy=_truth(row["holdout_copy"]),
        )
        for row in _rows(path)
    ]


def read_subjects(path: Path, side: str = "train") -> list[dict[str, str | int | float | None]]:
    """``subjects.csv``, or ``holdout_subjects.csv`` of the side "holdout": whom copies show, most copied first."""
    rows = [
        {
            "subject": row[f"{side}_subject"],
            "n_images": int(row[f"n_{side}"]),
            "n_copies": int(row["n_copies"]),
            "best_r": _number(row["best_r"]),
        }
        for row in _rows(path)
        if row["n_copies"] and int(row["n_copies"])
    ]
    return sorted(rows, key=lambda row: -int(row["n_copies"] or 0))


def read_twins(path: Path) -> list[tuple[str, str]]:
    """``holdout_twins.csv``: held-out people, each with the training person who it is."""
    return [(row["holdout_subject"], row["train_subject"]) for row in _rows(path)]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with open_table(path) as file:
        yield from csv.DictReader(file)


def _column(row: dict[str, str]) -> Column:
    return row["contrast"], row["rule"]


def _match(row: dict[str, str], column: Column, r: float) -> Pair:
    return Pair(
        *column,
        synthetic_id=row["synthetic_id"],
        train_id=row["train_id"],
        r=r,
        null_quantile=_number(row["r_null_quantile"]),
        copy=_truth(row["copy"]),
        margin=_number(row["margin"]),
    )


def _truth(text: str) -> bool | None:
    return {"True": True, "False": False}.get(text)


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
