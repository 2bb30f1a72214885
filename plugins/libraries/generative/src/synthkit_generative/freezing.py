"""Networks that are not trained: the first layers of a discriminator that goes on (FreezeD), and one in a whole step.

Source: Mo, Cho, Shin 2020, arXiv 2002.10964: with few images a discriminator keeps the general features of its first
layers, which many images have taught it, and learns the others anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from synthkit.errors import UsageError
from synthkit_generative.initial import Initial


def require_discriminator(frozen_layers: int, initial: Initial | None) -> None:
    """UsageError where layers are to stay as they are, and there is no discriminator that they could be of."""
    if frozen_layers == 0:
        return
    summary = f"frozen_layers={frozen_layers} has no layers to keep."
    if initial is None:
        raise UsageError(
            summary,
            "A training that begins anew has a discriminator that has learned nothing yet.",
            "Begin with another training (--from), or give frozen_layers=0.",
        )
    if not initial.has_state:
        raise UsageError(
            summary,
            "The checkpoint that it begins with comes without the state of its training, which has the discriminator.",
            "Begin with a run whose outputs have a folder `state`, or give frozen_layers=0.",
        )


def freeze(layers: Sequence[nn.Module], frozen_layers: int) -> None:
    """Take no gradients for the first ``frozen_layers`` of a discriminator's ``layers``, which begin at the image.

    UsageError if it has fewer.
    """
    if frozen_layers > len(layers):
        raise UsageError(
            f"frozen_layers={frozen_layers} is more than there are.",
            f"Before 4 x 4 pixels the discriminator has {len(layers)}; those after that are always trained.",
            f"Give frozen_layers={len(layers)} or less.",
        )
    for layer in layers[:frozen_layers]:
        layer.requires_grad_(False)


@contextmanager
def without_gradients(network: nn.Module) -> Iterator[None]:
    """In the block the weights of ``network`` take no gradients; after it those do that did before."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
