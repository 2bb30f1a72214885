"""Where the arithmetic happens, how precisely, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from synthkit.errors import OutOfMemoryError, SynthkitError, is_out_of_memory


def find_device(rank: int = 0) -> torch.device:
    """The GPU of the process with this rank, the CPU where there is none."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def count_processes() -> int:
    """One process a GPU that the run may use; one on a CPU."""
    return max(1, torch.cuda.device_count())


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The type of ``"float32"``, ``"bfloat16"`` or ``"auto"``, which is bfloat16 on a GPU that has it."""
    if wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.bfloat16
    return torch.float32


@contextmanager
def whole_float32(wanted: bool = True) -> Iterator[None]:
    """Convolutions in float32 as it is, not in the 10-bit TF32 that cuDNN otherwise takes for it; off unless wanted."""
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


@contextmanager
def memory_errors(name: str, remedy: str, load: str = "") -> Iterator[None]:
    """Whatever says that memory ran out, of GPU or CPU, becomes an OutOfMemoryError of synthkit.

    Parameters
    ----------
    name : of the method.
    remedy : what to lower, a sentence.
    load : what it was that took the memory, as "batch_size 8 at 256x256 pixels".
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, SynthkitError) or not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or "allocation failed"
        why = f"{load} needs more than there is ({reason})." if load else reason
        raise OutOfMemoryError(f"{name} ran out of memory.", why, remedy) from error
