"""Where the arithmetic happens, how precisely, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from synthkit.errors import OutOfMemoryError, SynthkitError, is_out_of_memory


def find_device(rank: int = 0) -> torch.device:
    """The GPU of the process with this rank, the CPU where there is none."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def count_processes() -> int:
    """One process a GPU that the run may use; one on a CPU."""
    return max(1, torch.cuda.device_count())


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The type of ``"float32"``, ``"tf32"``, ``"bfloat16"`` or ``"auto"``, which is bfloat16 on a GPU that has it.

    Those of compute capability 8.0 (Ampere) and later have it. ``torch.cuda.is_bf16_supported()`` is also true of older
    ones, which emulate it many times slower than they are in float32.
    """
    if wanted == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Operators that gain from it compute in this precision; nothing is changed for float32."""
    return nullcontext() if precision is torch.float32 else torch.autocast(device.type, precision)


@contextmanager
def fastest_convolutions(precision: torch.dtype, *, tf32: bool = False) -> Iterator[None]:
    """cuDNN tries its algorithms for each new shape and keeps the fastest: worth it where shapes stay the same.

    With float32 its convolutions are float32 as it is, unless ``tf32`` has them and products of matrices in TF32.
    """
    cudnn = torch.backends.cudnn
    short = tf32 or precision is not torch.float32
    with cudnn.flags(enabled=True, benchmark=True, allow_tf32=short), _products(tf32):
        yield


@contextmanager
def float32_arithmetic(*, tf32: bool = False) -> Iterator[None]:
    """Convolutions and products of matrices in float32 as it is, or in TF32, whose factors have 10 bits.

    GPUs of compute capability 8.0 and later have TF32; on others, and on a CPU, both are the same. cuDNN takes it for
    float32 unless it is told.
    """
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, tf32
    try:
        with _products(tf32):
            yield
    finally:
        cudnn.allow_tf32 = before


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """Products of matrices in TF32, or not."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, tf32
    try:
        yield
    finally:
        matmul.allow_tf32 = before


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
