"""Whether operators that are one kernel take the place of several of torch's: on GPUs that Triton writes kernels for.

Triton comes with torch for CUDA and compiles a kernel when it is first used; nothing has to be installed or built. The
kernels stand in modules of their own, which are imported where they are used, so that nothing needs Triton without a
GPU. Each has a reference in plain torch beside it, whose values and derivatives it has.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: Compute capability of the oldest GPUs that Triton supports: Ampere.
OLDEST = (8, 0)
TYPES = (torch.float32, torch.float16, torch.bfloat16)

# Not local to a thread: gradients are computed in threads of torch's own.
_wanted = True


@contextmanager
def fused_operators(wanted: bool) -> Iterator[None]:
    """Inside, fused operators are used where they can be, or not at all."""
    global _wanted
    before, _wanted = _wanted, wanted
    try:
        yield
    finally:
        _wanted = before


def is_fused(x: Tensor) -> bool:
    """Whether operators on ``x`` take their fused form."""
    return _wanted and x.dtype in TYPES and has_kernels(x.device)


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Whether Triton is there and writes kernels for this device."""
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_device_capability(device) >= OLDEST
        and importlib.util.find_spec("triton") is not None
    )
