"""Several processes, one a GPU, that take each step of a training together.

Every process holds all weights and takes its share of a batch. What is random is drawn for the whole batch by all of
them, and each keeps the rows of its share; gradients and losses are added up. So a step is that of one process with the
whole batch, within rounding, whatever the number of processes, and all keep the same weights. In one process each
function here gives back what it is given.

Shares keep together the groups that minibatch standard deviation forms of the batch where each can hold whole ones
(``batch_size`` a multiple of four times the processes); else the groups are smaller, formed within a share, as the
official implementations do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from synthkit.errors import UsageError
from synthkit_torch import processes
from synthkit_torch.devices import find_device

#: Rows of a batch that belong together: as many as minibatch standard deviation compares (Karras et al. 2018, arXiv
#: 1710.10196, section 3).
GROUP = 4


def launch(work: Callable[[Any, int], None], plan: Any, n: int) -> None:
    """Call ``work(plan, rank)`` in ``n`` processes, in this one if it is one, and return when all are done.

    ``work`` is a function of a module, and ``plan`` can be pickled unless ``n`` is 1. The first error of a process ends
    all and is raised.
    """
    if n == 1:
        return work(plan, 0)
    processes.launch(functools.partial(_join, work), plan, n)


def _join(work: Callable[[Any, int], None], plan: Any, rank: int, n: int, rendezvous: Path) -> None:
    device = find_device(rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=rendezvous.as_uri(), rank=rank, world_size=n)
    work(plan, rank)
    dist.destroy_process_group()


def n_processes() -> int:
    """How many take a step together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 writes and reports."""
    return dist.get_rank() if n_processes() > 1 else 0


def rows(n: int, world: int, rank: int) -> NDArray[np.int64]:
    """Which of the ``n`` rows of a batch are the share of one of ``world`` processes, in ascending order.

    UsageError where shares would not be equal.
    """
    if n % world:
        raise UsageError(
            f"{world} GPUs cannot share a batch of {n} images.",
            "Their shares must be equal.",
            f"Make batch_size a multiple of {GROUP * world}, or give fewer GPUs (--gpus).",
        )
    groups = next(size for size in range(GROUP, 0, -1) if n % (size * world) == 0)
    return np.arange(n).reshape(groups, world, -1)[:, rank].ravel()


def share(batch: Tensor) -> Tensor:
    """This process's rows of what was drawn for a whole batch ``(n, ...)``."""
    world = n_processes()
    return batch if world == 1 else batch[torch.from_numpy(rows(len(batch), world, rank())).to(batch.device)]


def total(values: Sequence[Tensor]) -> Tensor:
    """Sum of scalars, or of arrays of one shape, over the parts of a share and over all processes."""
    return _summed(torch.stack(list(values)).sum(dim=0))


def mean(value: Tensor) -> Tensor:
    """Mean over the processes."""
    return value if n_processes() == 1 else _summed(value) / n_processes()


def step(optimiser: torch.optim.Optimizer) -> None:
    """One step of an optimiser, on the sum of the gradients of all processes."""
    if n_processes() > 1:
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        summed = _summed(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, values in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view(gradient.shape))
    optimiser.step()


def _summed(value: Tensor) -> Tensor:
    if n_processes() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value
