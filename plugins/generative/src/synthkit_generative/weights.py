"""Weights over time: their moving average, what a saved state holds of them, and a batch taken in parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from synthkit.errors import UsageError

#: Samples that minibatch standard deviation compares (Karras et al. 2018, arXiv 1710.10196, section 3).
DEVIATION_GROUP = 4


def half_life_share(batch_size: int, images_shown: int, kimg: float, ramp: float | None = None) -> float:
    """How much of an average remains after one step: its half-life is ``kimg`` thousand images.

    With ``ramp`` the half-life is at most that share of the images shown so far, so that the first weights are soon
    forgotten. 0, the current weights, where the half-life is 0.
    """
    half_life = kimg * 1000 if ramp is None else min(kimg * 1000, images_shown * ramp)
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def follow(averaged: nn.Module, network: nn.Module, share: float) -> None:
    """One step of the exponential moving average: ``averaged = share * averaged + (1 - share) * network``.

    Buffers are copied: they hold what is counted, not what is learnt.
    """
    for average, current in zip(averaged.parameters(), network.parameters(), strict=True):
        average.lerp_(current, 1 - share)
    for average, current in zip(averaged.buffers(), network.buffers(), strict=True):
        average.copy_(current)


def gather(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Weights and moments under one name each, for :func:`scatter`."""
    tensors = {f"{role}.{name}": tensor for role, m in modules.items() for name, tensor in m.state_dict().items()}
    for role, optimiser in optimisers.items():
        for number, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{role}.{number}.{name}": tensor for name, tensor in moments.items()}
    return tensors


def scatter(
    tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Put what :func:`gather` gave back into its place."""
    for role, module in modules.items():
        module.load_state_dict(_below(tensors, f"{role}."))
    for role, optimiser in optimisers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _below(tensors, f"optimiser.{role}.").items():
            number, name = key.split(".")
            moments.setdefault(int(number), {})[name] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def group_size(n: int) -> int:
    """The largest group up to :data:`DEVIATION_GROUP` that divides ``n`` samples."""
    return next(size for size in range(DEVIATION_GROUP, 0, -1) if n % size == 0)


def parts(batch: Tensor, accumulate: int, groups: int | None = None) -> list[Tensor]:
    """A batch ``(n, ...)`` in ``accumulate`` equal parts, whose gradients sum to that of the batch.

    ``groups`` is the size of the groups that belong together (sample i with i + n / groups, ...), by default those of
    minibatch standard deviation, which a discriminator then forms of the parts as it would of the batch. 1 for a method
    whose samples know nothing of one another. UsageError where the parts would not be equal or would cut a group.
    """
    n = len(batch)
    groups = group_size(n) if groups is None else groups
    if n % (groups * accumulate):
        raise UsageError(
            f"A batch of {n} images cannot be taken in {accumulate} parts.",
            f"Each part must hold whole groups of {groups} images." if groups > 1 else "The parts must be equal.",
            f"Make batch_size a multiple of {groups * accumulate}, or lower accumulate.",
        )
    if accumulate == 1:
        return [batch]
    grouped = batch.reshape(groups, accumulate, n // groups // accumulate, *batch.shape[1:])
    return [grouped[:, number].flatten(0, 1) for number in range(accumulate)]
