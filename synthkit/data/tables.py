"""Tables as people and spreadsheets save them: CSV with commas, semicolons or tabs, in UTF-8 or UTF-16."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthkit.files import read_spreadsheet

_DELIMITERS = ",;\t"
# How .xlsx and .xls begin, whatever the file is called; their bytes may pass for text.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes
    ----------
    columns : names from the first row, in lower case, in order.
    rows : number of each row, as a spreadsheet counts, and its cells by column; empty rows are left out. Where two
        columns have one name, the first counts.
    first_line : as it stands in the file.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    first_line: str


def read_table(path: Path, needed: Sequence[str]) -> TextTable:
    """Read a table; its fields are separated by what makes the first row have the columns ``needed``, if anything does.

    A byte order mark, ``sep=;`` and empty lines in front are passed over, and cells are stripped.

    Raises :class:`OSError`, or :class:`ValueError` whose text says what the file is, after "it is".
    """
    with path.open("rb") as file:
        if file.read(4) in _WORKBOOKS:
            raise ValueError("an Excel workbook (save it as CSV in UTF-8)")
    try:
        text = read_spreadsheet(path)
    except UnicodeDecodeError as error:
        raise ValueError("no text in UTF-8 or UTF-16 (save it as CSV in UTF-8)") from error
    lines = text.splitlines(keepends=True)
    first = 0
    while first < len(lines) and (not lines[first].strip() or lines[first].lower().startswith("sep=")):
        first += 1
    header = lines[first] if first < len(lines) else ""
    delimiter = next((d for d in _DELIMITERS if set(needed) <= set(_names(header, d))), "")
    delimiter = delimiter or max(_DELIMITERS, key=header.count)
    columns = _names(header, delimiter)
    reader = csv.reader(io.StringIO("".join(lines[first + 1 :]), newline=""), delimiter=delimiter)
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row: dict[str, str] = {}
                for name, cell in zip(columns, [*cells, *[""] * len(columns)], strict=False):
                    row.setdefault(name, cell.strip())
                rows.append((first + 1 + reader.line_num, row))
    except csv.Error as error:
        raise ValueError(f"no table ({error})") from error
    return TextTable(columns, tuple(rows), header.strip())


def _names(header: str, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:
        return ()
