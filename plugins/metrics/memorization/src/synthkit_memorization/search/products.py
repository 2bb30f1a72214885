"""Exact inner products of rows of bytes on the CPU: by PyTorch in 8-bit integers, or by NumPy in float32.

Processors with instructions for bytes multiply them several times faster than float32, but NumPy does not use these;
PyTorch does. On others its product of bytes is slow, or its 16-bit sums saturate. So it is used where a trial shows it
to be exact and faster. Both ways give the same integers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.pixels import CHUNK, Int8
from synthkit_memorization.search.threads import NAME

#: Pixels whose products, at most 2^14 each, are summed in 32 bits.
PIECE = 2**16

#: Products of two pixels (a tenth of a millisecond) below which PyTorch is not asked, nor loaded.
WORTH_IT = 10**7

#: Queries, training images and repetitions of the trial.
TRIAL = 128, 512, 3

#: From int8 ``(n, pixel)`` and ``(m, pixel)`` of at most PIECE pixels their inner products, int32 ``(n, m)``.
Multiply = Callable[[Int8, Int8], NDArray[np.int32]]


@cache
def multiply_bytes() -> Multiply | None:
    """PyTorch's product of bytes; None where there is none, or it is not exact, or NumPy is faster."""
    try:
        import torch
    except ImportError:
        return None

    here = threading.local()

    def multiply(x: Int8, y: Int8) -> NDArray[np.int32]:
        if threading.current_thread().name.startswith(NAME) and not hasattr(here, "alone"):
            torch.set_num_threads(1)  # of this thread: it works beside others of its kind
            here.alone = True
        found: NDArray[np.int32] = torch._int_mm(torch.from_numpy(x), torch.from_numpy(y).T).numpy()
        return found

    n, m, times = TRIAL
    values = np.random.default_rng(0).integers(-128, 128, (n + m, CHUNK))
    values[: n // 2], values[n : n + m // 2] = -128, -128  # the largest sums
    x, y = values[:n].astype(np.int8), values[n:].astype(np.int8)
    floats = x.astype(np.float32), y.astype(np.float32)
    try:
        exact = np.array_equal(multiply(x, y), values[:n] @ values[n:].T)
    except RuntimeError:
        return None
    if not exact:
        return None
    seconds = min(_seconds(multiply, x, y) for _ in range(times))
    return multiply if seconds < min(_seconds(_in_float32, *floats) for _ in range(times)) else None


def _in_float32(x: Any, y: Any) -> Any:
    return x @ y.T


def _seconds(function: Callable[[Any, Any], Any], x: Any, y: Any) -> float:
    start = time.perf_counter()
    function(x, y)
    return time.perf_counter() - start
