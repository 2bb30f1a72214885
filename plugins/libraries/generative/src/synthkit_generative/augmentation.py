"""Adaptive discriminator augmentation of the kinds that suit MR (Karras et al. 2020, arXiv 2006.06676)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Augmentation of a batch: which images are mirrored ``(n,)``, shift in pixels ``(n, 2)``, contrast ``(n, channels)``.
Transforms = tuple[Tensor, Tensor, Tensor]


def draw_transforms(
    shape: Sequence[int], probability: float, random: torch.Generator, label_channels: int = 1
) -> Transforms:
    """What happens to each image of a batch ``(n, contrast + label_channels, y, x)``, every kind with ``probability``.

    Mirroring left to right and a shift by whole pixels (up to an eighth of the side, black outside) act on all channels
    alike; a change of contrast scales each contrast about black and leaves the label channels alone.
    """
    n, channels, _, width = shape
    device = random.device
    use = torch.rand(n, 3, device=device, generator=random) < probability
    mirror = use[:, 0] & (torch.rand(n, device=device, generator=random) < 0.5)
    reach = width // 8
    shift = torch.randint(-reach, reach + 1, (n, 2), device=device, generator=random) * use[:, 1:2]
    scale = torch.exp2(0.5 * torch.randn(n, channels, device=device, generator=random))
    changed = use[:, 2:] & (torch.arange(channels, device=device) < channels - label_channels)
    return mirror, shift, torch.where(changed, scale, 1.0)


def augment(images: Tensor, mirror: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``images`` in [-1, 1] after the :data:`Transforms` drawn for them; derivatives pass through."""
    _, _, height, width = images.shape
    images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    reach = width // 8
    padded = F.pad(images, [reach] * 4, value=-1.0)
    images = torch.stack(
        [
            sample[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            for sample, (dy, dx) in zip(padded, shift.tolist(), strict=True)
        ]
    )
    return (images + 1) * scale[:, :, None, None] - 1
