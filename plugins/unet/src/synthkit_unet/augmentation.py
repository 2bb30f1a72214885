"""Augmentation of normalised slices on the training device, with the transforms of the study.

Which transforms: Akbar et al. 2024 (rotation, scale, noise, blur, low resolution, gamma; no mirroring). How likely
and how strong, where the study does not say: nnU-Net (Isensee et al. 2021, supplementary information).
"""

from __future__ import annotations

import math
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


# Shares of the images that each transform changes (nnU-Net); a chosen image has half its channels blurred or coarsened.
_P_ROTATION, _P_SCALE, _P_NOISE, _P_BLUR, _P_RESOLUTION, _P_GAMMA, _P_INVERTED_GAMMA = (
    0.2,
    0.2,
    0.1,
    0.2,
    0.25,
    0.3,
    0.1,
)
_P_CHANNEL = 0.5


def augment(
    images: Tensor, classes: Tensor, rng: np.random.Generator, ranges: Ranges | None = None
) -> tuple[Tensor, Tensor]:
    """Randomly transformed copies; all chance comes from ``rng``.

    Parameters
    ----------
    images : float32 (n, contrast, y, x), normalised, background 0.
    classes : uint8 (n, y, x), class indices; resampled by nearest neighbour, so no new value can appear.
    """
    ranges = ranges or Ranges()
    n, channels = images.shape[:2]
    images, classes = images.clone(), classes.clone()

    angle = rng.uniform(-1, 1, n) * math.radians(ranges.rotation_deg) * (rng.random(n) < _P_ROTATION)
    scale = 1 + rng.uniform(-1, 1, n) * ranges.scale * (rng.random(n) < _P_SCALE)
    if len(chosen := np.flatnonzero((angle != 0) | (scale != 1))):
        rows = _index(chosen, images)
        images[rows], classes[rows] = rotate_and_scale(images[rows], classes[rows], angle[chosen], scale[chosen])

    sigma = rng.uniform(0, ranges.noise, n)
    noise_seed = int(rng.integers(2**63 - 1))
    if len(chosen := np.flatnonzero(rng.random(n) < _P_NOISE)):
        rows = _index(chosen, images)
        generator = torch.Generator(images.device).manual_seed(noise_seed)
        noise = torch.randn(images[rows].shape, generator=generator, device=images.device)
        images[rows] += noise * _like(sigma[chosen], images)[:, None, None, None]

    sigma_px = rng.uniform(*ranges.blur_px, (n, channels)) * (rng.random((n, channels)) < _P_CHANNEL)
    if len(chosen := np.flatnonzero(rng.random(n) < _P_BLUR)):
        rows = _index(chosen, images)
        images[rows] = blur(images[rows], _like(sigma_px[chosen], images))

    share = rng.uniform(ranges.resolution, 1, n)
    affected = rng.random((n, channels)) < _P_CHANNEL
    for i in np.flatnonzero((rng.random(n) < _P_RESOLUTION) & affected.any(1)):
        which = _index(np.flatnonzero(affected[i]), images)
        images[i, which] = lower_resolution(images[i, which][None], float(share[i]))[0]

    for probability, sign in ((_P_INVERTED_GAMMA, -1.0), (_P_GAMMA, 1.0)):
        exponent = _draw_exponents(rng, ranges.gamma, (n, channels))
        if len(chosen := np.flatnonzero(rng.random(n) < probability)):
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


def _draw_exponents(rng: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Half of them below 1, half above, as nnU-Net draws them."""
    low, high = bounds
    return np.where(rng.random(shape) < 0.5, rng.uniform(low, 1, shape), rng.uniform(1, high, shape))


def _index(rows: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _like(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device, like.dtype)
