# ruff: noqa: E402 (imports follow the check for torch)
"""Where memory runs out, torch's own words are understood; precision and device are what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_torch import devices
from synthkit_torch.devices import memory_errors

from synthkit.errors import DataError, OutOfMemoryError, is_out_of_memory

ABSURD = 2**50  # bytes


def test_torch_without_memory_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(ABSURD, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_torch_without_memory_says_what_to_lower() -> None:
    with (
        pytest.raises(OutOfMemoryError, match=rf"^Toy ran out of memory\. .*{ABSURD} bytes.* Lower batch_size\.$"),
        memory_errors("Toy", "Lower batch_size."),
    ):
        torch.empty(ABSURD, dtype=torch.uint8)


def test_numpy_without_memory_says_so_and_what_took_it() -> None:
    with (
        pytest.raises(OutOfMemoryError, match=r"batch_size 8 needs more than there is \(.*PiB"),
        memory_errors("Toy", "Lower batch_size.", "batch_size 8"),
    ):
        np.empty(ABSURD)


def test_a_gpu_without_memory_is_understood() -> None:
    """By its class; nothing here can make one."""
    with pytest.raises(OutOfMemoryError, match=r"CUDA out of memory\."), memory_errors("Toy", "Lower batch_size."):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.mark.parametrize("error", [RuntimeError("a shape"), DataError("A shard is corrupt."), OutOfMemoryError("No.")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors("Toy", "Lower batch_size."):
        raise error
    assert caught.value is error


def test_precision() -> None:
    cpu = torch.device("cpu")
    assert devices.choose_precision("auto", cpu) is devices.choose_precision("float32", cpu) is torch.float32
    assert devices.choose_precision("tf32", cpu) is torch.float32
    assert devices.choose_precision("bfloat16", cpu) is torch.bfloat16
