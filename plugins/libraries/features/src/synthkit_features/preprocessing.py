"""From grey slices to the input of a network. Results depend on every choice here, so they are all in this file.

A slice has one channel and the networks have three: all three get the same values. Since the normalisation is the
same for the three as well, the first convolution needs only the sum of its weights over them
(:class:`synthkit_features.layers.FoldedConv`), and one channel is all that is made here.

The whole slice is resized, without a crop. ``antialias`` widens the filter where an image shrinks and changes nothing
where it grows: images of at most 299 x 299 pixels enter Inception exactly as they do in pytorch-fid. Whoever changes
a number here gives the network another name (``"efficientnet-lite0-v2"``), so that scores are not mixed up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Preprocessing:
    """Resize to ``side`` x ``side`` pixels, cut to 0..255, then ``(v - subtract) / divide``."""

    side: int
    filter: Literal["bilinear", "bicubic"]
    subtract: float
    divide: float

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 ``(n, y, x)`` -> float32 ``(n, 1, side, side)``, on the same device."""
        values = images[:, None].float()
        if values.shape[-2:] != (self.side, self.side):
            values = functional.interpolate(
                values, size=(self.side, self.side), mode=self.filter, antialias=True, align_corners=False
            )
        # A bicubic filter overshoots at edges; no image file can hold such values.
        return (values.clamp_(0.0, 255.0) - self.subtract) / self.divide


#: As EfficientNet-Lite was trained (Liu 2020): 224 x 224, mean 127, standard deviation 128.
EFFICIENTNET_LITE0 = Preprocessing(224, "bicubic", 127.0, 128.0)

#: As pytorch-fid does: 299 x 299, 0..255 onto -1..1.
INCEPTION = Preprocessing(299, "bilinear", 127.5, 127.5)


def for_torchscript(images: torch.Tensor) -> torch.Tensor:
    """uint8 ``(n, y, x)`` -> float32 ``(n, 3, y, x)`` in 0..1: a script resizes and normalises by itself."""
    return (images[:, None].float() / 255.0).expand(-1, 3, -1, -1)
