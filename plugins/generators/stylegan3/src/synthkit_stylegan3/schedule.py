"""Shapes of StyleGAN3's synthesis: which sampling rate, size, band limit and width each layer's feature maps have.

Source: Karras et al. 2021, arXiv 2106.12423, section 3.2 ("Flexible layer specifications") and appendix F. The unit of
length is the side of the image: rates are in samples, frequencies in cycles a side of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Layers between the Fourier features and the to-image layer, whatever the size of the image.
LAYERS = 14
#: Of them at the end, sampled at twice their cutoff exactly, which the last details need.
CRITICAL = 2
#: Samples outside the image on each side, so that no layer sees where the image ends.
MARGIN = 10

FIRST_CUTOFF = 2.0
FIRST_STOPBAND = 2**2.1
#: Of the last layers, as a multiple of half the sampling rate.
LAST_STOPBAND = 2**0.3


@dataclass(frozen=True)
class Maps:
    """Feature maps between two layers, as samples of a band-limited signal.

    Attributes
    ----------
    rate : samples in the length of the image's side.
    side : samples along each side, margins included.
    cutoff : frequencies up to here pass.
    half_width : half the width of the filter's transition band, which is centred at the cutoff.
    features : number of maps.
    """

    rate: int
    side: int
    cutoff: float
    half_width: float
    features: int


@dataclass(frozen=True)
class Architecture:
    """What the shapes of the generator follow from. ``channels`` counts the label channel; ``size`` is in pixels.

    Config t of the paper has kernels of 3x3 pixels and separable filters. Config r has kernels of 1x1 and radial
    filters, which turn with the image, and twice the feature maps to make up for it.
    """

    size: int
    channels: int
    channel_base: int = 32768
    channel_max: int = 512
    latent: int = 512
    mapping_layers: int = 2
    kernel: int = 3
    radial: bool = False

    @property
    def maps(self) -> list[Maps]:
        """Feature maps before layer 0 and after each of the :data:`LAYERS` layers.

        Cutoff and stopband grow geometrically from layer to layer up to the critically sampled ones. The rate of a
        layer is the least power of two that is at least twice its stopband, and at most the size of the image.
        """
        specified = []
        for number in range(LAYERS):
            grown = min(number / (LAYERS - CRITICAL), 1.0)
            cutoff = FIRST_CUTOFF * (self.size / 2 / FIRST_CUTOFF) ** grown
            stopband = FIRST_STOPBAND * (self.size / 2 * LAST_STOPBAND / FIRST_STOPBAND) ** grown
            rate = min(2 ** math.ceil(math.log2(2 * stopband)), self.size)
            specified.append(
                Maps(
                    rate=rate,
                    side=rate + 2 * MARGIN if number < LAYERS - 1 else self.size,
                    cutoff=cutoff,
                    half_width=max(stopband, rate / 2) - cutoff,
                    features=max(1, round(min(self.channel_base / 2 / cutoff, self.channel_max))),
                )
            )
        return [specified[0], *specified]

    def is_critical(self, layer: int) -> bool:
        """Whether this layer's output is sampled at twice its cutoff."""
        return layer >= LAYERS - CRITICAL
