"""Pictures inside the page: slices as PNG data URIs, labels as vector outlines drawn over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.geometry import Geometry
from synthkit.data.orientation import edge_marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import Sample, UInt8Array
    from synthkit.data.dataset import Dataset

#: Largest side of a picture in pixels; larger slices are reduced by a whole factor (mean of each block).
MAXIMUM_SIDE = 128

#: Of a dataset at most this many samples, evenly spaced, are looked at for tumour.
EXAMINED = 400

#: Shown differences are this many times the true ones, so that small ones can be seen.
DIFFERENCE_GAIN = 4


def png(image: UInt8Array) -> str:
    """A grey image ``(y, x)`` as a data URI, reduced to at most :data:`MAXIMUM_SIDE`."""
    return _encoded(reduced(image))


def mosaic(images: Sequence[UInt8Array]) -> str:
    """Grey images ``(y, x)`` of one size, each reduced, in two columns as one data URI; one image stays alone."""
    tiles = [reduced(image) for image in images]
    if len(tiles) == 1:
        return _encoded(tiles[0])
    tiles += [np.zeros_like(tiles[0])] * (len(tiles) % 2)
    return _encoded(np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]))


def beside_labels(image: UInt8Array, labels: UInt8Array, colours: Mapping[int, tuple[int, int, int]]) -> str:
    """A grey image ``(y, x)`` and, right of it, its label map in colours, as one data URI; both reduced."""
    grey = reduced(image)
    factor = image.shape[0] // grey.shape[0]
    drawn = np.zeros((*grey.shape, 3), np.uint8)
    kept = labels[::factor, ::factor][: grey.shape[0], : grey.shape[1]]
    for value, colour in colours.items():
        drawn[kept == value] = colour
    return _encoded(np.hstack([np.repeat(grey[..., None], 3, axis=2), drawn]))


def _encoded(image: UInt8Array) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def reduced(image: UInt8Array) -> UInt8Array:
    """Mean of blocks of a whole number of pixels, so that no side exceeds :data:`MAXIMUM_SIDE`."""
    factor = -(-max(image.shape) // MAXIMUM_SIDE)
    if factor == 1:
        return np.ascontiguousarray(image)
    height, width = (side // factor * factor for side in image.shape)
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    means: UInt8Array = (blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
    return means


def outline(mask: NDArray[np.bool_]) -> str:
    """SVG path around the pixels of a mask ``(y, x)``, in pixel coordinates; inside is what fill rule nonzero fills.

    The borders of the pixels, each walked with the mask on its right, form closed loops, outer ones clockwise.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Border towards the neighbour at (dy, dx): its start and end, from the pixel's upper left corner.
    for (dy, dx), (start_y, start_x), (end_y, end_x) in (
        ((-1, 0), (0, 0), (0, 1)),
        ((0, 1), (0, 1), (1, 1)),
        ((1, 0), (1, 1), (1, 0)),
        ((0, -1), (1, 0), (0, 0)),
    ):
        neighbour = padded[1 + dy : padded.shape[0] - 1 + dy, 1 + dx : padded.shape[1] - 1 + dx]
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            following.setdefault((y + start_y, x + start_x), []).append((y + end_y, x + end_x))
    parts = []
    while following:
        start = next(iter(following))
        loop, here = [start], _step(following, start)
        while here != start:
            loop.append(here)
            here = _step(following, here)
        corners = [
            point
            for before, point, after in zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
            if (point[0] - before[0], point[1] - before[1]) != (after[0] - point[0], after[1] - point[1])
        ]
        parts.append("M" + "L".join(f"{x} {y}" for y, x in corners) + "z")
    return "".join(parts)


def _step(following: dict[tuple[int, int], list[tuple[int, int]]], here: tuple[int, int]) -> tuple[int, int]:
    after = following[here].pop()
    if not following[here]:
        del following[here]
    return after


# ---------------------------------------------------------------------------------------- samples of a dataset


def evenly(n: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` positions in ``range(n)``: the middles of ``count`` equal parts."""
    count = min(n, count)
    if count == 0:
        return np.zeros(0, np.int64)
    return ((np.arange(count) + 0.5) * n / count).astype(np.int64)


def representative(dataset: Dataset, rows: Sequence[int], count: int) -> tuple[list[int], int, int]:
    """``count`` of ``rows``, chosen by position alone: evenly spaced among those that hold any tumour label.

    Returns the rows, how many were looked at (evenly spaced, at most :data:`EXAMINED`) and how many of these hold
    tumour. Without any, they are evenly spaced among all.
    """
    examined = [rows[i] for i in evenly(len(rows), EXAMINED)]
    with_tumour = []
    for start in range(0, len(examined), 64):
        part = examined[start : start + 64]
        labels = dataset.read(part)[1]
        with_tumour += [row for row, own in zip(part, labels, strict=True) if own.any()]
    among = with_tumour or examined
    return [among[i] for i in evenly(len(among), count)], len(examined), len(with_tumour)


def sample_row(dataset: Dataset, row: int) -> dict[str, Any]:
    """One sample for the grid, as :func:`slice_row` has it."""
    images, labels = dataset.read([row])
    return slice_row(dataset, images[0], labels[0], describe(dataset.samples[row]))


def slice_row(like: Dataset, image: UInt8Array, labels: UInt8Array, caption: str) -> dict[str, Any]:
    """A picture of each contrast of a slice ``(contrast, y, x)``, and the labels ``(y, x)`` to be drawn over one of
    them.

    ``like`` is a dataset of the same contrasts, labels and orientation; the size may be another. ``marks`` are letters
    for the edges of a picture, R and L, A and P, where that dataset records its orientation.
    """
    height, width = labels.shape
    return {
        "caption": caption,
        "contrasts": [{"name": name, "uri": png(image[c])} for c, name in enumerate(like.contrasts)],
        "base": like.scheme.base_contrast(like.contrasts),
        "marks": edge_marks(Geometry.of(like.description.get("protocol")).axes),
        "height": height,
        "width": width,
        "paths": [
            {"name": name, "colour": colour, "d": outline(labels == like.labels[name])}
            for name, colour in like.scheme.colours(like.labels).items()
            if (labels == like.labels[name]).any()
        ],
    }


def describe(sample: Sample) -> str:
    """A sample in a few words: subject and slice of a real one, seed of a synthetic one, else its id."""
    if sample.subject is not None:
        return sample.subject + (f", slice {sample.slice}" if sample.slice is not None else "")
    return f"seed {sample.seed}" if sample.seed is not None else sample.id


def pearson(one: UInt8Array, other: UInt8Array) -> float | None:
    """Pearson r over all pixels of two images of one shape; None if one of them is constant."""
    x, y = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else None


def difference(one: UInt8Array, other: UInt8Array) -> UInt8Array:
    """Absolute difference of two images, times :data:`DIFFERENCE_GAIN`, clipped to 255."""
    distance = np.abs(one.astype(np.int16) - other.astype(np.int16)) * DIFFERENCE_GAIN
    clipped: UInt8Array = np.minimum(distance, 255).astype(np.uint8)
    return clipped
