"""One thread for all tests, and no GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _cpu_with_one_thread() -> Iterator[None]:
    try:
        from synthkit_segmentation.testing import one_thread
    except ImportError:  # without torch the tests skip themselves
        yield
        return
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield
