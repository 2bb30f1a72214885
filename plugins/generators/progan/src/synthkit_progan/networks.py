"""The generator of Progressive GAN, written from the paper; its discriminator: ``synthkit_generative.progressive``.

Source: [4] Karras et al. 2018, arXiv 1710.10196 (progressive growing, equalised learning rate, pixel norm; table 2).

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from synthkit_generative.discriminator import Pyramid
from synthkit_generative.layers import Conv, activate
from synthkit_generative.progressive import upsampling_conv, upscale
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture(Pyramid):
    """What the shapes of both networks follow from. ``channels`` counts the label channel; ``size`` is in pixels."""

    @property
    def latent(self) -> int:
        """Length of z."""
        return self.channel_max


def pixel_norm(x: Tensor) -> Tensor:
    """Feature vectors ``(n, features, ...)`` of unit mean square in each pixel ([4] section 4.2)."""
    whole = x.float()
    return (whole * (whole.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()).to(x.dtype)


class NormedConv(nn.Module):
    """3x3 convolution, leaky ReLU, pixel norm ([4] table 2); with ``up`` of the input repeated to twice the side."""

    def __init__(self, inputs: int, outputs: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, 3, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        root = math.sqrt(2)
        x = upsampling_conv(self.conv, x, gain=root) if self.up else self.conv(x, padding=1, gain=root)
        return pixel_norm(activate(x, bias=self.bias))


class FirstLayer(nn.Module):
    """4x4 convolution of the padded latent, a weight for each pixel ([4] table 2); leaky ReLU, pixel norm."""

    def __init__(self, latent: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(latent, features, 4, 4))
        self.bias = nn.Parameter(torch.zeros(features))
        self.gain = math.sqrt(2 / (latent * 16))  # He's constant of a 4x4 kernel

    def forward(self, z: Tensor) -> Tensor:
        x = torch.einsum("nl,lfyx->nfyx", z, self.weight * self.gain) + self.bias[:, None, None]
        return pixel_norm(activate(x))


class Generator(nn.Module):
    """Images of latents; it grows ([4] section 2, table 2). Upsampling repeats pixels."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        sides = architecture.resolutions
        features = architecture.features(4)
        self.first = FirstLayer(architecture.latent, features)
        self.conv = NormedConv(features, features)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                NormedConv(architecture.features(side // 2), architecture.features(side), up=True),
                NormedConv(architecture.features(side), architecture.features(side)),
            )
            for side in sides[1:]
        )
        self.to_image = nn.ModuleList(Conv(architecture.features(side), architecture.channels, 1) for side in sides)

    def forward(self, z: Tensor, level: int, alpha: float, precision: torch.dtype = torch.float32) -> Tensor:
        """Images ``(n, channels, side, side)`` float32 of a level from latents ``z (n, latent)``.

        The latents are put on a hypersphere. ``precision`` is that of the four finest resolutions of the whole network.
        """
        x = self.conv(self.first(pixel_norm(z)).contiguous(memory_format=torch.channels_last))
        before = x
        for number in range(1, level + 1):
            before = x
            side = self.architecture.resolutions[number]
            x = x.to(precision if side * 8 >= self.architecture.size else torch.float32)
            x = self.blocks[number - 1](x)
        image: Tensor = self.to_image[level](x.float())
        if alpha < 1:
            coarse = self.to_image[level - 1](before.float())
            image = upscale(coarse, image.shape[-1]).lerp(image, alpha)
        return image
