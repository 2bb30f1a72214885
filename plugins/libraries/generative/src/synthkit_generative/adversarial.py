"""Steps of a generator and a discriminator against each other: the non-saturating logistic loss, with R1.

Sources: Goodfellow et al. 2014, arXiv 1406.2661 (the loss); Mescheder et al. 2018, arXiv 1801.04406 (R1). Each step
takes its batch in parts, whose gradients it adds: an iterable that makes its parts as they are taken needs the memory
of one. With several processes the parts are those of this one's share, and ``count`` is their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from synthkit_torch import parallel
from torch import Tensor, nn

from synthkit_generative.losses import r1_penalty

#: Scores ``(n,)`` of images ``(n, channels, y, x)``; high means real.
Judge = Callable[[Tensor], Tensor]


def tell_apart(
    judge: Judge, optimiser: torch.optim.Optimizer, reals: Iterable[Tensor], fakes: Iterable[Tensor], count: int
) -> tuple[Tensor, Tensor]:
    """One step of the discriminator on ``count`` equal parts; ``fakes`` carry no gradients.

    Returns the loss and the mean sign of the scores of real images (1 where all are told to be real).
    """
    optimiser.zero_grad(set_to_none=True)
    count *= parallel.n_processes()
    losses, signs = [], []
    for real, fake in zip(reals, fakes, strict=True):
        # One after the other: the memory of two graphs is not needed.
        loss_fake = F.softplus(judge(fake)).mean() / count
        torch.autograd.backward(loss_fake)
        scores = judge(real)
        loss_real = F.softplus(-scores).mean() / count
        torch.autograd.backward(loss_real)
        losses.append((loss_fake + loss_real).detach())
        signs.append(scores.detach().sign().mean() / count)
    parallel.step(optimiser)
    return parallel.total(losses), parallel.total(signs)


def penalise_slope(
    judge: Judge, optimiser: torch.optim.Optimizer, reals: Iterable[Tensor], count: int, weight: float
) -> None:
    """One step of the discriminator on ``weight`` times the mean R1 penalty of real images."""
    optimiser.zero_grad(set_to_none=True)
    count *= parallel.n_processes()
    for real in reals:
        shown = real.detach().requires_grad_(True)
        torch.autograd.backward(r1_penalty(judge(shown), shown).mean() * (weight / count))
    parallel.step(optimiser)


def convince(
    judge: Judge, discriminator: nn.Module, optimiser: torch.optim.Optimizer, fakes: Iterable[Tensor], count: int
) -> Tensor:
    """One step of the generator, whose gradients ``fakes`` carry; returns the loss."""
    optimiser.zero_grad(set_to_none=True)
    discriminator.requires_grad_(False)
    count *= parallel.n_processes()
    losses = []
    for fake in fakes:
        loss = F.softplus(-judge(fake)).mean() / count
        torch.autograd.backward(loss)
        losses.append(loss.detach())
    discriminator.requires_grad_(True)
    parallel.step(optimiser)
    return parallel.total(losses)
