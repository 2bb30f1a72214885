"""Presets: files of parameters that a plugin brings in its package, ``presets/NAME.toml``.

They are ordinary parameter files, as ``--params`` takes them. The first comment of a file says what it is for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthkit.contract import Declaration
from synthkit.errors import UsageError
from synthkit.registry.parameters import parse_assignments

#: The folder of presets in a plugin's package.
FOLDER = "presets"


def presets_of(declaration: Declaration) -> dict[str, Path]:
    """The presets of a plugin, by name in alphabetical order; its method is not imported."""
    try:
        spec = importlib.util.find_spec(declaration.module.rpartition(".")[0] or declaration.module)
    except ModuleNotFoundError:  # of a package above it: whoever needs the method says so
        spec = None
    folders = (spec and spec.submodule_search_locations) or ()
    files = sorted(file for folder in folders for file in (Path(folder) / FOLDER).glob("*.toml"))
    return {file.stem: file for file in files}


def read_preset(declaration: Declaration, name: str) -> Mapping[str, Any]:
    """The parameters of a preset. Raises :class:`UsageError` for one that the plugin does not bring."""
    presets = presets_of(declaration)
    if name not in presets:
        raise UsageError(
            f"{declaration.name} has no preset {name!r}.",
            f"It has: {', '.join(presets) or 'none'}.",
            f"See `synthkit plugins show {declaration.name}`, or leave --preset out.",
        )
    return parse_assignments((), presets[name])


def purpose(file: Path) -> str:
    """What a preset is for: the comment at its top, as one line; empty if there is none."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)
