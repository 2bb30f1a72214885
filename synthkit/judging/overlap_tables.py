"""The table ``overlap`` of a run of ``evaluate``: which subjects, patients and regions it has, and what is counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.data.patients import by_names
from synthkit.schemes import BRATS, MEAN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


def joined(one: OverlapTable, two: OverlapTable) -> OverlapTable | None:
    """Tables of the same predictions as one: a run leaves empty what it was not asked for. None where they disagree."""
    if set(one) != set(two):
        return None
    rows = {}
    for key, mine in one.items():
        its = two[key]
        if any(mine[name] and its.get(name) and mine[name] != its[name] for name in mine):
            return None
        rows[key] = {name: mine.get(name) or its.get(name, "") for name in {**mine, **its}}
    return rows


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


def mean_of(table: OverlapTable) -> list[str]:
    """The regions behind :data:`MEAN`, as the column ``in_mean`` says; tables from before it are of BraTS."""
    return list(
        dict.fromkeys(
            region for (_, region), row in table.items() if row.get("in_mean", str(int(region in BRATS.mean_of))) == "1"
        )
    )


def rows_of(table: OverlapTable, region: str) -> OverlapTable:
    """Rows of the region, or of those behind :data:`MEAN`."""
    names = names_of(table, region)
    return {key: row for key, row in table.items() if key[1] in names}


def counted_rows(table: OverlapTable, region: str) -> OverlapTable:
    """Those of them where the reference has it."""
    return {key: row for key, row in rows_of(table, region).items() if int(row["reference_voxels"])}


@dataclass(frozen=True)
class Cases:
    """Regions that a mean does not tell apart, means over the trainings of an arm; of "mean", summed over its labels.

    Attributes
    ----------
    n_missed : there in the reference, and not predicted at all.
    n_false : predicted, and not there in the reference. Both count in a mean, with the worst score.
    n_without : subjects whose reference lacks the region: those that can be false.
    """

    n_missed: float
    n_false: float
    n_without: int


@dataclass(frozen=True)
class Lesions:
    """Missed and false lesions of a region in all subjects, means over the trainings of an arm."""

    n_missed: float
    n_false: float


def lesions_of(tables: Sequence[OverlapTable], region: str) -> Lesions:
    """Of an arm, a table a training, scored by lesion."""
    rows = [row for table in tables for row in rows_of(table, region).values()]
    n_missed, n_false = (
        sum(float(row.get(f"lesions_{case}") or 0) for row in rows) / len(tables) for case in ("missed", "false")
    )
    return Lesions(n_missed, n_false)


def cases_of(tables: Sequence[OverlapTable], region: str) -> Cases:
    """Missed and false regions of an arm, a table a training."""
    rows = [row for table in tables for row in rows_of(table, region).values()]
    n_missed, n_false = (sum(row["case"] == case for row in rows) / len(tables) for case in ("missed", "false"))
    return Cases(n_missed, n_false, len(rows_of(tables[0], region)) - len(counted_rows(tables[0], region)))


def names_of(table: OverlapTable, region: str) -> list[str]:
    """The regions behind a name: those of :data:`MEAN`, else itself."""
    return mean_of(table) if region == MEAN else [region]


def values_of(
    tables: Sequence[OverlapTable], region: str, column: str, subjects: Sequence[str]
) -> NDArray[np.float64] | None:
    """Scores ``(training, subject, region)``, NaN where one does not count; a region, or those behind :data:`MEAN`.

    None where a training has no number at all.
    """
    import numpy as np

    names = names_of(tables[0], region)
    cells = [[[table.get((who, name), {}).get(column) for name in names] for who in subjects] for table in tables]
    found = np.array([[[float(cell or "nan") for cell in row] for row in rows] for rows in cells], np.float64)
    return None if np.isnan(found).all(axis=(1, 2)).any() else found


def subjects_of(table: OverlapTable) -> list[str]:
    """Sorted, once each."""
    return sorted({subject for subject, _ in table})


def references_of(table: OverlapTable, region: str) -> frozenset[tuple[str, str]]:
    """Subject and region, where the reference has it."""
    return frozenset(counted_rows(table, region))


def leaves_out(table: OverlapTable, region: str, column: str) -> bool:
    """Whether a row has Dice and not this distance: a mean of the others would reward missing and inventing."""
    return any(row.get("dice") and not row.get(column) for row in rows_of(table, region).values())
