"""Fixtures for tests of methods on torch: a ``conftest.py`` imports those it wants. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks of tests gain nothing from threads, and lose much to their waiting on a busy machine."""
    try:
        import torch
    except ImportError:  # the tests skip themselves
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def no_gpu() -> Iterator[None]:
    """torch sees no GPU, if nothing has asked it before; nor do the processes that a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def interpreted_kernels() -> Iterator[None]:
    """Fused operators run on a CPU, by Triton's interpreter."""
    pytest.importorskip("triton", reason="triton is not installed")
    from synthkit_torch import fused

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(fused, "has_kernels", lambda device: True)
        yield
