"""A look at the labels of a trained generator before anybody relies on them: how they compare with real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import synthkit
from synthkit.contract import Samples
from synthkit_generative.encodings import Encoding

_MOST_SLICES = 2048  # of the real ones that are counted, evenly spaced
_FEWEST = 0.5  # of its real pixels; a label with less is warned about


@dataclass(frozen=True)
class Counts:
    """Labels of some slices.

    Attributes
    ----------
    slices : how many.
    labelled : share of the slices with any label above background.
    pixels : mean pixels a slice of each label above background, by value.
    single : share of patches (touching labelled pixels, corners too, whatever their labels) that are one pixel; 0
        without a patch.
    """

    slices: int
    labelled: float
    pixels: dict[int, float]
    single: float

    @classmethod
    def of(cls, labels: NDArray[np.uint8], values: Sequence[int]) -> Counts:
        """Of labels ``(n, y, x)``, n > 0; ``values`` of all labels, background first."""
        tissue = labels != values[0]
        corners = np.ones((3, 3), dtype=int)
        sizes = np.concatenate([np.bincount(ndimage.label(each, corners)[0].ravel())[1:] for each in tissue])
        return cls(
            slices=len(labels),
            labelled=float(tissue.any(axis=(1, 2)).mean()),
            pixels={value: float((labels == value).sum() / len(labels)) for value in values[1:]},
            single=float((sizes == 1).mean()) if len(sizes) else 0.0,
        )


@dataclass(frozen=True)
class Gate:
    """What real labels are like, for those of samples to be compared with."""

    encoding: Encoding
    names: dict[int, str]
    real: Counts
    shares: tuple[float, ...]

    @classmethod
    def of(cls, data: Samples, encoding: Encoding) -> Gate:
        """Of a dataset, of at most 2048 of its slices. ``shares`` are of all pixels, in the order of the encoding."""
        rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), _MOST_SLICES)).astype(int))
        parts = np.array_split(rows, -(-len(rows) // 64))
        labels = np.concatenate([data.read(part)[1] for part in parts])
        counts = np.bincount(labels.ravel(), minlength=256)
        shares = [float(counts[value] / labels.size) for value in encoding.label_values]
        return cls(encoding, data.scheme.label_names, Counts.of(labels, encoding.label_values), tuple(shares))

    def tell(self, channels: NDArray[np.float32], offsets: Sequence[float]) -> None:
        """Report the labels of drawn ``channels (n, channel, y, x)``: as drawn, and with ``offsets`` if there are any.

        A warning where a label has less than half of its real pixels, with offsets if there are any.
        """
        values = self.encoding.label_values
        ways: dict[str, Sequence[float]] = {"As drawn": ()}
        if len(offsets):
            ways["With fitted offsets"] = offsets
        lines = [f"Labels of {len(channels)} samples of this generator, real ones in brackets."]
        for how, added in ways.items():
            counts = Counts.of(self.encoding.decode(channels, added), values)
            pixels = ", ".join(
                f"{self.names[value]} {counts.pixels[value]:.2f} ({self.real.pixels[value]:.2f})"
                for value in sorted(values[1:])
            )
            lines.append(
                f"{how}: labels in {100 * counts.labelled:.0f} % ({100 * self.real.labelled:.0f} %) of slices; pixels "
                f"a slice: {pixels}; patches of a single pixel: {100 * counts.single:.0f} % "
                f"({100 * self.real.single:.0f} %)."
            )
        synthkit.message(" ".join(lines))
        rare = [
            self.names[value]
            for value in sorted(values[1:])
            if counts.pixels[value] < _FEWEST * self.real.pixels[value]
        ]
        if rare:
            synthkit.message(
                f"{' and '.join(rare)} {'is' if len(rare) == 1 else 'are'} drawn on less than half of the real pixels: "
                "a segmenter that learns from these samples will miss it. Train longer (kimg), or wider networks.",
                level="warning",
            )
