"""What every metric promises."""

from __future__ import annotations

from synthkit.testing import Check, parametrize_with_checks


@parametrize_with_checks("memorization")
def test_conformance(check: Check) -> None:
    check()
