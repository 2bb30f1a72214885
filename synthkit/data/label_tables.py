"""Tables that say what label values mean: ``*dseg.tsv`` of BIDS, by names as ``dataset.json`` does it."""

from __future__ import annotations

import csv
from pathlib import Path

from synthkit.data.raw_layouts import label_values_named
from synthkit.errors import DataError


def table_of_labels(seg: Path, root: Path, known: dict[Path, dict[int, int] | None]) -> dict[int, int] | None:
    """Value in a ``dseg`` -> value of the scheme, by the nearest table; None where there is none.

    Parameters
    ----------
    seg : the file; its own ``*_dseg.tsv`` comes first, then the only one of its folder or of one above.
    root : where the search ends.
    known : tables that were read before, by folder or file; gets those of this call.

    Raises
    ------
    DataError : a table that cannot be read, or whose names do not stand for our labels one to one.
    """
    if "dseg" not in seg.name.lower():
        return None
    own = seg.with_name(seg.name.split(".nii")[0] + ".tsv")
    if own.is_file():
        return _read(own)
    for folder in seg.parents:
        if folder not in known:
            # A table of one subject says nothing of the others.
            tables = [p for p in sorted(folder.glob("*dseg.tsv")) if not p.name.startswith("sub-")]
            known[folder] = _read(tables[0]) if len(tables) == 1 else None
            if len(tables) > 1:
                listed = " and ".join(path.name for path in tables)
                raise DataError(f"{folder} has several tables of labels.", f"They are {listed}.", "Leave one of them.")
        if known[folder] is not None:
            return known[folder]
        if folder == root:
            break
    return None


def _read(path: Path) -> dict[int, int]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        labels = {row["name"]: int(row["index"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a table of labels.", "It needs the columns index and name.") from error
    return label_values_named(labels, path)
