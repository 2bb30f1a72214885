"""Tables that say which patient each subject is: CSV as people save it, with commas, semicolons or tabs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from synthkit.data.tables import read_table
from synthkit.errors import DataError, UsageError

_SUBJECT, _PATIENT = "subject", "patient"


def read_patients(path: Path, subjects: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Subject -> patient for these subjects, and the subjects of the table that are not among them.

    The first row names the columns: ``subject`` and ``patient``, in any case and order, others are ignored. Fields are
    separated by commas, semicolons or tabs; a byte order mark is no part of the first name.

    Raises
    ------
    UsageError : there is no such file.
    DataError : it is not such a table, has two patients for a subject or none, or lacks a subject (all are named).
    """
    rows = _rows(path)
    of: dict[str, str] = {}
    for number, (subject, patient) in rows:
        if not subject and not patient:  # a row of other columns
            continue
        if not subject or not patient:
            raise _refused(path, f"Row {number} has no {_PATIENT if subject else _SUBJECT}.", "Complete the row.")
        if of.setdefault(subject, patient) != patient:
            why = f"{subject} is both {of[subject]} and {patient} (row {number})."
            raise _refused(path, why, "Give every subject one patient.")
    missing = [subject for subject in subjects if subject not in of]
    if missing:
        close = difflib.get_close_matches(missing[0], list(of), n=1)
        raise DataError(
            f"The table of patients {path} lacks {len(missing)} of {len(subjects)} subjects.",
            f"Missing: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}."
            + (f" It has {close[0]}; ids are compared letter by letter." if close else ""),
            "Add a row for each, with its id as it stands in the folder of subjects.",
            missing,
        )
    return {subject: of[subject] for subject in subjects}, sorted(set(of) - set(subjects))


def _rows(path: Path) -> list[tuple[int, tuple[str, str]]]:
    """Row number, as a spreadsheet counts, with subject and patient."""
    try:
        table = read_table(path, (_SUBJECT, _PATIENT))
    except OSError as error:
        raise UsageError(
            f"There is no table of patients {path}.",
            f"{error.strerror or error}.",
            "Give a CSV file with the columns subject and patient, or one-per-subject.",
        ) from error
    except ValueError as error:
        raise _refused(path, f"It is {error}.", "Save it as CSV in UTF-8.") from error
    for name in (_SUBJECT, _PATIENT):
        if name not in table.columns:
            why = f"Its first row is {table.first_line[:80] or 'nothing'!r}."
            raise _refused(path, why, "Name the columns subject and patient in the first row.")
        if table.columns.count(name) > 1:
            raise _refused(path, f"Two columns are called {name}.", "Leave one of them.")
    return [(number, (row[_SUBJECT], row[_PATIENT])) for number, row in table.rows]


def _refused(path: Path, why: str, fix: str) -> DataError:
    return DataError(f"The table of patients {path} is not understood.", why, fix)
