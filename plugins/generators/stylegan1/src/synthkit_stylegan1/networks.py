"""The generator of StyleGAN, written from the papers. Its discriminator is in ``synthkit_generative.progressive``.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (style-based generator); [4] Karras et al. 2018, arXiv
1710.10196 (progressive growing, equalised learning rate).

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from synthkit_generative.discriminator import Pyramid
from synthkit_generative.layers import Conv, Linear, Mapping, activate
from synthkit_generative.progressive import upsampling_conv, upscale
from synthkit_generative.resampling import binomial
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture(Pyramid):
    """What the shapes of both networks follow from. ``channels`` counts the label channel; ``size`` is in pixels."""

    mapping_layers: int = 8

    @property
    def latent(self) -> int:
        """Length of z and of w."""
        return self.channel_max

    @property
    def styles(self) -> int:
        """Styles that a synthesis takes: two a resolution."""
        return 2 * len(self.resolutions)

    @property
    def noise_sizes(self) -> list[int]:
        """Side of the noise image of each style's layer."""
        return [side for side in self.resolutions for _ in range(2)]


def adaptive_instance_norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """``y_s (x - mean(x)) / deviation(x) + y_b`` with mean and deviation of each feature map ([1] equation 1).

    ``x (n, features, y, x)``; ``scale`` and ``bias (n, features)``. The statistics are float32 whatever ``x`` is.
    """
    whole = x.float()
    mean = whole.mean(dim=(2, 3), keepdim=True)
    centred = whole - mean
    variance = centred.square().mean(dim=(2, 3), keepdim=True)
    normalised = centred * (variance + 1e-8).rsqrt()
    return (normalised * scale[:, :, None, None] + bias[:, :, None, None]).to(x.dtype)


class StyledLayer(nn.Module):
    """What follows a convolution ([1] figure 1b): noise (B), bias, leaky ReLU, style (A and AdaIN)."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.noise_strength = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.style = Linear(latent, 2 * features)
        with torch.no_grad():
            self.style.bias[:features] = 1  # [1] appendix C: y_s begins at one, y_b at zero

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = x + (noise * self.noise_strength[:, None, None] + self.bias[:, None, None]).to(x.dtype)
        scale, bias = self.style(w).chunk(2, dim=1)
        return adaptive_instance_norm(activate(x), scale, bias)


class SynthesisBlock(nn.Module):
    """Twice the resolution, and two styled convolutions ([1] figure 1b). Upsampling is bilinear: repeat, filter."""

    def __init__(self, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, outputs, 3, bias=False)
        self.layer0 = StyledLayer(outputs, latent)
        self.conv1 = Conv(outputs, outputs, 3, bias=False)
        self.layer1 = StyledLayer(outputs, latent)

    def forward(self, x: Tensor, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        root = math.sqrt(2)
        x = binomial(upsampling_conv(self.conv0, x, gain=root))
        x = self.layer0(x, w[:, 0], noise[0])
        x = self.layer1(self.conv1(x, padding=1, gain=root), w[:, 1], noise[1])
        return x


class Generator(nn.Module):
    """Mapping and synthesis; the synthesis grows ([4] section 2)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        latent, features = architecture.latent, architecture.features(4)
        self.mapping = Mapping(latent, architecture.mapping_layers)
        self.constant = nn.Parameter(torch.ones(features, 4, 4))  # [1] appendix C: initialised to one
        self.layer0 = StyledLayer(features, latent)
        self.conv1 = Conv(features, features, 3, bias=False)
        self.layer1 = StyledLayer(features, latent)
        self.blocks = nn.ModuleList(
            SynthesisBlock(architecture.features(side // 2), architecture.features(side), latent)
            for side in architecture.resolutions[1:]
        )
        self.to_image = nn.ModuleList(
            Conv(architecture.features(side), architecture.channels, 1) for side in architecture.resolutions
        )

    def synthesis(
        self, w: Tensor, noise: Sequence[Tensor], level: int, alpha: float, precision: torch.dtype = torch.float32
    ) -> Tensor:
        """Images ``(n, channels, side, side)`` float32 of a level from styles ``w (n, styles, latent)``.

        ``noise`` has one ``(n, 1, side, side)`` of ``noise_sizes`` for each style, up to the level's. ``precision`` is
        that of the four finest resolutions of the whole network.
        """
        x = self.constant.expand(w.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.layer0(x, w[:, 0], noise[0])
        x = self.layer1(self.conv1(x, padding=1, gain=math.sqrt(2)), w[:, 1], noise[1])
        before = x
        for number in range(1, level + 1):
            before = x
            fine = self.architecture.resolutions[number] * 8 >= self.architecture.size
            x = x.to(precision if fine else torch.float32)
            styles = slice(2 * number, 2 * number + 2)
            x = self.blocks[number - 1](x, w[:, styles], noise[styles])
        image: Tensor = self.to_image[level](x.float())
        if alpha < 1:
            coarse = self.to_image[level - 1](before.float())
            image = upscale(coarse, image.shape[-1]).lerp(image, alpha)
        return image

    def styles(self, z: Tensor, w_mean: Tensor, psi: float, side: int) -> Tensor:
        """Styles ``(n, styles, latent)`` of latents, truncated towards ``w_mean`` by ``psi`` up to resolution ``side``.

        [1] appendix B: only the coarse resolutions are truncated, so that detail is not affected.
        """
        w = self.mapping(z)[:, None].expand(-1, self.architecture.styles, -1)
        truncated = torch.tensor([s <= side for s in self.architecture.noise_sizes], device=z.device)
        return torch.where(truncated[:, None], w_mean.lerp(w, psi), w)
