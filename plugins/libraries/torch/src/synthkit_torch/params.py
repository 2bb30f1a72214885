"""Parameters that several methods share. Needs the standard library alone: declarations import it."""

from __future__ import annotations

import dataclasses
from typing import Any


def changed(params: type, name: str, default: Any, help: str = "") -> Any:
    """The parameter ``name`` of a parameter class, with another default and, if given, another help text.

    For the body of a class that inherits it. Bounds, choices and unit stay; so does its place among the parameters.
    """
    kept = next(item for item in dataclasses.fields(params) if item.name == name)
    return dataclasses.field(default=default, metadata={**kept.metadata, "help": help or kept.metadata["help"]})
