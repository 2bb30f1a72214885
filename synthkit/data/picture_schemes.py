"""What pictures say of the scheme of their labels: the description that exports write beside them, names in nnU-Net's.

``scheme.json`` holds the scheme and the contrasts of the dataset that was exported, so that an import gives the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthkit.data.format import is_safe_name
from synthkit.data.named_schemes import SCHEMES
from synthkit.data.png_folders import SCHEME
from synthkit.errors import DataError
from synthkit.files import write_atomically
from synthkit.schemes import BRATS, Scheme


def write_scheme(folder: Path, scheme: Scheme, contrasts: Sequence[str]) -> None:
    """Write the description of an export."""
    text = json.dumps({"contrasts": list(contrasts), "scheme": scheme.to_dict()}, indent=1)
    write_atomically(folder / SCHEME, (text + "\n").encode())


def scheme_beside(path: Path) -> tuple[Scheme, tuple[str, ...]] | None:
    """Scheme and contrasts that an export at ``path`` describes; None without a description.

    Raises
    ------
    DataError : a description that cannot be read.
    """
    file = path / SCHEME
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
        contrasts = tuple(str(name) for name in data["contrasts"])
        if not all(map(is_safe_name, contrasts)):
            raise ValueError(f"its contrasts are {', '.join(contrasts)}")
        return Scheme.from_dict(data["scheme"]), contrasts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} does not describe labels.",
            f"{error!r}.",
            "Restore it; or remove it, and name the label scheme with --labels.",
        ) from error


def scheme_of_names(path: Path, labels: Mapping[str, Any]) -> Scheme:
    """The scheme of a description that gives each label a value: a known one of these names, else one of its own.

    Raises
    ------
    DataError : a label of several values, as regions have, or of none that can be.
    """
    names = {name.lower() for name in labels if name.lower() != "background"}
    if names <= {label.name.lower() for label in BRATS.labels}:
        return BRATS
    for scheme in SCHEMES.values():
        if names == {label.name.lower() for label in scheme.labels}:
            return scheme
    try:
        wrong = [f"{name}: {value}" for name, value in labels.items() if not _is_value(value)]
        wrong += [name for name in labels if not is_safe_name(name)]
        if wrong or not names:
            raise ValueError(", ".join(wrong) or "none")
        return Scheme.of_labels({name: value for name, value in labels.items() if name.lower() != "background"})
    except ValueError as error:
        raise DataError(
            f"The labels of {path} are not understood.",
            f"{error}; each has a name and one value of 0 to 255.",
            "Name them so in dataset.json, or give --without-labels.",
        ) from error


def _is_value(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
