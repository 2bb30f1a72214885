"""Whether operators that are one kernel take the place of several of torch's: on GPUs that Triton writes kernels for.

Triton comes with torch for CUDA and compiles a kernel when it is first used; it needs a C compiler once, for what loads
them. The kernels stand in modules of their own, which are imported where they are used, so that nothing needs Triton
without a GPU. Each has a reference in plain torch beside it, whose values and derivatives it has.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

import synthkit

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
    """Whether there are kernels for this device; a message where Triton ought to have some and cannot load them."""
    reason = why_none(device)
    if reason.startswith(_NOT_LOADED):
        synthkit.message(
            f"{reason}: operators are plain torch, which is slower. Triton needs a C compiler, and a folder for its "
            "cache (TRITON_CACHE_DIR) that programs may be loaded from."
        )
    return not reason


_NOT_LOADED = "Triton's kernels cannot be loaded here"


def why_none(device: torch.device) -> str:
    """Why there are no kernels for this device; "" where there are."""
    if device.type != "cuda" or torch.version.cuda is None:
        return "not an NVIDIA GPU"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return f"Triton has none below compute capability {OLDEST[0]}.{OLDEST[1]}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    try:
        from triton.runtime import driver

        driver.active.get_current_target()  # builds what loads kernels, if that was not done before
    except Exception as error:
        return f"{_NOT_LOADED} ({str(error).strip().partition(chr(10))[0] or type(error).__name__})"
    return ""
