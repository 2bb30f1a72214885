"""The table beside pictures that says which subject, slice and split each is of; as exports, or Excel, save it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthkit.data import png_folders
from synthkit.data.format import SPLITS
from synthkit.data.splits import check_sides
from synthkit.data.tables import read_table
from synthkit.errors import DataError

_NEEDED = ("id", "split", "subject", "slice")


def rows_for(path: Path, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The row of every picture; a guessed split could put a held-out subject into training.

    Raises
    ------
    DataError : the table cannot be read, lacks a column or has an id twice; or a picture has no row, or one whose
        split is neither train nor holdout; or scans of one patient are in both.
    """
    table = read_rows(path)
    wrong = [f"{name}: no row" for name in ids if name not in table]
    wrong += [
        f"{name}: split {table[name]['split']!r}"
        for name in ids
        if name in table and table[name]["split"] not in SPLITS["real"]
    ]
    if wrong:
        raise DataError(
            f"{path} does not fit the pictures.",
            f"{len(wrong)} of {len(ids)} pictures have no row, or a split that is neither train nor holdout.",
            "Correct the table, or import with --as synthetic.",
            [*wrong[:20], *([f"... and {len(wrong) - 20} more"] if len(wrong) > 20 else [])],
        )
    check_sides(table[name] for name in ids)
    return table


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """All rows by id: ``id``, ``split``, ``subject``, ``slice``, ``patient``; columns in any order, among others.

    Excel saves tables with a byte-order mark, with ``;`` where a comma is in numbers, with tabs as "Unicode text", and
    may put ``sep=;`` in front.
    """
    add = f"Import with --as synthetic, or add the table ({', '.join(_NEEDED)}) that `synthkit export` writes."
    try:
        table = read_table(path, _NEEDED)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read.", f"{error.strerror or error}. Real samples need their subject and split.", add
        ) from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read.", f"It is {error}.", "Save it as CSV in UTF-8.") from error
    if missing := [name for name in _NEEDED if name not in table.columns]:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}.",
            f"Its columns are: {', '.join(filter(None, table.columns)) or 'none'}.",
            f"Name the columns in the first line. {add}",
        )
    rows: dict[str, dict[str, Any]] = {}
    for number, row in table.rows:
        if row["id"] in rows:
            raise DataError(f"{path} has two rows of {row['id']}.", f"Row {number} is one.", "Remove one of them.")
        place = re.sub(r"\.0+$", "", row["slice"])  # as tables that once held an empty cell write whole numbers
        if place and not place.isdecimal():
            raise DataError(
                f"{path} cannot be read.",
                f"The slice in row {number} is {row['slice']!r}, no whole number.",
                "Correct it.",
            )
        rows[row["id"]] = {
            "id": row["id"],
            "split": row["split"],
            "subject": row["subject"] or None,
            "slice": int(place) if place else None,
            "patient": row.get("patient") or None,
        }
    return rows


def table_of(folder: Path) -> Path:
    """Where the table of a source is looked for: in the folder, or beside the file."""
    return (folder if folder.is_dir() else folder.parent) / png_folders.TABLE
