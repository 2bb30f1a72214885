"""The generator of StyleGAN2 with skips, written from the papers. Its discriminator is in ``synthkit_generative``.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (style-based generator); [2] Karras et al. 2020, arXiv
1912.04958 (StyleGAN2).

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from synthkit_generative.discriminator import Discriminator as Discriminator
from synthkit_generative.discriminator import Pyramid
from synthkit_generative.layers import Linear, Mapping, activate
from synthkit_generative.resampling import smooth, upsample
from torch import Tensor, nn

# ------------------------------------------------------------------------------------------------ architecture


@dataclass(frozen=True)
class Architecture(Pyramid):
    """What the networks follow from. ``channels`` counts the label channel; ``size`` is in pixels.

    ``black_outside``: between the resolutions images are upsampled as if black surrounded them. The published networks
    have zero there, which in an MR image is a grey frame to unlearn. ``z_length``, ``w_length``: numbers of a latent;
    0, as in networks that are trained here: as many as the widest layer has feature maps.
    """

    mapping_layers: int = 8
    black_outside: bool = True
    z_length: int = 0
    w_length: int = 0

    @property
    def latent(self) -> int:
        """Length of z."""
        return self.z_length or self.channel_max

    @property
    def style(self) -> int:
        """Length of w."""
        return self.w_length or self.channel_max

    @property
    def styles(self) -> int:
        """Styles a synthesis takes: one a convolution, and one for the last to-image layer."""
        return 2 * len(self.resolutions)

    @property
    def noise_sizes(self) -> list[int]:
        """Side of the noise image of each convolution."""
        return [4, *(side for side in self.resolutions[1:] for _ in range(2))]


# ------------------------------------------------------------------------------------------------------ layers


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, *, up: bool = False) -> Tensor:
    """Modulated convolution, [2] equation 1.

    Scaling the weights of each sample by its style is scaling the input's feature maps. So one ordinary convolution
    serves the whole batch.

    Parameters
    ----------
    x : (n, in, y, x). weight : (out, in, k, k), k odd. style : (n, in).
    up : the convolution acts on ``x`` upsampled by two. The transposed convolution that does both comes first, the
        low-pass filter after it; they commute but for the outermost pixels.

    Returns
    -------
    (n, out, y, x), or twice the sides.
    """
    x = x * style[:, :, None, None].to(x.dtype)
    if up:
        kernel = (4 * weight).to(x.dtype).flip(2, 3).transpose(0, 1)
        return smooth(F.conv_transpose2d(x, kernel, stride=2), padding=1)
    return F.conv2d(x, weight.to(x.dtype), padding=weight.shape[2] // 2)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """What the feature maps of a modulated convolution are to be multiplied by, ``(n, out)``: [2] equation 3.

    Dividing the modulated weights of each sample by their norm is scaling the output's feature maps.
    """
    return (style.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()


class StyledConv(nn.Module):
    """One layer of the synthesis ([2] figure 2d): modulated convolution, noise, bias, activation."""

    def __init__(self, inputs: int, outputs: int, latent: int, *, up: bool) -> None:
        super().__init__()
        self.style = Linear(latent, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = 1 / math.sqrt(inputs * 9)
        self.up = up

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        root = math.sqrt(2)
        style, weight = self.style(w), self.weight * self.gain
        return activate(
            modulated_conv(x, weight, style, up=self.up),
            scale=root * demodulation(weight, style),
            noise=noise * (self.noise_strength * root),
            bias=self.bias * root,
        )


class ToImage(nn.Module):
    """Modulated 1x1 convolution to image channels, not demodulated ([2] section 4.1)."""

    def __init__(self, inputs: int, channels: int, latent: int) -> None:
        super().__init__()
        self.style = Linear(latent, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image = modulated_conv(x, self.weight * self.gain, self.style(w))
        return image.float() + self.bias[:, None, None]


# --------------------------------------------------------------------------------------------------- generator


class Generator(nn.Module):
    """Mapping and synthesis. The skip architecture sums the images of all resolutions ([2] section 4.1, figure 7b)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        latent = architecture.style
        self.mapping = Mapping(latent, architecture.mapping_layers, inputs=architecture.latent)
        self.constant = nn.Parameter(torch.randn(architecture.features(4), 4, 4))
        self.convs = nn.ModuleList()
        self.to_image = nn.ModuleList()
        for side in architecture.resolutions:
            features = architecture.features(side)
            if side > 4:
                self.convs.append(StyledConv(architecture.features(side // 2), features, latent, up=True))
            self.convs.append(StyledConv(features, features, latent, up=False))
            self.to_image.append(ToImage(features, architecture.channels, latent))

    def synthesis(self, w: Tensor, noise: Sequence[Tensor], precision: torch.dtype = torch.float32) -> Tensor:
        """Images ``(n, channels, size, size)`` float32 from styles ``w (n, styles, latent)``.

        ``noise`` has one ``(n, 1, side, side)`` of ``noise_sizes`` for each convolution. ``precision`` is that of the
        four finest resolutions; the images are summed in float32.
        """
        x = self.constant.expand(w.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image: Tensor | None = None
        outside = -1.0 if self.architecture.black_outside else 0.0
        layer = 0
        for level, side in enumerate(self.architecture.resolutions):
            x = x.to(precision if side * 8 >= self.architecture.size else torch.float32)
            for _ in range(1 if level == 0 else 2):
                x = self.convs[layer](x, w[:, layer], noise[layer])
                layer += 1
            # A to-image layer shares its style with the convolution that follows it.
            residual = self.to_image[level](x, w[:, layer])
            image = residual if image is None else upsample(image - outside) + outside + residual
        assert image is not None
        return image

    def forward(self, z: Tensor, noise: Sequence[Tensor], w_mean: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """Images of latents ``z (n, latent)``, truncated towards ``w_mean`` by ``psi`` ([1] appendix B)."""
        w = self.mapping(z)
        if w_mean is not None and psi != 1:
            w = w_mean.lerp(w, psi)
        return self.synthesis(w[:, None].expand(-1, self.architecture.styles, -1), noise)
