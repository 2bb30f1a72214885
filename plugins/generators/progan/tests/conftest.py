"""One thread for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    try:
        from synthkit_generative.testing import one_thread
    except ImportError:  # without torch the tests skip themselves
        yield
        return
    with one_thread():
        yield
