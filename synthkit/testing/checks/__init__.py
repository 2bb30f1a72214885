"""The conformance suite: all checks, and the ways to make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from synthkit.contract import Declaration, GeneratorDeclaration, MetricDeclaration, SegmenterDeclaration
from synthkit.errors import PluginError
from synthkit.registry.registry import Registry, discover
from synthkit.running import backends
from synthkit.running.run import Job
from synthkit.testing.bench import PluginUnderTest

# Registration is by import; the order here is the order in which the checks are made.
from synthkit.testing.checks import asking as _asking
from synthkit.testing.checks import audit as _audit
from synthkit.testing.checks import declaration as _declaration
from synthkit.testing.checks import generator as _generator
from synthkit.testing.checks import job as _job
from synthkit.testing.checks import metric as _metric
from synthkit.testing.checks import segmenter as _segmenter
from synthkit.testing.checks import trained as _trained
from synthkit.testing.checks.registry import CHECKS, Check, CheckResult, perform

__all__ = [
    "CHECKS",
    "Check",
    "CheckResult",
    "check_generator",
    "check_metric",
    "check_segmenter",
    "checks_for",
    "parametrize_with_checks",
    "run_checks",
]

_ORDER = (_declaration, _trained, _generator, _asking, _segmenter, _metric, _audit, _job)
CHECKS.sort(key=lambda item: [m.__name__ for m in _ORDER].index(item.function.__module__))


def checks_for(declaration: Declaration, *, jobs: bool = False) -> list[Check]:
    """The checks that a plugin of this kind has to pass, the cheap ones first.

    ``jobs`` adds those that run whole jobs through a backend.
    """
    return [item for item in CHECKS if item.concerns(declaration) and (jobs or item.stage != "job")]


def check_generator(declaration: GeneratorDeclaration, **how: Any) -> list[CheckResult]:
    """Make all checks of a generator; raises :class:`AssertionError` that lists those that failed.

    ``how`` are keyword arguments of :class:`PluginUnderTest`: ``params``, ``module``, ``backend``, ``registry``.
    """
    return _check(declaration, how)


def check_segmenter(declaration: SegmenterDeclaration, **how: Any) -> list[CheckResult]:
    """As :func:`check_generator`, for a segmenter."""
    return _check(declaration, how)


def check_metric(declaration: MetricDeclaration, **how: Any) -> list[CheckResult]:
    """As :func:`check_generator`, for a metric."""
    return _check(declaration, how)


def _check(declaration: Declaration, how: Mapping[str, Any]) -> list[CheckResult]:
    plugin = PluginUnderTest(declaration, **how)
    results = [perform(item, plugin) for item in checks_for(declaration, jobs=plugin.backend is not None)]
    failed = [f"{result.name}: {result.reason}" for result in results if result.status == "failed"]
    if failed:
        raise AssertionError("\n".join([f"{declaration.name} fails {len(failed)} of {len(results)} checks", *failed]))
    return results


def run_checks(
    name: str,
    *,
    backend: str = "inline",
    registry: Registry | None = None,
    on_check: Callable[[CheckResult, int, int], None] | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check an installed plugin; what ``synthkit plugins check NAME`` does.

    Raises what the backend says beforehand, :class:`BackendUnavailableError` among others.

    Parameters
    ----------
    name : the plugin. :class:`PluginError` if there is none of this name, or if it is broken.
    backend : "inline" makes the checks of declaration and method; any other also runs whole jobs on that backend.
    registry : the plugins; None finds the installed ones.
    on_check : called with each result as it comes, how many there are now, and how many there will be.
    params : over the ``CONFORMANCE_PARAMS`` of the plugin's package.
    """
    registry = registry or discover()
    declaration = registry.get(name)
    jobs = backend != "inline"
    if jobs:  # a backend that is not there is no fault of the plugin
        backends.get(backend).check(declaration, Job(verb="train", plugins=(name,)))
    plugin = PluginUnderTest(declaration, params=params, backend=backend if jobs else None, registry=registry)
    results: list[CheckResult] = []
    checks = checks_for(declaration, jobs=jobs)
    for item in checks:
        results.append(perform(item, plugin))
        if on_check is not None:
            on_check(results[-1], len(results), len(checks))
    return results


@dataclass(frozen=True)
class _BoundCheck:
    """A check of one plugin, ready to be called by a test."""

    item: Check
    plugin: PluginUnderTest

    def __call__(self) -> None:
        result = perform(self.item, self.plugin)
        if result.status == "skipped":
            import pytest

            pytest.skip(result.reason)
        if result.status == "failed":
            raise AssertionError(f"{result.promise}\n{self.plugin.declaration.name}: {result.reason}")


@dataclass(frozen=True)
class _Unusable:
    """Stands in for the checks of a plugin that is broken: fails with the reason."""

    error: PluginError

    def __call__(self) -> None:
        raise self.error


def parametrize_with_checks(*plugins: str | Declaration, **how: Any) -> Any:
    """Parametrise a test over the checks of plugins, given by name or by declaration; its argument is ``check``.

    A plugin that is not installed is skipped with that reason, and so are the checks of a method that needs something
    that is not installed. ``how`` are keyword arguments of :class:`PluginUnderTest`.

    >>> @parametrize_with_checks("stylegan2")
    ... def test_conformance(check):
    ...     check()
    """
    import pytest

    cases = []
    registry: Registry | None = None
    for given in plugins:
        declaration = given if isinstance(given, Declaration) else None
        if isinstance(given, str):
            registry = registry or discover()
            broken = any(b.name == given for b in registry.broken)
            if given not in registry.declarations and not broken:
                skip = pytest.mark.skip(reason=f"the plugin {given} is not installed")
                cases.append(pytest.param(None, marks=skip, id=given))
                continue
            try:
                declaration = registry.get(given)
            except PluginError as error:
                cases.append(pytest.param(_Unusable(error), id=given))
                continue
        if declaration is not None:
            plugin = PluginUnderTest(declaration, **how)
            for item in checks_for(declaration, jobs=plugin.backend is not None):
                cases.append(pytest.param(_BoundCheck(item, plugin), id=f"{declaration.name}-{item.name}"))
    return pytest.mark.parametrize("check", cases)
