"""Augmentation of normalised slices on the training device, with the transforms of the study.

Which transforms: Akbar et al. 2024 (rotation, scale, noise, blur, low resolution, gamma; no mirroring). How likely
and how strong, where the study does not say: nnU-Net (Isensee et al. 2021, supplementary information).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Covers three standard deviations of the widest blur, 1 px.
_BLUR_RADIUS = 3


@dataclass(frozen=True)
class Ranges:
    """How strong each transform can be. ``Ranges.zero()`` leaves everything as it is.

    Attributes
    ----------
    rotation_deg : angles are drawn from -rotation_deg..rotation_deg.
    scale : factors are drawn from ``1 - scale`` to ``1 + scale``.
    noise : the largest standard deviation, in units of the normalised image.
    blur_px : bounds of the standard deviation of the Gaussian.
    resolution : the smallest share of the resolution that is kept; the largest is 1.
    gamma : bounds of the exponent.
    """

    rotation_deg: float = 30.0
    scale: float = 0.1
    noise: float = 0.1
    blur_px: tuple[float, float] = (0.5, 1.0)
    resolution: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.5)

    @classmethod
    def zero(cls) -> Ranges:
        return cls(0.0, 0.0, 0.0, (0.0, 0.0), 1.0, (1.0, 1.0))


# Shares of the images that each transform changes (nnU-Net): rotation, scale, noise, blur, low resolution, gamma of
# the inverted image, gamma. A chosen image has half its channels blurred or coarsened.
_PROBABILITIES = np.array([0.2, 0.2, 0.1, 0.2, 0.25, 0.1, 0.3])
_P_CHANNEL = 0.5


@dataclass(frozen=True)
class _Draw:
    """What happens to one image. Arrays have an entry a channel."""

    angle_rad: float
    scale: float
    noise: float
    noise_seed: int
    blur_px: np.ndarray
    share: float
    coarse: np.ndarray
    inverted_gamma: np.ndarray
    gamma: np.ndarray


def _draw(rng: np.random.Generator, channels: int, ranges: Ranges) -> _Draw:
    turned, scaled, noisy, blurred, coarse, inverted, bent = rng.random(7) < _PROBABILITIES
    angle, scale = rng.uniform(-1, 1, 2)
    exponents = [_draw_exponents(rng, ranges.gamma, channels) for _ in range(2)]
    return _Draw(
        angle_rad=math.radians(ranges.rotation_deg) * angle * turned,
        scale=1 + ranges.scale * scale * scaled,
        noise=rng.uniform(0, ranges.noise) * noisy,
        noise_seed=int(rng.integers(2**63 - 1)),
        blur_px=rng.uniform(*ranges.blur_px, channels) * (rng.random(channels) < _P_CHANNEL) * blurred,
        share=rng.uniform(ranges.resolution, 1),
        coarse=(rng.random(channels) < _P_CHANNEL) & coarse,
        inverted_gamma=exponents[0] if inverted else np.ones(channels),
        gamma=exponents[1] if bent else np.ones(channels),
    )


def augment(
    images: Tensor, classes: Tensor, rngs: Sequence[np.random.Generator], ranges: Ranges | None = None
) -> tuple[Tensor, Tensor]:
    """Randomly transformed copies. What happens to an image comes from its own generator, whatever its neighbours.

    Parameters
    ----------
    images : float32 (n, contrast, y, x), normalised, background 0.
    classes : uint8 (n, y, x), class indices; resampled by nearest neighbour, so no new value can appear.
    rngs : one generator an image.
    """
    images, classes = images.clone(), classes.clone()
    draws = [_draw(rng, images.shape[1], ranges or Ranges()) for rng in rngs]

    angle, scale = np.array([d.angle_rad for d in draws]), np.array([d.scale for d in draws])
    if len(chosen := np.flatnonzero((angle != 0) | (scale != 1))):
        rows = _index(chosen, images)
        images[rows], classes[rows] = rotate_and_scale(images[rows], classes[rows], angle[chosen], scale[chosen])

    for i, draw in enumerate(draws):
        if draw.noise:
            generator = torch.Generator(images.device).manual_seed(draw.noise_seed)
            images[i] += draw.noise * torch.randn(images[i].shape, generator=generator, device=images.device)

    blur_px = np.stack([d.blur_px for d in draws])
    if len(chosen := np.flatnonzero(blur_px.any(1))):
        rows = _index(chosen, images)
        images[rows] = blur(images[rows], _like(blur_px[chosen], images))

    for i, draw in enumerate(draws):
        if draw.coarse.any():
            which = _index(np.flatnonzero(draw.coarse), images)
            images[i, which] = lower_resolution(images[i, which][None], draw.share)[0]

    for sign, exponents in ((-1.0, [d.inverted_gamma for d in draws]), (1.0, [d.gamma for d in draws])):
        exponent = np.stack(exponents)
        if len(chosen := np.flatnonzero((exponent != 1).any(1))):
            rows = _index(chosen, images)
            images[rows] = sign * change_gamma(sign * images[rows], _like(exponent[chosen], images))
    return images, classes


def rotate_and_scale(
    images: Tensor, classes: Tensor, angle_rad: np.ndarray, scale: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Turn each image by its angle and magnify it by its scale about the centre; what comes from outside is 0.

    Positive angles turn the picture from the x axis to the y axis (clockwise on a screen). Images (n, c, y, x) are
    resampled linearly, classes (n, y, x) by nearest neighbour.
    """
    height, width = images.shape[-2:]
    cos, sin = np.cos(angle_rad) / scale, np.sin(angle_rad) / scale
    zero = np.zeros_like(cos)
    # Where each output pixel comes from (the inverse map), in affine_grid's coordinates, which run from -1 to 1 along
    # either axis whatever its length.
    theta = np.stack(
        [np.stack([cos, sin * height / width, zero], -1), np.stack([-sin * width / height, cos, zero], -1)], -2
    )
    grid = F.affine_grid(_like(theta, images), list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    labels = F.grid_sample(classes[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return turned, labels[:, 0].to(classes.dtype)


def blur(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Gaussian blur of images (n, c, y, x) with a standard deviation (n, c) for each channel; 0 changes nothing."""
    n, channels, height, width = images.shape
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma_px.reshape(-1, 1).clamp(min=1e-3)) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    planes = F.pad(images.reshape(1, n * channels, height, width), [_BLUR_RADIUS] * 4, mode="replicate")
    planes = F.conv2d(planes, kernels[:, None, :, None], groups=n * channels)
    planes = F.conv2d(planes, kernels[:, None, None, :], groups=n * channels)
    return planes.reshape(images.shape)


def lower_resolution(images: Tensor, share: float) -> Tensor:
    """Images (n, c, y, x) sampled at ``share`` of their resolution (nearest) and enlarged again (bicubic)."""
    height, width = images.shape[-2:]
    small = (max(1, round(height * share)), max(1, round(width * share)))
    if small == (height, width):
        return images
    coarse = F.interpolate(images, size=small, mode="nearest-exact")
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)


def change_gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Raise each channel, scaled to 0..1, to its exponent (n, c), then give it back its range, mean and deviation."""
    low = images.amin((2, 3), keepdim=True)
    extent = (images.amax((2, 3), keepdim=True) - low).clamp(min=1e-7)
    changed = ((images - low) / extent).clamp(0, 1) ** exponent[:, :, None, None] * extent + low
    deviation, mean = torch.std_mean(images, (2, 3), keepdim=True)
    new_deviation, new_mean = torch.std_mean(changed, (2, 3), keepdim=True)
    return (changed - new_mean) / new_deviation.clamp(min=1e-7) * deviation + mean


def _draw_exponents(rng: np.random.Generator, bounds: tuple[float, float], n: int) -> np.ndarray:
    """Half of them below 1, half above, as nnU-Net draws them."""
    low, high = bounds
    return np.where(rng.random(n) < 0.5, rng.uniform(low, 1, n), rng.uniform(1, high, n))


def _index(rows: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _like(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, like.dtype)
