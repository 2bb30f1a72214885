"""synthkit: synthetic labelled MR images, their use in segmentation, and an audit of what they copy.

Importing this package costs nothing: no numpy, no torch. What a plugin author needs is here.
"""

from __future__ import annotations

from synthkit.contract import (
    CONTRACT_VERSION,
    Citation,
    Declaration,
    GeneratorDeclaration,
    MetricDeclaration,
    Row,
    Score,
    ScoreDefinition,
    SegmenterDeclaration,
    param,
)
from synthkit.events import message, progress
from synthkit.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = [
    "CONTRACT_VERSION",
    "Citation",
    "Declaration",
    "GeneratorDeclaration",
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
