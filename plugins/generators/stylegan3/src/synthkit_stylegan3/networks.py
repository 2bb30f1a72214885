"""The generator of StyleGAN3, configs t and r, written from the paper.

Source: Karras et al. 2021, arXiv 2106.12423 ("the paper"); modulation and demodulation from Karras et al. 2020, arXiv
1912.04958. The discriminator is that of StyleGAN2, in ``synthkit_generative``.

An image here is ``float (n, contrast + channel, y, x)`` in [-1, 1]: the contrasts, then the labels in their encoding.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from synthkit_generative.layers import Linear, Mapping
from torch import Tensor, nn

from synthkit_stylegan3.filters import FilteredActivation
from synthkit_stylegan3.schedule import Architecture, Maps

#: The images start with a quarter of unit variance, which is nearer to that of real ones.
OUTPUT_GAIN = 0.25


class FourierFeatures(nn.Module):
    """The input: plane waves, turned and moved by a learned function of w (section 3.2, appendix F).

    Frequencies are uniform in the disc below the first cutoff, phases uniform. Both stay as they were drawn.
    """

    frequencies: Tensor
    phases: Tensor
    positions: Tensor

    def __init__(self, maps: Maps, latent: int) -> None:
        super().__init__()
        n = maps.features
        angle, radius = 2 * math.pi * torch.rand(n), maps.cutoff * torch.rand(n).sqrt()
        self.register_buffer("frequencies", torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        self.register_buffer("phases", torch.rand(n))
        self.weight = nn.Parameter(torch.randn(n, n))
        self.gain = 1 / math.sqrt(n)
        # Starts as no movement at all: cosine 1, sine 0, shift (0, 0), whatever w is.
        self.motion = Linear(latent, 4)
        nn.init.zeros_(self.motion.weight)
        with torch.no_grad():
            self.motion.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        axis = (torch.arange(maps.side) + 0.5 - maps.side / 2) / maps.rate
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
        self.register_buffer("positions", grid, persistent=False)

    def forward(self, w: Tensor, pose: Tensor) -> Tensor:
        """Features ``(n, features, side, side)`` of ``w (n, latent)``; for ``pose`` see :meth:`Generator.synthesis`."""
        motion = self.motion(w)
        motion = motion / motion[:, :2].norm(dim=1, keepdim=True)
        cosine, sine = motion[:, 0], motion[:, 1]
        turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
        seen = self.positions @ pose[:, :2].T + pose[:, 2]  # (side, side, 2)
        # f . R (p - t) = (R^T f) . p - (R^T f) . t: the waves are moved, not every position.
        frequencies = self.frequencies @ turn  # (n, features, 2)
        phases = self.phases - (frequencies @ motion[:, 2:, None])[..., 0]
        angle = torch.einsum("nfk,yxk->nfyx", frequencies, seen) + phases[:, :, None, None]
        return torch.einsum("gf,nfyx->ngyx", self.weight * self.gain, torch.sin(2 * math.pi * angle))


class SynthesisLayer(nn.Module):
    """Modulated convolution and filtered non-linearity (figure 4b).

    Instead of noise or a normalisation of each image there is ``magnitude``, a moving average of the mean square of the
    input during training, by whose root the feature maps are divided (section 3.2, "Normalization").
    """

    magnitude: Tensor

    def __init__(self, before: Maps, after: Maps, latent: int, kernel: int, *, radial: bool) -> None:
        super().__init__()
        self.style = Linear(latent, before.features, bias=1.0)
        self.weight = nn.Parameter(torch.randn(after.features, before.features, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after.features))
        self.register_buffer("magnitude", torch.ones(()))
        # The convolution keeps every product with an input sample: zeros outside grow its output by kernel - 1.
        self.padding = kernel - 1
        self.activation = FilteredActivation(before, after, before.side + kernel - 1, radial=radial)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        root = math.sqrt(2)
        style = self.style(w)
        norm = (style.square() @ self.weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        gain = norm * (self.magnitude.rsqrt() * root)
        # Scaling of the input by the style and of the output by the norm: one convolution serves the whole batch.
        x = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.weight.to(x.dtype), padding=self.padding)
        x = torch.addcmul((self.bias * root).to(x.dtype)[:, None, None], x, gain[:, :, None, None].to(x.dtype))
        activated: Tensor = self.activation(x)
        return activated


class ToImage(nn.Module):
    """Modulated 1x1 convolution to image channels, without demodulation."""

    magnitude: Tensor

    def __init__(self, features: int, channels: int, latent: int) -> None:
        super().__init__()
        self.style = Linear(latent, features, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, features, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("magnitude", torch.ones(()))
        self.gain = 1 / math.sqrt(features)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w) * (self.gain * self.magnitude.rsqrt())
        image = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.weight.to(x.dtype))
        return image.float() + self.bias[:, None, None]


class Generator(nn.Module):
    """Mapping and synthesis. There is no noise and no skip; one w controls all layers."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        latent, maps = architecture.latent, architecture.maps
        self.mapping = Mapping(latent, architecture.mapping_layers)
        self.features = FourierFeatures(maps[0], latent)
        self.layers = nn.ModuleList(
            SynthesisLayer(
                before,
                after,
                latent,
                architecture.kernel,
                radial=architecture.radial and not architecture.is_critical(number),
            )
            for number, (before, after) in enumerate(itertools.pairwise(maps))
        )
        self.to_image = ToImage(maps[-1].features, architecture.channels, latent)

    def synthesis(
        self,
        w: Tensor,
        precision: torch.dtype = torch.float32,
        *,
        pose: Tensor | None = None,
        magnitudes: list[Tensor] | None = None,
    ) -> Tensor:
        """Images ``(n, channels, size, size)`` float32 from ``w (n, latent)``.

        Parameters
        ----------
        precision : that of the layers at more than a sixteenth of the image's rate.
        pose : ``(2, 3)``, which takes a position (x, y) of the image, from its centre in sides of the image, to where
            the unmoved image has it. For measurements of equivariance.
        magnitudes : appended to, the mean square of each layer's input, for :meth:`update_magnitude_ema`.
        """
        pose = torch.eye(2, 3, device=w.device) if pose is None else pose
        x = self.features(w, pose).contiguous(memory_format=torch.channels_last)
        for layer, maps in zip([*self.layers, self.to_image], self.architecture.maps, strict=True):
            x = x.to(precision if maps.rate * 16 > self.architecture.size else torch.float32)
            if magnitudes is not None:
                magnitudes.append(x.detach().float().square().mean())
            x = layer(x, w)
        image: Tensor = x * OUTPUT_GAIN
        return image

    @torch.no_grad()
    def update_magnitude_ema(self, observed: Tensor, decay: float) -> None:
        """Move the layers' magnitudes, of which ``decay`` remains, towards those observed in a batch ``(layers + 1,)``.

        After the step rather than during it, so that a batch may be taken in parts.
        """
        for layer, magnitude in zip([*self.layers, self.to_image], observed, strict=True):
            layer.magnitude.lerp_(magnitude, 1 - decay)

    def forward(self, z: Tensor, w_mean: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """Images of latents ``z (n, latent)``; w is truncated towards ``w_mean`` by ``psi`` (arXiv 1812.04948)."""
        w = self.mapping(z)
        if w_mean is not None and psi != 1:
            w = w_mean.lerp(w, psi)
        return self.synthesis(w)
