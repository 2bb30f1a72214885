"""Weights over time: their exponential moving average (EMA), and what a saved state holds of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from synthkit_torch import parallel
from torch import Tensor, nn


def ema_decay(batch_size: int, images_shown: int, kimg: float, ramp: float | None = None) -> float:
    """The decay of one step of an exponential moving average whose half-life is ``kimg`` thousand images.

    With ``ramp`` the half-life is at most that share of the images shown so far, so that the first weights are soon
    forgotten. 0, the current weights, where the half-life is 0.
    """
    half_life = kimg * 1000 if ramp is None else min(kimg * 1000, images_shown * ramp)
    return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """One step of the exponential moving average: ``ema = decay * ema + (1 - decay) * network``.

    Buffers are copied: they hold what is counted, not what is learned. Of several processes only the first, which
    writes and draws, has an average.
    """
    if parallel.rank():
        return
    for average, current in zip(ema.parameters(), network.parameters(), strict=True):
        average.lerp_(current, 1 - decay)
    for kept, buffer in zip(ema.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)


def state_dict(modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Weights and moments under one name each, for :func:`load_state_dict`."""
    tensors = {f"{role}.{name}": tensor for role, m in modules.items() for name, tensor in m.state_dict().items()}
    for role, optimiser in optimisers.items():
        for number, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{role}.{number}.{name}": tensor for name, tensor in moments.items()}
    return tensors


def load_state_dict(
    tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer]
) -> None:
    """Put what :func:`state_dict` gave back into its place."""
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
