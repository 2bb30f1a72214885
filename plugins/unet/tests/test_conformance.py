"""The promises of every plugin."""

from __future__ import annotations

from synthkit.testing import Check, parametrize_with_checks


@parametrize_with_checks("unet")
def test_conformance(check: Check) -> None:
    check()
