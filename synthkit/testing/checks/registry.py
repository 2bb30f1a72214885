"""A check: a named promise with the function that tries it. The other modules of this package register theirs here."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from synthkit.contract import Declaration, GeneratorDeclaration, Kind, MetricDeclaration
from synthkit.testing.bench import CheckFailedError, CheckSkippedError, PluginUnderTest

Stage = Literal["declaration", "method", "job"]
CheckFunction = Callable[[PluginUnderTest], None]


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes
    ----------
    name : unique, in the form of an identifier.
    promise : one sentence, what the plugin promises.
    kinds : kinds of plugin that promise it.
    audits : whether of these only audits do.
    asked : whether of these only generators do that can be asked for more than seeds.
    stage : what it takes: the declaration alone, the method, or a whole job through a backend.
    function : raises if the promise is not kept.
    """

    name: str
    promise: str
    kinds: frozenset[Kind]
    stage: Stage
    function: CheckFunction
    audits: bool = False
    asked: bool = False

    def concerns(self, declaration: Declaration) -> bool:
        """Whether a plugin promises this."""
        is_audit = isinstance(declaration, MetricDeclaration) and declaration.audit
        return (
            declaration.kind in self.kinds
            and (is_audit or not self.audits)
            and (can_be_asked(declaration) or not self.asked)
        )


def can_be_asked(declaration: Declaration) -> bool:
    """Whether a generator can be asked for more than seeds."""
    return isinstance(declaration, GeneratorDeclaration) and bool(
        declaration.label_maps or fields(declaration.conditions)
    )


@dataclass(frozen=True)
class CheckResult:
    """How a check went; ``reason`` is empty when it passed."""

    name: str
    promise: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


CHECKS: list[Check] = []


def check(
    *kinds: Kind, stage: Stage = "method", audits: bool = False, asked: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Register the decorated function; the first paragraph of its docstring is the promise."""

    def register(function: CheckFunction) -> CheckFunction:
        promise = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        CHECKS.append(Check(function.__name__, promise, frozenset(kinds), stage, function, audits, asked))
        return function

    return register


def perform(item: Check, plugin: PluginUnderTest) -> CheckResult:
    """Make the check. Whatever the plugin raises is a failure of the check, never of the caller."""
    start = time.monotonic()
    status: Literal["passed", "failed", "skipped"] = "passed"
    reason = ""
    try:
        item.function(plugin)
    except CheckSkippedError as error:
        status, reason = "skipped", str(error)
    except CheckFailedError as error:
        status, reason = "failed", str(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        status = "failed"
        reason = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
    return CheckResult(item.name, item.promise, status, reason, round(time.monotonic() - start, 3))
