"""Adaptive discriminator augmentation of the kinds that suit MR (Karras et al. 2020, arXiv 2006.06676, "the paper").

What the discriminator is shown, real and drawn, is changed at random, each kind with one probability, which follows how
well it knows the real images. The generator does not learn the changes, as they are drawn for both alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from synthkit_torch import parallel
from torch import Tensor

from synthkit_generative.batches import microbatches

#: With fewer training images than these, augmentation is the default: the paper, figure 1, and its section 4.1.
FEW_IMAGES = 30_000
_TARGET = 0.6  # section 3.1: wanted mean sign of the discriminator on real images
_KIMG = 500.0  # section 3.1: from no augmentation to all in half a million images
_INTERVAL = 4  # section 3.1: steps between two adjustments

#: What happens to each image of a batch: whether it moves ``(n,)``, where each pixel is taken from, as for
#: ``affine_grid``, ``(n, 2, 3)``, and factor and offset of each channel's brightness above black, ``(n, channels)``.
Transforms = tuple[Tensor, Tensor, Tensor, Tensor]


def draw_transforms(
    shape: Sequence[int], probability: float, random: torch.Generator, label_channels: int = 1
) -> Transforms:
    """Draw for a batch of shape ``(n, contrast + label_channels, side, side)``, every kind with ``probability``.

    Mirroring left to right; a shift by whole pixels, up to an eighth of the side; a shift by parts of pixels (standard
    deviation an eighth of the side); a turn by any angle; a scale of 2 ** N(0, 0.2): these of all channels. Contrast
    2 ** N(0, 0.5) and brightness N(0, 0.2), of each contrast; label channels keep their levels. Appendix B.
    """
    n, channels, _, side = shape
    device = random.device
    mirrored, whole, part, turned, scaled, contrast, bright = (
        torch.rand(7, n, device=device, generator=random) < probability
    )

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, device=device, generator=random) * 2 - 1

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=device, generator=random)

    zero = torch.zeros((), device=device)
    mirrored = mirrored & (uniform(n) < 0)
    # Lengths are halves of the side here, as affine_grid measures them.
    pixels = (uniform(n, 2) * (side // 8)).round() * 2 / side
    shift = torch.where(whole[:, None], pixels, zero) + torch.where(part[:, None], normal(n, 2) / 4, zero)
    angle = torch.where(turned, uniform(n) * math.pi, zero)
    size = torch.exp2(torch.where(scaled, -0.2 * normal(n), zero))
    cosine, sine = torch.cos(angle) * size, torch.sin(angle) * size
    left = torch.where(mirrored, -1.0, 1.0)
    rows = torch.stack([left * cosine, -left * sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1)
    image = torch.arange(channels, device=device) < channels - label_channels
    factor = torch.where(contrast[:, None] & image, torch.exp2(0.5 * normal(n, channels)), 1.0)
    offset = torch.where(bright[:, None] & image, 0.2 * normal(n, channels), zero)
    return mirrored | whole | part | turned | scaled, rows.view(n, 2, 3), factor, offset


def augment(
    images: Tensor, moves: Tensor, places: Tensor, factor: Tensor, offset: Tensor, label_channels: int = 1
) -> Tensor:
    """``images`` in [-1, 1] after the :data:`Transforms` drawn for them; first derivatives pass through.

    Contrasts are interpolated linearly; of labels, the last channels, the nearest pixel is taken, so that no level
    comes in between.
    """
    above = images + 1  # black is 0, which is what lies outside
    grid = F.affine_grid(places.to(images.dtype), list(images.shape), align_corners=False)
    moved = torch.cat(
        [
            F.grid_sample(above[:, :-label_channels], grid, mode="bilinear", align_corners=False),
            F.grid_sample(above[:, -label_channels:], grid, mode="nearest", align_corners=False),
        ],
        dim=1,
    )
    above = torch.where(moves[:, None, None, None], moved, above)
    return above * factor[:, :, None, None] + offset[:, :, None, None] - 1


class Augmentation:
    """What a discriminator is shown, and how much of it is changed: adjusted by :meth:`watch` after every step.

    ``batch_size`` is that of all processes. ``on`` false shows all as it is.
    """

    def __init__(
        self, on: bool, batch_size: int, accumulate: int, device: torch.device, label_channels: int = 1
    ) -> None:
        self.on, self.probability = on, torch.zeros(())
        self._batch_size, self._accumulate, self._label_channels = batch_size, accumulate, label_channels
        self._sign = torch.zeros((), device=device)  # sum since the last adjustment

    def shown(self, images: Iterable[Tensor], batch: Tensor, random: torch.Generator) -> Iterator[Tensor]:
        """The microbatches of a batch shaped like ``batch``, this process's share, changed as drawn for all at once."""
        if not self.on:
            return iter(images)
        whole = (len(batch) * parallel.n_processes(), *batch.shape[1:])
        drawn = draw_transforms(whole, float(self.probability), random, self._label_channels)
        parts = zip(*(microbatches(parallel.share(tensor), self._accumulate) for tensor in drawn), strict=True)
        return (
            augment(part, moves, places, factor, offset, self._label_channels)
            for part, (moves, places, factor, offset) in zip(images, parts, strict=True)
        )

    def watch(self, sign: Tensor, step: int) -> dict[str, Tensor]:
        """Take the mean sign of the discriminator on real images in a step, the ``step``-th; what to note of it."""
        noted = {"sign_real": sign}
        if not self.on:
            return noted
        self._sign += sign
        if step % _INTERVAL == 0:
            change = _INTERVAL * self._batch_size / (_KIMG * 1000)
            knows = float(self._sign) / _INTERVAL > _TARGET
            self.probability = (self.probability + (change if knows else -change)).clamp(0, 1)
            self._sign.zero_()
        return {**noted, "augment_probability": self.probability.to(sign.device)}

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on."""
        return {"sign": self._sign, "augment_probability": self.probability}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        self._sign.copy_(tensors["sign"])
        self.probability = tensors["augment_probability"]
