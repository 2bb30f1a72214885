"""What a network is shown: z-scored slices, padded to what it can take."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: A pixel is background where no contrast exceeds this grey level (of 255). Padding of real slices is exactly 0;
#: generated background is not, and counting its few grey levels as brain would shift mean and deviation.
BACKGROUND_LEVEL = 4


def normalise(images: Tensor) -> Tensor:
    """Z-score of each channel of each slice over its non-background pixels; background becomes 0.

    Parameters
    ----------
    images : uint8 (n, contrast, y, x). A pixel is background where no contrast exceeds ``BACKGROUND_LEVEL``.

    Returns
    -------
    float32, same shape. A channel that is constant over its foreground, and an empty slice, become 0 throughout.
    """
    foreground = (images > BACKGROUND_LEVEL).any(1, keepdim=True)
    values = images.to(torch.int32) * foreground
    # Integer sums are exact, so that a slice's result does not depend on its neighbours in the batch.
    count = foreground.sum((2, 3), keepdim=True).clamp(min=1)
    total, squares = values.sum((2, 3), keepdim=True), (values * values).sum((2, 3), keepdim=True)
    variance = (count * squares - total * total).double() / (count * count).double()
    scale = torch.where(variance > 0, variance.clamp(min=1e-12).rsqrt(), torch.zeros_like(variance))
    mean = total.double() / count.double()
    return (images.float() - mean.float()) * scale.float() * foreground


def pad(images: Tensor, stride: int, smallest: int) -> Tensor:
    """Zeros at the bottom and right of (..., y, x) up to multiples of ``stride``, and to ``smallest`` at least."""
    height, width = (-(-max(side, smallest) // stride) * stride for side in images.shape[-2:])
    return F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))
