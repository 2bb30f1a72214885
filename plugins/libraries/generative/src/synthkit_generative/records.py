"""What a training of a generator leaves for the eye beside its checkpoint, in the run's outputs: curves and grids.

``reals.png`` shows training images, for comparison with the samples in ``snapshots``: neither is for sharing. Outside a
run nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from synthkit_torch import parallel
from synthkit_torch.devices import float32_arithmetic
from synthkit_torch.statistics import Statistics
from torch import Tensor

import synthkit
from synthkit import events
from synthkit.contract import Samples
from synthkit.schemes import Scheme
from synthkit_generative.drawing import to_grey_levels
from synthkit_generative.encodings import Encoding, of_bytes, to_bytes

#: Seeds of the samples in a snapshot, always the same, so that snapshots show one another's progress.
SNAPSHOT_SEEDS = tuple(range(8))
_SMALLEST = 128  # side of an image in a grid, in pixels
_HEADER = 14  # pixels for the names of the columns, and for the legend below them


class Records:
    """Statistics and pictures of one training, from ``shown`` images on."""

    def __init__(self, data: Samples, encoding: Encoding, shown: int, total: int) -> None:
        self._contrasts, self._scheme, self._encoding = data.contrasts, data.scheme, encoding
        self._folder = events.outputs()
        self._statistics = Statistics(shown, total)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        if self._folder is not None and len(data) and parallel.rank() == 0:
            rows = np.linspace(0, len(data) - 1, min(len(SNAPSHOT_SEEDS), len(data))).astype(int)
            images, labels = data.read(rows)
            grey = np.concatenate([images, to_bytes(encoding.encode(labels))], axis=1)
            self._save(grey, self._folder / "reals.png")
            synthkit.message(
                "Pictures of this training are in the run's outputs: progress.png of its numbers, reals.png, snapshots."
            )

    def watch(self, values: dict[str, Tensor]) -> None:
        """Take the scalars of one step; they are averaged on their device until :meth:`statistics`."""
        self._steps += 1
        for name, value in values.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def statistics(self, shown: int) -> None:
        """Append a line: images shown, time, memory, and the mean of each scalar since the last line."""
        self._statistics.write(shown, {name: float(value) / self._steps for name, value in self._sums.items()})
        self._sums, self._steps = {}, 0

    def snapshot(self, shown: int, sample: Callable[[Sequence[int]], Tensor]) -> None:
        """Write ``snapshots/<kimg>.png``: a row a sample, a column a contrast, and the labels over the first one."""
        if self._folder is None:
            return
        with torch.inference_mode(), float32_arithmetic():
            grey = to_grey_levels(sample(SNAPSHOT_SEEDS))
        folder = self._folder / "snapshots"
        folder.mkdir(exist_ok=True)
        self._save(grey, folder / f"{shown / 1000:010.3f}.png")

    def _save(self, grey: NDArray[np.uint8], path: Path) -> None:
        Image.fromarray(grid(enlarged(grey), self._contrasts, self._encoding, self._scheme)).save(path)


def grid(grey: NDArray[np.uint8], contrasts: Sequence[str], encoding: Encoding, scheme: Scheme) -> NDArray[np.uint8]:
    """Samples ``(n, contrast + channel, y, x)``, labels last, as one RGB picture ``(y, x, 3)``.

    Names stand above the columns. Labels have the colours of their scheme, as in reports; the legend in the last line
    names them.
    """
    first = grey.shape[1] - encoding.channels
    labels = encoding.decode(of_bytes(grey[:, first:]))
    shown = np.concatenate([grey[:, :first], grey[:, :1]], axis=1)  # the last column is for the labels over the first
    n, columns, height, width = shown.shape
    cells = np.repeat(shown[..., None], 3, axis=-1)
    colours = scheme.rgb(sorted(encoding.label_values))
    for value, colour in colours.items():
        cells[:, -1][labels == value] = colour
    body = cells.transpose(0, 2, 1, 3, 4).reshape(n * height, columns * width, 3)
    line = np.zeros((_HEADER, columns * width, 3), np.uint8)
    picture = Image.fromarray(np.concatenate([line, body, line]))
    draw = ImageDraw.Draw(picture)
    for column, name in enumerate([*contrasts, "labels"]):
        draw.text((column * width + 2, 1), name, fill=(255, 255, 255))
    left, top = 2.0, picture.height - _HEADER + 1
    for label in scheme.labels:
        if label.value in colours:
            draw.rectangle((left, top + 2, left + 8, top + 9), fill=colours[label.value])
            draw.text((left + 12, top), label.name, fill=(255, 255, 255))
            left += 24 + draw.textlength(label.name)
    return np.asarray(picture)


def enlarged(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images ``(..., y, x)`` with each pixel repeated so often that the side is at least 128 pixels."""
    times = max(1, -(-_SMALLEST // grey.shape[-1]))
    return grey.repeat(times, axis=-2).repeat(times, axis=-1)
