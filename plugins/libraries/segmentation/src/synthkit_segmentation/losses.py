"""Soft Dice and cross-entropy over a batch that several processes may share.

Each process holds some images of the batch. Sums that a nonlinear function follows (those of Dice) are taken over all
processes; sums that are only divided (cross-entropy) stay apart and are divided by the number of pixels of the whole
batch over the number of processes. Either way the mean of the processes' gradients, which is what
``DistributedDataParallel`` takes, is the gradient of the loss of the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from synthkit_torch.parallel import n_processes
from torch import Tensor


def summed(values: Tensor) -> Tensor:
    """Sum over all processes, differentiable: each process's gradient is the sum of all."""
    if n_processes() == 1:
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """One minus the soft Dice, pooled over the batch (nnU-Net's batch Dice), mean over the foreground classes.

    ``logits`` (n, class, y, x), ``classes`` (n, y, x). ``(2 I + s) / (P + R + s)`` with s = 1e-5: a class that is
    neither there nor predicted has Dice 1.
    """
    probabilities = logits.float().softmax(1)[:, 1:]
    foreground = torch.arange(1, logits.shape[1], device=logits.device)
    reference = (classes[:, None] == foreground[:, None, None]).float()
    overlap = (probabilities * reference).sum((0, 2, 3))
    sizes = probabilities.sum((0, 2, 3)) + reference.sum((0, 2, 3))
    overlap, sizes = summed(torch.stack([overlap, sizes])).unbind()
    return 1 - ((2 * overlap + 1e-5) / (sizes + 1e-5)).mean()


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean over the pixels of the batch; with several processes the share of this one, as the module says."""
    total = F.cross_entropy(logits.float(), classes.long(), reduction="sum")
    n_pixels = summed(torch.tensor(float(classes.numel()), device=classes.device))
    return total * n_processes() / n_pixels


def dice_and_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """The loss of nnU-Net: cross-entropy plus soft Dice loss, equally weighted."""
    return cross_entropy(logits, classes) + dice_loss(logits, classes)
