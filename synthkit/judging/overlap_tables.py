"""The table ``overlap`` of a run of ``evaluate``: which subjects, patients and regions it has, and what is counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from synthkit.data.patients import by_names
from synthkit.schemes import BRATS, MEAN

#: Rows by subject and region, as text; ``patient``, the first scan of one, where the run says whom a subject shows.
OverlapTable = Mapping[tuple[str, str], Mapping[str, str]]
OVERLAP_TABLE = "overlap.csv"


def read_overlap(run: Path) -> OverlapTable:
    """The table of a run of ``evaluate``, with the patients that its job names."""
    try:
        patients = json.loads((run / "job.json").read_text(encoding="utf-8"))["options"].get("patients", {})
    except (OSError, ValueError, KeyError):  # of a table alone, names say who is who
        patients = {}
    with (run / "outputs" / OVERLAP_TABLE).open(newline="", encoding="utf-8") as file:
        rows = [{**row, "patient": patients.get(row["subject"], "")} for row in csv.DictReader(file)]
    return {(row["subject"], row["region"]): row for row in rows}


def patients_of(tables: Iterable[OverlapTable], subjects: Sequence[str]) -> list[str]:
    """The patient of each subject, as any of the tables says it, else by its name."""
    said = {s: row["patient"] for table in tables for (s, _), row in table.items() if row.get("patient")}
    names = by_names(subjects)
    return [said.get(subject) or names[subject] for subject in subjects]


def regions_of(table: OverlapTable) -> list[str]:
    """Regions in the order of the table, and :data:`MEAN`: of those of its regions that a reference has."""
    return [*dict.fromkeys(region for _, region in table), MEAN]


def regions_of_all(tables: Sequence[OverlapTable]) -> list[str]:
    """As :func:`regions_of`, those that mean the same in all tables."""
    means = {frozenset(mean_of(table)) for table in tables}
    everywhere = set.intersection(*({region for _, region in table} for table in tables))
    return [r for r in regions_of(tables[0]) if r in everywhere or (r == MEAN and len(means) == 1)]


def values_of(table: OverlapTable, region: str, column: str) -> dict[str, float]:
    """Score of each subject whose reference has the region."""
    found: dict[str, list[float]] = {}
    for (subject, _), row in counted_rows(table, region).items():
        if row.get(column):
            found.setdefault(subject, []).append(float(row[column]))
    return {subject: sum(values) / len(values) for subject, values in found.items()}


def mean_of(table: OverlapTable) -> list[str]:
    """The regions behind :data:`MEAN`, as the column ``in_mean`` says; tables from before it are of BraTS."""
    return list(
        dict.fromkeys(
            region for (_, region), row in table.items() if row.get("in_mean", str(int(region in BRATS.mean_of))) == "1"
        )
    )


def rows_of(table: OverlapTable, region: str) -> OverlapTable:
    """Rows of the region, or of those behind :data:`MEAN`."""
    names = mean_of(table) if region == MEAN else (region,)
    return {key: row for key, row in table.items() if key[1] in names}


def counted_rows(table: OverlapTable, region: str) -> OverlapTable:
    """Those of them where the reference has it."""
    return {key: row for key, row in rows_of(table, region).items() if int(row["reference_voxels"])}
