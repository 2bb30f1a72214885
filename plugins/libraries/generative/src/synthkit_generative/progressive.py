"""Progressive growing: the schedule, real images on their way from one resolution to the next, and the discriminator.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (low-pass filters); [4] Karras et al. 2018, arXiv 1710.10196
(growing, equalised learning rate, minibatch standard deviation).

A network in growth has a *level*, the index of its finest resolution among 4, 8, 16, ..., and *alpha*, how much of it
is faded in: below 1 its output is mixed with that of the level before ([4] figure 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthkit.errors import UsageError
from synthkit_generative.discriminator import Pyramid, minibatch_stddev
from synthkit_generative.layers import Conv, Linear, activate
from synthkit_generative.resampling import binomial


@dataclass(frozen=True)
class Schedule:
    """When which level is trained ([4] section 2 and appendix A.1).

    The first level is trained on ``stable_kimg`` thousand images; each further one is faded in over ``fade_kimg`` and
    then trained on ``stable_kimg`` more, the last one to the end.
    """

    first: int
    last: int
    fade_kimg: float
    stable_kimg: float

    def at(self, images: int) -> tuple[int, float]:
        """Level and alpha of the step that begins after ``images`` images."""
        stable, phase = self.stable_kimg * 1000, (self.fade_kimg + self.stable_kimg) * 1000
        if images < stable or self.first == self.last:
            return self.first, 1.0
        further = (images - stable) / phase if phase > 0 else math.inf
        if further >= self.last - self.first:
            return self.last, 1.0
        level, within = self.first + 1 + int(further), (further % 1) * phase
        return level, min(1.0, within / (self.fade_kimg * 1000)) if self.fade_kimg > 0 else 1.0

    @property
    def kimg(self) -> float:
        """Images, in thousands, until the last level is wholly faded in."""
        n = self.last - self.first
        return n * (self.stable_kimg + self.fade_kimg)

    def require(self, kimg: float) -> None:
        """UsageError unless a training of ``kimg`` gets beyond :attr:`kimg`."""
        if kimg < self.kimg:
            raise UsageError(
                f"A training of {kimg:g} kimg ends before the finest resolution is faded in.",
                f"With fade_kimg={self.fade_kimg:g} and stable_kimg={self.stable_kimg:g} it takes {self.kimg:g} kimg.",
                "Give a larger kimg, or smaller fade_kimg and stable_kimg.",
            )


def downscale(images: Tensor, side: int, alpha: float) -> Tensor:
    """Real images ``(n, channels, y, x)`` as a network of this side sees them ([4] appendix A.1).

    Downscaled by averaging; while the level is faded in, mixed with themselves at half the side.
    """
    images = F.avg_pool2d(images, images.shape[-1] // side) if images.shape[-1] > side else images
    if alpha < 1:
        images = upscale(F.avg_pool2d(images, 2), side).lerp(images, alpha)
    return images


def upscale(images: Tensor, side: int) -> Tensor:
    """Images repeated to ``side`` pixels (nearest neighbour)."""
    return images if images.shape[-1] == side else F.interpolate(images, size=(side, side), mode="nearest")


def _boxed(weight: Tensor) -> Tensor:
    """Kernels ``(out, in, 3, 3)`` convolved with a box of 2 x 2 ones: ``(out, in, 4, 4)``."""
    padded = F.pad(weight, (1, 1, 1, 1))
    columns = padded[..., 1:] + padded[..., :-1]
    return columns[..., 1:, :] + columns[..., :-1, :]


def upsampling_conv(conv: Conv, x: Tensor, gain: float = 1.0) -> Tensor:
    """The 3x3 convolution, without bias, of ``x`` repeated to twice the side.

    As one transposed convolution: repeated pixels share their products, four a pixel instead of nine.
    """
    kernel = _boxed((conv.weight * (conv.gain * gain)).flip(2, 3)).transpose(0, 1)
    return F.conv_transpose2d(x, kernel.to(x.dtype), stride=2, padding=1)


def downsampling_conv(conv: Conv, x: Tensor, gain: float = 1.0) -> Tensor:
    """The 3x3 convolution of ``x``, averaged over 2 x 2 pixels, as one convolution of stride 2."""
    kernel = _boxed(conv.weight * (conv.gain * gain / 4))
    bias = None if conv.bias is None else (conv.bias * gain).to(x.dtype)
    return F.conv2d(x, kernel.to(x.dtype), bias, stride=2, padding=1)


class GrowingBlock(nn.Module):
    """Two convolutions and half the resolution ([4] table 2); with ``smooth`` low-pass filtered ([1] appendix C)."""

    def __init__(self, inputs: int, outputs: int, smooth: bool) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3)
        self.smooth = smooth

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0.activated(x, padding=1)
        if self.smooth:
            return activate(downsampling_conv(self.conv1, binomial(x), gain=math.sqrt(2)))
        return F.avg_pool2d(self.conv1.activated(x, padding=1), 2)


class GrowingDiscriminator(nn.Module):
    """Scores ``(n,)`` of images ``(n, channels, side, side)`` of any level; high means real ([4] table 2)."""

    def __init__(self, pyramid: Pyramid, *, smooth: bool) -> None:
        super().__init__()
        self.pyramid = pyramid
        sides = pyramid.resolutions
        self.from_image = nn.ModuleList(Conv(pyramid.channels, pyramid.features(side), 1) for side in sides)
        self.blocks = nn.ModuleList(
            GrowingBlock(pyramid.features(side), pyramid.features(side // 2), smooth) for side in sides[1:]
        )
        features = pyramid.features(4)
        self.conv = Conv(features + 1, features, 3)
        self.dense = Linear(features * 16, features)
        self.score = Linear(features, 1)

    @property
    def first_layers(self) -> list[nn.Module]:
        """Of the grown network, those that see an image piece by piece, from its pixels on."""
        return [self.from_image[-1], *(layer for block in self.blocks[::-1] for layer in block.children())]

    def forward(self, image: Tensor, level: int, alpha: float, precision: torch.dtype = torch.float32) -> Tensor:
        """``precision`` is that of the four finest resolutions of the whole network."""
        image = image.contiguous(memory_format=torch.channels_last)
        x = self._from_image(level, image.to(self._precision(level, precision)))
        for number in range(level, 0, -1):
            x = self.blocks[number - 1](x.to(self._precision(number, precision)))
            if number == level and alpha < 1:
                before = F.avg_pool2d(image, 2).to(x.dtype)
                x = self._from_image(level - 1, before).lerp(x, alpha)
        x = minibatch_stddev(x.float().contiguous())
        x = self.conv.activated(x, padding=1)
        x = activate(self.dense(x.flatten(1)) * math.sqrt(2))
        scores: Tensor = self.score(x)[:, 0]
        return scores

    def _from_image(self, level: int, image: Tensor) -> Tensor:
        conv = self.from_image[level]
        assert isinstance(conv, Conv)
        return conv.activated(image)

    def _precision(self, level: int, wanted: torch.dtype) -> torch.dtype:
        return wanted if self.pyramid.resolutions[level] * 8 >= self.pyramid.size else torch.float32
