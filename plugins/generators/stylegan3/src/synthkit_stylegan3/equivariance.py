"""How exactly the images of a generator move and turn with its input: EQ-T and EQ-R in dB.

Source: Karras et al. 2021, arXiv 2106.12423, section 2.2 and appendix E. Both are peak signal-to-noise ratios,
``10 log10(2^2 / mean squared difference)`` for images in [-1, 1], of the generator's image of a moved input against its
image of the input, moved. 60 dB and more is aliasing out of sight; a network whose details stick to pixels has 15.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import j1
from torch import Tensor

from synthkit_stylegan3.networks import Generator

#: Of EQ-R's interpolation: radius in pixels, and cutoff in cycles a pixel, which leaves a transition up to Nyquist.
RADIUS, CUTOFF = 8, 0.4
KAISER_BETA = 4.6  # about 50 dB in the stopband


def _decibels(squared: list[Tensor]) -> float:
    return 10 * math.log10(4 / float(torch.cat([part.flatten() for part in squared]).mean()))


@torch.inference_mode()
def translation(generator: Generator, w: Tensor, random: np.random.Generator) -> float:
    """EQ-T in dB over latents ``w (n, latent)``, each moved by up to an eighth of the side along each axis.

    By whole pixels, and compared where both images show the scene.
    """
    size = generator.architecture.size
    squared = []
    for row in w[:, None]:
        right, down = (int(step) for step in random.integers(-(size // 8), size // 8 + 1, 2))
        pose = torch.tensor([[1.0, 0.0, -right / size], [0.0, 1.0, -down / size]], device=w.device)
        image, moved = generator.synthesis(row), generator.synthesis(row, pose=pose)
        x, y = slice(max(right, 0), size + min(right, 0)), slice(max(down, 0), size + min(down, 0))
        squared.append((moved - image.roll((down, right), (2, 3)))[:, :, y, x].square())
    return _decibels(squared)


@torch.inference_mode()
def rotation(generator: Generator, w: Tensor, random: np.random.Generator) -> float:
    """EQ-R in dB over latents ``w (n, latent)``, each turned about the centre by an angle of all round.

    A square of pixels cannot be turned without loss. So both images are interpolated with one radially symmetric
    low-pass, the one at its pixels and the other at turned positions, and are compared in the disc that it can reach
    in both. Frequencies above the interpolation's cutoff do not count.
    """
    size = generator.architecture.size
    axis = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    inside = np.hypot(x, y) <= size / 2 - RADIUS - 1
    positions = np.stack([x[inside], y[inside]], axis=1)
    squared = []
    for row in w[:, None]:
        angle = random.uniform(0, 2 * math.pi)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        pose = torch.tensor(np.pad(turn, ((0, 0), (0, 1))), dtype=w.dtype, device=w.device)
        image, turned = generator.synthesis(row)[0], generator.synthesis(row, pose=pose)[0]
        squared.append((interpolate(turned, positions) - interpolate(image, positions @ turn.T)).square())
    return _decibels(squared)


def interpolate(image: Tensor, positions: np.ndarray) -> Tensor:
    """Values ``(channels, n)`` of ``image (channels, size, size)`` at ``positions (n, 2)``, (x, y) from its centre.

    All pixels within :data:`RADIUS` of a position count, by a Kaiser-windowed jinc of their distance.
    """
    size = image.shape[-1]
    around = positions + (size - 1) / 2
    reach = np.arange(-RADIUS, RADIUS + 1)
    columns, rows = (np.rint(around[:, axis]).astype(int)[:, None] + reach for axis in (0, 1))
    distance = np.hypot((columns - around[:, :1])[:, None, :], (rows - around[:, 1:])[:, :, None])
    near = np.maximum(distance, 1e-6)
    window = np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (distance / RADIUS) ** 2, 0, None))) * (distance < RADIUS)
    weights = j1(2 * math.pi * CUTOFF * near) / near * window
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    pixels = image[:, rows[:, :, None], columns[:, None, :]]
    return torch.einsum("cnyx,nyx->cn", pixels, torch.tensor(weights, dtype=image.dtype, device=image.device))
