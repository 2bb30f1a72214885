"""Small text files as strangers may see them: subjects under other names, no pictures, no folders of this machine.

Hashed names (``subject_keys``) are dropped as well: the names of public datasets can be counted through.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkit.errors import DataError
from synthkit.runs import Run

_PICTURE = re.compile(r"data:image/(?!svg)[a-z0-9.+-]+;base64,[A-Za-z0-9+/=\s]+")
_EMPTY_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@dataclass(frozen=True)
class Censor:
    """Rewrites texts. ``names`` are the subjects' names, ``folders`` what stands for folders of this machine."""

    names: Mapping[str, str]
    folders: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, runs: Iterable[Run], *, keep_names: bool) -> Censor:
        """For the runs of a folder; subjects become ``subject-001`` and so on, in the order of their names."""
        found = set() if keep_names else {name for run in runs for name in subjects_of(run)}
        names = {name: f"subject-{number:03d}" for number, name in enumerate(sorted(found), start=1)}
        return cls(names, {str(folder.resolve()): ".", str(Path.home()): "~"})

    def clean(self, path: Path) -> bytes | None:
        """The content of a file as it may be given away; None if that cannot be said."""
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return (json.dumps(self.value(json.loads(text)), indent=1, allow_nan=False) + "\n").encode()
        if path.suffix == ".csv":
            return self._table(text).encode()
        if any(not re.search("[A-Za-z]", name) and self._pattern([name]).search(text) for name in self.names):
            return None  # a name of digits alone is not to be told from a number
        return _PICTURE.sub(_EMPTY_PICTURE, self.text(text)).encode()

    def value(self, value: Any) -> Any:
        """A JSON value with its strings rewritten."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items() if key != "subject_keys"}
        return value

    def text(self, text: str) -> str:
        """A text with the names replaced, where they stand as words."""
        for folder, stand_in in self.folders.items():
            text = text.replace(folder, stand_in)
        if not self.names:
            return text
        return self._pattern(self.names).sub(lambda match: self.names[match[0]], text)

    def _table(self, text: str) -> str:
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        subject = {i for i, column in enumerate(rows[0]) if _is_subject(column)} if rows else set()
        for row in rows:
            writer.writerow(
                [cell if _is_number(cell) and i not in subject else self.text(cell) for i, cell in enumerate(row)]
            )
        return out.getvalue()

    def _pattern(self, names: Iterable[str]) -> re.Pattern[str]:
        # The longest first: a name may begin with another.
        alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        return re.compile(rf"(?<![A-Za-z0-9])(?:{alternatives})(?![A-Za-z0-9])")


def subjects_of(run: Run) -> set[str]:
    """Names of the subjects that a run was given or tells of: in its job, scores, tables and input datasets."""
    job, result = run.job(), run.result() or {}
    names = {str(name) for key in ("subjects", "references_without_prediction") for name in job.options.get(key) or ()}
    names |= {str(score["of"]["subject"]) for score in result.get("scores", ()) if "subject" in score.get("of", {})}
    for table in sorted(run.outputs.glob("*.csv")):
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                names |= {value for column, value in row.items() if column and _is_subject(column) and value}
    for role, item in job.inputs.items():
        if item.kind == "dataset":
            names |= _subjects_of_dataset(run.input(role))
    return names


def _subjects_of_dataset(path: Path) -> set[str]:
    from synthkit.dataset import Dataset

    try:
        return set(Dataset(path).subjects)
    except DataError:  # not where it was
        return set()


def _is_subject(column: str) -> bool:
    return column == "subject" or column.endswith("_subject")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
