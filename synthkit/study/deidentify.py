"""De-identified text files: subjects under other names, no pictures, no folders of this machine.

Hashed names (``subject_keys``, ``alias_keys``) are dropped as well: names of public datasets can be counted through.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import escape

from synthkit.errors import DataError
from synthkit.running.run import Run
from synthkit.study import layout

#: A path from the root, from home or upwards; after a letter, ``<`` or ``:`` it would be a fraction, a tag, a URL.
_PATH = re.compile(r"(?<![\w.:/<~\\-])(?:/(?=[\w.@+-]+/)|(?:~|\.\.)/)(?:[\w.@+-]+/)*[\w.@+-]*")
_HASHED = ("subject_keys", "alias_keys")
_PICTURE = re.compile(r"data:image/(?!svg)[a-z0-9.+-]+;base64,[A-Za-z0-9+/=\s]+")
_EMPTY_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@dataclass(frozen=True)
class Deidentifier:
    """Rewrites texts: subjects get other names (``names``), and paths out of the study their last name.

    ``folders``: what stands for folders that are known; a path with a space is found no other way.
    """

    names: Mapping[str, str]
    folders: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, runs: Iterable[Run], *, keep_names: bool) -> Deidentifier:
        """For the runs of a folder; subjects become ``subject-001`` and so on, in the order of their names."""
        found = set() if keep_names else {name for run in runs for name in subjects_of(run)}
        names = {name: f"subject-{number:03d}" for number, name in enumerate(sorted(found), start=1)}
        return cls(names, {**_paths_of_the_study(folder), str(folder.resolve()): ".", str(Path.home()): "~"})

    def clean(self, path: Path) -> bytes | None:
        """The content of a file as it may be given away; None if that cannot be said."""
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".json", ".lock"):
            return (json.dumps(self.value(json.loads(text)), indent=1, allow_nan=False) + "\n").encode()
        if path.suffix == ".csv":
            return self._table(text).encode()
        text = _PICTURE.sub(_EMPTY_PICTURE, text)
        if any(not re.search("[A-Za-z]", name) and self._pattern([name]).search(text) for name in self.names):
            return None  # a name of digits alone is not to be told from a number
        return self.text(text).encode()

    def value(self, value: Any) -> Any:
        """A JSON value with its strings rewritten."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items() if key not in _HASHED}
        return value

    def text(self, text: str) -> str:
        """A text with folders cut, and with the names replaced where they stand as words."""
        if self._folder is not None:
            text = self._folder.sub(lambda match: self.folders[match[0]], text)
        text = _PATH.sub(lambda match: Path(match[0]).name, text)
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

    @cached_property
    def _folder(self) -> re.Pattern[str] | None:
        """Whole folders, not the beginning of another's name; the root of all is none."""
        found = sorted((folder for folder in self.folders if Path(folder).name), key=len, reverse=True)
        alternatives = "|".join(map(re.escape, found))
        return re.compile(rf"(?<![\w.~-])(?:{alternatives})(?![\w-]|\.\w)") if found else None

    def _pattern(self, names: Iterable[str]) -> re.Pattern[str]:
        # The longest first: a name may begin with another.
        alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        return re.compile(rf"(?<![A-Za-z0-9])(?:{alternatives})(?![A-Za-z0-9])")


def _paths_of_the_study(folder: Path) -> dict[str, str]:
    """Last names of the paths in ``study.toml`` that lead out of the study; as written there and as in a page."""
    try:
        settings = tomllib.loads((folder / layout.STUDY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    paths = [text for text in _strings(settings) if text.startswith(("/", "../", "~/"))]
    return {form: Path(path).name for path in paths for form in (path, str(escape(path)))}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


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
    from synthkit.data.dataset import Dataset

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
