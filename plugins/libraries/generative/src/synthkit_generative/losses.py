"""Regularisation that several adversarial methods share."""

from __future__ import annotations

import torch
from torch import Tensor


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """R1: squared norm of the gradient of each score with respect to its image, ``(n,)``; it can be derived again.

    Mescheder et al. 2018, arXiv 1801.04406, equation 9. ``images (n, channels, y, x)`` are real and require gradients.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))
