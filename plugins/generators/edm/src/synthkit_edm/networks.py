"""The networks of EDM, and what is known of the images that they learn. Source: see :mod:`synthkit_edm.process`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_generative.encodings import Encoding, of_bytes
from synthkit_generative.unet import MULTIPLES, Architecture, group_for
from torch import Tensor, nn

from synthkit.contract import Samples
from synthkit.errors import UsageError
from synthkit_edm.process import Denoiser

SIGMA_FLOOR = 0.25  # of sigma_data: a channel that hardly varies, as of a rare label, is not amplified without bound
MOST_SLICES = 4096  # that mean and sigma_data are taken of, evenly spaced


@dataclass(frozen=True)
class Shape:
    """What the shapes of the networks follow from.

    ``size`` is in pixels, ``contrasts`` and ``labels`` count channels, ``told`` numbers of augmentation, ``asked``
    those of conditions; squares of ``patch`` pixels a side are one to a network, which is
    told ``pace`` times the logarithm of the noise level and gives ``features`` of each pixel to that of details.
    """

    size: int
    contrasts: int
    labels: int
    width: int
    res_blocks: int
    heads: int
    labels_first: bool
    told: int
    asked: int
    # As trained before there were others: checkpoints of then do not name them.
    patch: int = 1
    pace: float = 0.25
    features: int = 0

    def to_config(self) -> dict[str, Any]:
        """As in ``config.json``: what older checkpoints do not name is left out where it is as in them."""
        added = {field.name for field in dataclasses.fields(self) if field.default is not dataclasses.MISSING}
        values = dataclasses.asdict(self)
        return {
            name: value for name, value in values.items() if name not in added or value != getattr(type(self), name)
        }

    def unet(self, channels: int, width: int) -> Architecture:
        """Of a network that draws so many channels."""
        return Architecture(
            self.size, channels, width, self.res_blocks, group=group_for(width), heads=self.heads, head_channels=0
        )

    @property
    def label_width(self) -> int:
        """Of the network of labels alone: half, in whole heads."""
        return -(-self.width // (2 * self.heads)) * self.heads


def check_patch(size: int, patch: int) -> None:
    """:class:`synthkit.errors.UsageError` unless a network exists for ``size`` pixels in squares of ``patch``."""
    if size % patch or size // patch not in MULTIPLES:
        fitting = [f"{side}" for side in (1, 2, 4, 8) if size % side == 0 and size // side in MULTIPLES]
        raise UsageError(
            f"patch={patch} does not go with slices of {size} pixels.",
            f"They would be {size / patch:g} pixels to the network, which is made for 32, 64, 128, 256 or 512.",
            f"Give -p patch={' or '.join(fitting)}.",
        )


@dataclass(frozen=True)
class Statistics:
    """What is known of the training images in [-1, 1].

    ``mean`` is ``(channels, y, x)`` and ``sigma_data`` ``(channels,)`` the standard deviation about it; the
    ``largest_area`` is a share of the pixels, labelled in one image.
    """

    mean: Tensor
    sigma_data: Tensor
    largest_area: float

    @classmethod
    def of(cls, data: Samples, encoding: Encoding) -> Statistics:
        """Of a dataset, of at most 4096 of its slices."""
        rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), MOST_SLICES)).astype(int))
        total: NDArray[np.float64] = np.zeros(())
        squares: NDArray[np.float64] = np.zeros(())
        largest = 0.0
        for part in np.array_split(rows, -(-len(rows) // 64)):
            images, labels = data.read(part)
            coded = np.concatenate([of_bytes(images), encoding.encode(labels)], axis=1).astype(np.float64)
            total, squares = total + coded.sum(axis=0), squares + np.square(coded).sum(axis=0)
            largest = max(largest, float((labels != 0).mean(axis=(1, 2)).max()))
        mean = total / len(rows)
        variance = (squares / len(rows) - np.square(mean)).clip(min=0).mean(axis=(1, 2))
        sigma_data = np.sqrt(variance).clip(min=SIGMA_FLOOR)
        return cls(torch.from_numpy(mean).float(), torch.from_numpy(sigma_data).float(), largest)


class Model(nn.Module):
    """One denoiser of contrasts and labels; with ``labels_first`` one of labels, and one of contrasts given labels.

    That of labels is told of conditions. ``largest_area`` is the largest labelled share of a training image's pixels.
    """

    largest_area: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        told = shape.told + shape.asked
        if shape.labels_first:
            self.labels = self._denoiser(shape.labels, shape.label_width, 0, told)
            self.contrasts = self._denoiser(shape.contrasts, shape.width, shape.labels, shape.told)
        else:
            self.joint = self._denoiser(shape.contrasts + shape.labels, shape.width, 0, told)
        self.register_buffer("largest_area", torch.zeros(()))

    def _denoiser(self, channels: int, width: int, given: int, told: int) -> Denoiser:
        shape = self.shape
        return Denoiser(shape.unet(channels, width), given, told, shape.patch, shape.pace, shape.features)

    @property
    def denoisers(self) -> list[tuple[Denoiser, slice, slice | None]]:
        """Each network, the channels that it draws, and those that it is given."""
        first = self.shape.contrasts
        if self.shape.labels_first:
            return [(self.labels, slice(first, None), None), (self.contrasts, slice(0, first), slice(first, None))]
        return [(self.joint, slice(None), None)]

    def take(self, statistics: Statistics) -> None:
        """What is known of the training images."""
        self.largest_area.fill_(statistics.largest_area)
        for denoiser, drawn, _ in self.denoisers:
            denoiser.mean.copy_(statistics.mean[drawn])
            denoiser.sigma_data.copy_(statistics.sigma_data[drawn, None, None])
