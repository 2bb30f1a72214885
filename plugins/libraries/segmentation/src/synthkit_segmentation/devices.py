"""Where the arithmetic happens, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from synthkit.errors import OutOfMemoryError


def find_device(rank: int = 0) -> torch.device:
    """The GPU of the process with this rank, the CPU where there is none."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def count_processes() -> int:
    """One process a GPU that the run may use; one on a CPU."""
    return max(1, torch.cuda.device_count())


@contextmanager
def memory_explained(name: str, load: str, remedy: str) -> Iterator[None]:
    """Turn an allocation failure into an error that says what to lower."""
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # The CPU allocator raises a plain RuntimeError.
        if type(error) is RuntimeError and "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemoryError(
            f"{name} ran out of memory.",
            f"{load} needs more than there is ({str(error).splitlines()[0] if str(error) else 'allocation failed'}).",
            remedy,
        ) from error
