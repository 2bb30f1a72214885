"""synthkit: synthetic labelled MR images, their use in segmentation, and an audit of what they copy.

Importing this package costs nothing: no numpy, no torch. What a plugin author needs is here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthkit.contract import (
        CONTRACT_VERSION,
        Asked,
        Citation,
        Declaration,
        GeneratorDeclaration,
        Kept,
        MetricDeclaration,
        Row,
        Score,
        ScoreDefinition,
        SegmenterDeclaration,
        param,
    )
    from synthkit.events import message, progress
    from synthkit.registry.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = [
    "CONTRACT_VERSION",
    "Asked",
    "Citation",
    "Declaration",
    "GeneratorDeclaration",
    "Kept",
    "MetricDeclaration",
    "Row",
    "Score",
    "ScoreDefinition",
    "SegmenterDeclaration",
    "__version__",
    "hookimpl",
    "message",
    "param",
    "progress",
]

_ELSEWHERE = {"message": "synthkit.events", "progress": "synthkit.events", "hookimpl": "synthkit.registry.hookspecs"}


def __getattr__(name: str) -> Any:
    # On first use: `synthkit --help` needs none of it, and it is a third of what that costs.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ELSEWHERE.get(name, "synthkit.contract")), name)
    globals()[name] = value
    return value
