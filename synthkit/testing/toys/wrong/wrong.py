"""A wrong toy: a right one with some functions replaced."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from synthkit.contract import Declaration


@dataclass(frozen=True)
class Wrong:
    """One wrong plugin.

    Attributes
    ----------
    check : the one check that it fails.
    what : what is wrong with it; unique.
    declaration : its declaration.
    module : its method; None where the declaration's module is to be imported.
    """

    check: str
    what: str
    declaration: Declaration
    module: Any = None


def declared(check: str, what: str, right: Declaration, **changes: Any) -> Wrong:
    """A right method whose declaration is changed."""
    return Wrong(check, what, replace(right, **changes))


def method(check: str, what: str, right: Declaration, **functions: Callable[..., Any]) -> Wrong:
    """A right declaration whose method has some functions replaced."""
    module = vars(importlib.import_module(right.module))
    return Wrong(check, what, right, SimpleNamespace(**{**module, **functions}))
