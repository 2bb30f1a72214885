"""Steps of a generator and a discriminator against each other: the non-saturating logistic loss, with R1.

Sources: Goodfellow et al. 2014, arXiv 1406.2661 (the loss); Mescheder et al. 2018, arXiv 1801.04406 (R1). Each step
takes its batch in microbatches, whose gradients it adds: an iterable that makes them as they are taken needs the memory
of one. With several processes the microbatches are those of this one's share, and ``count`` is their number.

A discriminator here is a function from images ``(n, channels, y, x)`` to logits ``(n,)``; high means real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from synthkit_torch import parallel
from torch import Tensor, nn

from synthkit_generative.freezing import without_gradients


def discriminator_step(
    discriminator: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    reals: Iterable[Tensor],
    fakes: Iterable[Tensor],
    count: int,
) -> tuple[Tensor, Tensor]:
    """One step of the discriminator on ``count`` equal microbatches; ``fakes`` carry no gradients.

    Returns the loss and the mean sign of the logits of real images (1 where all are taken for real).
    """
    optimiser.zero_grad(set_to_none=True)
    count *= parallel.n_processes()
    losses, signs = [], []
    for real, fake in zip(reals, fakes, strict=True):
        # One after the other: the memory of two graphs is not needed.
        loss_fake = F.softplus(discriminator(fake)).mean() / count
        torch.autograd.backward(loss_fake)
        logits = discriminator(real)
        loss_real = F.softplus(-logits).mean() / count
        torch.autograd.backward(loss_real)
        losses.append((loss_fake + loss_real).detach())
        signs.append(logits.detach().sign().mean() / count)
    parallel.step(optimiser)
    return parallel.total(losses), parallel.total(signs)


def r1_step(
    discriminator: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    reals: Iterable[Tensor],
    count: int,
    weight: float,
) -> None:
    """One step of the discriminator on ``weight`` times the mean R1 penalty of real images."""
    optimiser.zero_grad(set_to_none=True)
    count *= parallel.n_processes()
    for real in reals:
        images = real.detach().requires_grad_(True)
        torch.autograd.backward(r1_penalty(discriminator(images), images).mean() * (weight / count))
    parallel.step(optimiser)


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """R1: squared norm of the gradient of each logit with respect to its image, ``(n,)``; it can be derived again.

    Mescheder et al. 2018, arXiv 1801.04406, equation 9. ``images (n, channels, y, x)`` are real and require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def r1_weight(given: float | None, at_256: float, side: int) -> float:
    """The weight ``gamma`` that was given, or ``at_256`` in proportion to the number of pixels of an image.

    So do the official defaults of StyleGAN2-ADA and StyleGAN3 go with the size. A network that grows keeps one weight,
    that of its full size.
    """
    return at_256 * (side / 256) ** 2 if given is None else given


def generator_step(
    discriminator: Callable[[Tensor], Tensor],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    fakes: Iterable[Tensor],
    count: int,
) -> Tensor:
    """One step of the generator, whose gradients ``fakes`` carry; returns the loss.

    ``network`` is the discriminator's: its weights take no gradients in this step.
    """
    optimiser.zero_grad(set_to_none=True)
    count *= parallel.n_processes()
    losses = []
    with without_gradients(network):
        for fake in fakes:
            loss = F.softplus(-discriminator(fake)).mean() / count
            torch.autograd.backward(loss)
            losses.append(loss.detach())
    parallel.step(optimiser)
    return parallel.total(losses)
