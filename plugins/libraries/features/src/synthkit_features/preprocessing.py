"""From grey slices to the input of a network. Results depend on every choice here, so they are all in this file.

A slice has one channel and the networks have three: all three get the same values. Where the normalisation is the same
for the three as well, the first convolution needs only the sum of its weights over them
(:class:`synthkit_features.layers.FoldedConv`), and one channel is all that is made here; else three are.

The whole slice is resized, without a crop. ``antialias`` widens the filter where an image shrinks and changes nothing
where it grows: images of at most 299 x 299 pixels enter Inception exactly as they do in pytorch-fid. Whoever changes
a number here gives the network another name (``"efficientnet-lite0-v2"``), so that scores are not mixed up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

#: uint8 ``(n, y, x)`` -> float32 ``(n, channels, y, x)``, on the same device.
Prepare = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Preprocessing:
    """Resize to ``side`` x ``side`` pixels, cut to 0..255, then ``(v - subtract) / divide`` of one channel or of three.

    ``tensorflow1``: bilinear as in TensorFlow 1, which takes pixel i from place ``i * size / side`` and never averages.
    """

    side: int
    filter: Literal["bilinear", "bicubic", "tensorflow1"]
    subtract: float | tuple[float, float, float]
    divide: float | tuple[float, float, float]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        values = images[:, None].float()
        if self.filter == "tensorflow1":
            values = _along(_along(values, 2, self.side), 3, self.side)
        elif values.shape[-2:] != (self.side, self.side):
            values = functional.interpolate(
                values, size=(self.side, self.side), mode=self.filter, antialias=True, align_corners=False
            )
        subtract, divide = (values.new_tensor(n).reshape(1, -1, 1, 1) for n in (self.subtract, self.divide))
        # A bicubic filter overshoots at edges; no image file can hold such values.
        return _laid((values.clamp_(0.0, 255.0) - subtract) / divide)


def _along(values: torch.Tensor, axis: int, side: int) -> torch.Tensor:
    """Resized along one axis as TensorFlow 1 does."""
    size = values.shape[axis]
    place = torch.arange(side, dtype=torch.float32, device=values.device) * (size / side)
    below = place.long().clamp_max(size - 1)
    above = (below + 1).clamp_max(size - 1)
    part = (place - below).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    low, high = values.index_select(axis, below), values.index_select(axis, above)
    return low + (high - low) * part


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Every image less its mean, over its standard deviation, in its own size; an image of one grey becomes 0."""
    values = images[:, None].float()
    spread, mean = torch.std_mean(values, dim=(2, 3), keepdim=True, correction=0)
    return _laid((values - mean) / torch.where(spread > 0, spread, 1.0))


def _laid(values: torch.Tensor) -> torch.Tensor:
    """Channels last: the order in memory that convolutions are fastest in."""
    return values.contiguous(memory_format=torch.channels_last)


#: As EfficientNet-Lite was trained (Liu 2020): 224 x 224, mean 127, standard deviation 128.
EFFICIENTNET_LITE0 = Preprocessing(224, "bicubic", 127.0, 128.0)

#: As pytorch-fid does: 299 x 299, 0..255 onto -1..1.
INCEPTION = Preprocessing(299, "bilinear", 127.5, 127.5)

#: As torch-fidelity and the TensorFlow graph of 2015 do.
INCEPTION_TENSORFLOW = Preprocessing(299, "tensorflow1", 128.0, 128.0)

#: As RadImageNet's networks in PyTorch were trained: 224 x 224, 0..255 onto -1..1.
RADIMAGENET = Preprocessing(224, "bilinear", 127.5, 127.5)

#: As those in Keras were: ImageNet's means of blue, green and red taken off, then divided by 255.
RADIMAGENET_KERAS = Preprocessing(224, "bilinear", (103.939, 116.779, 123.68), 255.0)

#: As RadioDINO was: ImageNet's means and standard deviations of red, green and blue.
RADIODINO = Preprocessing(224, "bilinear", (0.485 * 255, 0.456 * 255, 0.406 * 255), (58.395, 57.12, 57.375))


def for_torchscript(images: torch.Tensor) -> torch.Tensor:
    """uint8 ``(n, y, x)`` -> float32 ``(n, 3, y, x)`` in 0..1: a script resizes and normalises by itself."""
    return (images[:, None].float() / 255.0).expand(-1, 3, -1, -1)
