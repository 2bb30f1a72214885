"""The promises of every plugin."""

from __future__ import annotations

from collections.abc import Callable

from synthkit.testing import parametrize_with_checks


@parametrize_with_checks("label-realism", "contrast-identity", "obedience", "surface-dice")
def test_conformance(check: Callable[[], None]) -> None:
    check()
