"""One process a GPU, joined so that each can add up what all have found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from synthkit.running import processes
from synthkit_segmentation import devices


def launch(work: Callable[[Any, int], None], plan: Any, n: int) -> None:
    """Call ``work(plan, rank)`` in ``n`` processes, in this one if it is one, and return when all are done.

    ``work`` is a function of a module and ``plan`` can be pickled. The first error of a process ends all and is raised.
    """
    if n == 1:
        return work(plan, 0)
    processes.launch(functools.partial(_join, work), plan, n)


def _join(work: Callable[[Any, int], None], plan: Any, rank: int, n: int, meeting: Path) -> None:
    device = devices.find_device(rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting.as_uri(), rank=rank, world_size=n)
    work(plan, rank)
    dist.destroy_process_group()
