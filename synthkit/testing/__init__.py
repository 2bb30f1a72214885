"""A kit for the tests of a plugin: its promises as checks, and data in memory. Importing this costs nothing.

A plugin's conformance test is four lines::

    from synthkit.testing import parametrize_with_checks

    @parametrize_with_checks("stylegan2")
    def test_conformance(check):
        check()

Training with a method's defaults takes hours, so a plugin says in its declaration module what makes it quick::

    CONFORMANCE_PARAMS = {"kimg": 0.05, "batch_size": 4}

a plain dictionary of parameters that suffice for a few training steps on 32 x 32 pixels. Only the checks read it.

For tests of the method itself, :class:`InMemorySamples` and :class:`InMemoryVolumes` are arrays in the form in which a
method gets its data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthkit.testing.bench import PluginUnderTest
    from synthkit.testing.checks import (
        Check,
        CheckResult,
        check_generator,
        check_metric,
        check_segmenter,
        checks_for,
        parametrize_with_checks,
        run_checks,
    )
    from synthkit.testing.memory import InMemorySamples, InMemoryVolumes

__all__ = [
    "Check",
    "CheckResult",
    "InMemorySamples",
    "InMemoryVolumes",
    "PluginUnderTest",
    "check_generator",
    "check_metric",
    "check_segmenter",
    "checks_for",
    "parametrize_with_checks",
    "run_checks",
]


def __getattr__(name: str) -> Any:
    # The toys live below this package and are declarations, which import no numpy; the checks do.
    if name == "PluginUnderTest":
        from synthkit.testing import bench

        return bench.PluginUnderTest
    if name in ("InMemorySamples", "InMemoryVolumes"):
        from synthkit.testing import memory

        return getattr(memory, name)
    if name in __all__:
        from synthkit.testing import checks

        return getattr(checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
