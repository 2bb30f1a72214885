"""What is learned and how it is drawn: preconditioning, loss and sampler of EDM, written from the paper.

Source: [1] Karras, Aittala, Aila, Laine 2022, arXiv 2206.00364. A noised image is x = y + sigma n, with n standard
normal and y the image less the mean of the training images, pixel by pixel. Each channel has a standard deviation of
its own, sigma_data, so that a channel of rare labels is preconditioned as what it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from synthkit_generative.unet import Architecture, Norm, UNet, zeroed
from torch import Tensor, nn

#: D(x; sigma): noised images ``(n, channels, y, x)`` and one noise level -> images without noise.
Denoise = Callable[[Tensor, float], Tensor]


#: c_noise = PACE ln(sigma). The paper has 1/4, with which the sines that the UNet is told hardly differ between noise
#: levels. In trainings of minutes neither was seen to be the better (benchmarks/results/edm.txt).
PACE = 12.5

FEATURES = 12  # of each pixel that the UNet gives to the network of details
MAPS = 24  # of that network


class Detail(nn.Module):
    """What a network of squares of pixels leaves of noise in single ones: three convolutions of pixels, told of it.

    Noise in every pixel is more than the UNet can carry through its narrow layers; without this, samples of short
    trainings stay grainy.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, MAPS, 3, padding=1)
        self.norm = Norm(MAPS, 4)
        self.scale_and_shift = nn.Linear(embedding, 2 * MAPS)
        self.rest = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(MAPS, MAPS, 3, padding=1),
            nn.SiLU(),
            zeroed(nn.Conv2d(MAPS, outputs, 3, padding=1)),
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """What is added to the UNet's images, ``(n, outputs, y, x)``; float32."""
        h = self.norm(self.first(x))
        scale, shift = self.scale_and_shift(F.silu(embedding))[:, :, None, None].to(h.dtype).chunk(2, dim=1)
        added: Tensor = self.rest(h * (1 + scale) + shift).float()
        return added


class Denoiser(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), with the UNet F ([1] equation 7 and table 1, last column).

    ``mean`` is ``(channels, y, x)`` and ``sigma_data`` ``(channels, 1, 1)``, of the training images in [-1, 1].
    ``architecture`` has the size and the channels of images; ``given`` channels (labels) are seen and not drawn,
    ``told`` numbers say how an image was augmented. The UNet takes squares of ``patch`` x ``patch`` pixels as one pixel
    of so many times the channels, and is the quicker for it (Hoogeboom et al. 2023, arXiv 2301.11093, section 3.3);
    ``features`` of each pixel go to :class:`Detail`, if there are any.
    """

    mean: Tensor
    sigma_data: Tensor

    def __init__(
        self,
        architecture: Architecture,
        given: int = 0,
        told: int = 0,
        patch: int = 1,
        pace: float = PACE,
        features: int = 0,
    ) -> None:
        super().__init__()
        size, drawn = architecture.size // patch, architecture.channels
        inner = dataclasses.replace(architecture, size=size, channels=drawn * patch**2)
        self.patch, self.pace = patch, pace
        self.unet = UNet(inner, given * patch**2, told, features * patch**2)
        seen = 2 * drawn + given + features
        self.detail = Detail(seen, drawn, 4 * architecture.width) if features else None
        self.shape = (architecture.channels, architecture.size, architecture.size)
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("sigma_data", torch.ones(architecture.channels, 1, 1))

    def network(self, x: Tensor, sigma: Tensor, given: Tensor | None, told: Tensor | None) -> Tensor:
        """F(c_in x; c_noise) with c_in = 1 / sqrt(sigma^2 + sigma_data^2) and c_noise = pace ln(sigma); float32."""
        scaled = x / (sigma[:, None, None, None].square() + self.sigma_data.square()).sqrt()
        seen = scaled if given is None else torch.cat([scaled, given], dim=1)
        t = self.pace * sigma.log()
        # Channels last: a sixth faster in bfloat16 on a CPU, and what a GPU's units for matrices want.
        squares = F.pixel_unshuffle(seen, self.patch).contiguous(memory_format=torch.channels_last)
        found: Tensor = F.pixel_shuffle(self.unet(squares, t, told), self.patch)
        if self.detail is None:
            return found
        pixels = torch.cat([seen, found], dim=1).contiguous(memory_format=torch.channels_last)
        drawn: Tensor = found[:, : self.shape[0]] + self.detail(pixels, self.unet.embedding(t, told))
        return drawn

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out of noise levels ``(n,)``: ``(n, channels, 1, 1)`` each."""
        total = sigma[:, None, None, None].square() + self.sigma_data.square()
        skip: Tensor = self.sigma_data.square() / total
        out: Tensor = sigma[:, None, None, None] * self.sigma_data / total.sqrt()
        return skip, out

    def forward(self, x: Tensor, sigma: Tensor, given: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        """Images without noise, less the mean, of noised ones ``(n, channels, y, x)`` at noise levels ``(n,)``."""
        skip, out = self.scales(sigma)
        denoised: Tensor = skip * x + out * self.network(x, sigma, given, told)
        return denoised

    def loss(
        self, images: Tensor, noise: Tensor, sigma: Tensor, given: Tensor | None = None, told: Tensor | None = None
    ) -> Tensor:
        """Mean over all elements of the squared error of F, a scalar ([1] equation 8).

        That is the error of D weighted by lambda(sigma) = 1 / c_out^2, as the paper has it. ``images`` in [-1, 1],
        ``noise`` standard normal of their shape, ``sigma (n,)``.
        """
        y = images - self.mean
        x = y + sigma[:, None, None, None] * noise
        skip, out = self.scales(sigma)
        return (self.network(x, sigma, given, told) - (y - skip * x) / out).square().mean()


def noise_mean(size: int) -> float:
    """Mean of ln sigma for slices of ``size`` pixels: -0.6 at 32, as was tried there, and ln(size / 32) more.

    Averaging over squares of pixels lowers noise by their side and leaves shapes: what makes a head's outline at one
    size makes it at twice the size under twice the noise (Hoogeboom et al. 2023, arXiv 2301.11093, section 3.1).
    """
    return -0.6 + math.log(size / 32)


def noise_levels(normal: Tensor, mean: float, spread: float) -> Tensor:
    """Noise levels of training, ln sigma ~ N(mean, spread^2) ([1] table 1), of standard normal numbers."""
    return (mean + spread * normal).exp()


def schedule(steps: int, lowest: float, highest: float, rho: float) -> list[float]:
    """Noise levels of a sample, from the highest to the lowest and then 0: ``steps`` + 1 of them ([1] equation 5)."""
    if steps == 1:
        return [highest, 0.0]
    ends = highest ** (1 / rho), lowest ** (1 / rho)
    return [*((ends[0] + i / (steps - 1) * (ends[1] - ends[0])) ** rho for i in range(steps)), 0.0]


def heun(denoise: Denoise, noise: Tensor, levels: Sequence[float]) -> Tensor:
    """The way from standard normal ``noise`` to images, without new noise ([1] algorithm 1)."""
    x = levels[0] * noise
    for now, then in itertools.pairwise(levels):
        slope = (x - denoise(x, now)) / now
        moved = x + (then - now) * slope
        if then > 0:
            moved = x + (then - now) * (slope + (moved - denoise(moved, then)) / then) / 2
        x = moved
    return x
