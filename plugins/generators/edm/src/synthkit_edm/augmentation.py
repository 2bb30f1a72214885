"""Changes of training images that do not leak into samples, since the network is told which there were.

Source: Karras et al. 2022, arXiv 2206.00364, appendix F.2, of which these are the geometric kinds that leave a head a
head. Samples are drawn with all numbers 0, which is an unchanged image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Numbers that tell of the changes: mirrored; scale; cosine less 1 and sine of the turn; shift along x and along y.
TOLD = 6
_SCALE, _TURN, _SHIFT = 0.2, math.radians(15), 0.125  # log2; radians; of the side: one standard deviation each


def draw(n: int, probability: float, random: torch.Generator) -> Tensor:
    """What becomes of ``n`` images, ``(n, TOLD)``: every kind of change with ``probability``, all 0 for none."""
    device = random.device
    uses = (torch.rand(n, 4, device=device, generator=random) < probability).float()
    normal = torch.randn(n, 4, device=device, generator=random)
    mirrored = uses[:, 0] * (torch.rand(n, device=device, generator=random) < 0.5).float()
    turn = uses[:, 2] * normal[:, 1] * _TURN
    shift = uses[:, 3:] * normal[:, 2:] * _SHIFT
    return torch.stack(
        [mirrored, uses[:, 1] * normal[:, 0] * _SCALE, turn.cos() - 1, turn.sin(), shift[:, 0], shift[:, 1]], dim=1
    )


def apply(images: Tensor, told: Tensor) -> Tensor:
    """``images (n, channels, y, x)`` changed as ``told``; unchanged ones stay as they are, to the bit.

    All channels are changed alike, with bilinear interpolation; pixels at the edge are continued outwards.
    """
    mirrored, scale, cosine, sine, x, y = told.unbind(dim=1)
    sign, shrink = 1 - 2 * mirrored, torch.exp2(-scale)
    cosine = 1 + cosine
    # Where each pixel comes from, in halves of the side: the inverse of mirror, turn, scale and shift.
    across = torch.stack([sign * shrink * cosine, sign * shrink * sine, -2 * x], dim=1)
    down = torch.stack([-shrink * sine, shrink * cosine, -2 * y], dim=1)
    places = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(told.any(dim=1)[:, None, None, None], changed, images)
