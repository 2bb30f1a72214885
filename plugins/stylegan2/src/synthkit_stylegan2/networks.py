"""The networks of StyleGAN2, written from the papers: generator with skips, residual discriminator.

Sources: [1] Karras, Laine, Aila 2019, arXiv 1812.04948 (style-based generator); [2] Karras et al. 2020, arXiv
1912.04958 (StyleGAN2); [3] Karras et al. 2020, arXiv 2006.06676 (mixed precision); [4] Karras et al. 2018, arXiv
1710.10196 (equalised learning rate, minibatch standard deviation).

An image here is ``float (n, contrast + 1, y, x)`` in [-1, 1]: the contrasts, then the labels as grey levels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ------------------------------------------------------------------------------------------------ architecture


@dataclass(frozen=True)
class Architecture:
    """What the shapes of both networks follow from. ``channels`` counts the label channel; ``size`` is in pixels."""

    size: int
    channels: int
    channel_base: int = 16384
    channel_max: int = 512
    mapping_layers: int = 8

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... size."""
        return [2**level for level in range(2, self.size.bit_length())]

    @property
    def latent(self) -> int:
        """Length of z and of w."""
        return self.channel_max

    @property
    def styles(self) -> int:
        """Styles a synthesis takes: one a convolution, and one for the last to-image layer."""
        return 2 * len(self.resolutions)

    @property
    def noise_sizes(self) -> list[int]:
        """Side of the noise image of each convolution."""
        return [4, *(side for side in self.resolutions[1:] for _ in range(2))]

    def features(self, side: int) -> int:
        """Feature maps at this resolution."""
        return max(1, min(self.channel_base // side, self.channel_max))


# -------------------------------------------------------------------------------------------------- resampling


class _Fir(torch.autograd.Function):
    """The separable low-pass filter [1, 3, 3, 1] / 8 ([2], section 3.1), at every ``stride``-th pixel, or its adjoint.

    Filter and adjoint are each other's derivative. Saying so keeps every order of derivative (R1 and path length need
    the second) a plain depthwise convolution; the generic rule is ten times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, padding: int, adjoint: bool) -> Tensor:
        ctx.how = (stride, padding, adjoint)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
        convolve = F.conv_transpose2d if adjoint else F.conv2d
        return convolve(x, kernel, stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        stride, padding, adjoint = ctx.how
        return _fir(gradients[0], stride, padding, not adjoint), None, None, None


def _fir(x: Tensor, stride: int, padding: int, adjoint: bool) -> Tensor:
    result: Tensor = _Fir.apply(x, stride, padding, adjoint)
    return result


def smooth(x: Tensor, padding: int) -> Tensor:
    """Low-pass filter; each side grows by ``2 * padding - 3`` pixels. Zeros outside the image."""
    return _fir(x, 1, padding, adjoint=False)


def upsample(x: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then the low-pass filter with gain 4."""
    return 4 * _fir(x, 2, 1, adjoint=True)


def downsample(x: Tensor) -> Tensor:
    """Half the size: low-pass filter, then every second pixel. ``x`` has even sides."""
    return _fir(x, 2, 1, adjoint=False)


# ------------------------------------------------------------------------------------------------------ layers


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate ([4] section 4.1): the weight is scaled when it is used."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / multiplier))
        self.gain = multiplier / math.sqrt(inputs)
        self.multiplier = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.multiplier)


class Conv(nn.Module):
    """Convolution with equalised learning rate. ``gain`` scales the output, so that it costs no pass over the image."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, *, stride: int = 1, padding: int = 0, gain: float = 1.0) -> Tensor:
        weight = (self.weight * (self.gain * gain)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, slope 0.2. Its gain of sqrt(2), which keeps the variance, is folded into what comes before."""
    return F.leaky_relu(x, 0.2)


def modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, up: bool = False, gain: float = 1.0
) -> Tensor:
    """Modulated and demodulated convolution, [2] equations 1 and 3.

    Scaling the weights of each sample by its style (eq. 1) is scaling the input's feature maps; dividing them by their
    norm (eq. 3) is scaling the output's. So one ordinary convolution serves the whole batch.

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
        x = smooth(F.conv_transpose2d(x, kernel, stride=2), padding=1)
    else:
        x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[2] // 2)
    if demodulate:
        norm = (style.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        x = x * (gain * norm)[:, :, None, None].to(x.dtype)
    return x


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
        x = modulated_conv(x, self.weight * self.gain, self.style(w), up=self.up, gain=root)
        x = x + (noise * (self.noise_strength * root)).to(x.dtype)
        return activate(x + (self.bias * root).to(x.dtype)[:, None, None])


class ToImage(nn.Module):
    """Modulated 1x1 convolution to image channels, not demodulated ([2] section 4.1)."""

    def __init__(self, inputs: int, channels: int, latent: int) -> None:
        super().__init__()
        self.style = Linear(latent, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image = modulated_conv(x, self.weight * self.gain, self.style(w), demodulate=False)
        return image.float() + self.bias[:, None, None]


# --------------------------------------------------------------------------------------------------- generator


class Mapping(nn.Module):
    """z to w: normalised z through fully connected layers with 1/100 of the learning rate ([1] section 2)."""

    def __init__(self, latent: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(latent, latent, multiplier=0.01) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = activate(layer(x) * math.sqrt(2))
        return x


class Generator(nn.Module):
    """Mapping and synthesis. The skip architecture sums the images of all resolutions ([2] section 4.1, figure 7b)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        latent = architecture.latent
        self.mapping = Mapping(latent, architecture.mapping_layers)
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
        layer = 0
        for level, side in enumerate(self.architecture.resolutions):
            x = x.to(precision if side * 8 >= self.architecture.size else torch.float32)
            for _ in range(1 if level == 0 else 2):
                x = self.convs[layer](x, w[:, layer], noise[layer])
                layer += 1
            # A to-image layer shares its style with the convolution that follows it.
            residual = self.to_image[level](x, w[:, layer])
            # Outside an MR image is black, which is -1: zeros there would leave a grey frame to unlearn.
            image = residual if image is None else upsample(image + 1) - 1 + residual
        assert image is not None
        return image

    def forward(self, z: Tensor, noise: Sequence[Tensor], w_mean: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """Images of latents ``z (n, latent)``, truncated towards ``w_mean`` by ``psi`` ([1] appendix B)."""
        w = self.mapping(z)
        if w_mean is not None and psi != 1:
            w = w_mean.lerp(w, psi)
        return self.synthesis(w[:, None].expand(-1, self.architecture.styles, -1), noise)


# ----------------------------------------------------------------------------------------------- discriminator


class DiscriminatorBlock(nn.Module):
    """Residual block to half the resolution ([2] section 4.1, figure 7c)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3)
        self.skip = Conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (skip + residual) / sqrt(2): the gain of conv1's activation and the division cancel.
        residual = activate(self.conv0(x, padding=1, gain=math.sqrt(2)))
        residual = activate(self.conv1(smooth(residual, padding=2), stride=2))
        return self.skip(downsample(x), gain=math.sqrt(0.5)) + residual


def minibatch_deviation(x: Tensor) -> Tensor:
    """Append a feature map that holds the mean standard deviation within groups of up to 4 samples ([4] section 3)."""
    n = x.shape[0]
    group = next(size for size in (4, 3, 2, 1) if n % size == 0)
    grouped = x.view(group, n // group, -1)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1)
    return torch.cat([x, deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


class Discriminator(nn.Module):
    """Scores ``(n,)`` of images ``(n, channels, size, size)``; high means real."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        features = [architecture.features(side) for side in reversed(architecture.resolutions)]
        self.from_image = Conv(architecture.channels, features[0], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(a, b) for a, b in itertools.pairwise(features))
        self.conv = Conv(features[-1] + 1, features[-1], 3)
        self.dense = Linear(features[-1] * 16, features[-1])
        self.score = Linear(features[-1], 1)

    def forward(self, image: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        root = math.sqrt(2)
        x = image.contiguous(memory_format=torch.channels_last).to(precision)
        x = activate(self.from_image(x, gain=root))
        for number, block in enumerate(self.blocks):
            x = block(x if number < 4 else x.float())
        x = minibatch_deviation(x.float().contiguous())
        x = activate(self.conv(x, padding=1, gain=root))
        x = activate(self.dense(x.flatten(1)) * root)
        return self.score(x)[:, 0]
