"""Images as exact integers: blocks of pixels, cropped to where training images differ from zero, with exact sums.

Pixels are held as ``x' = value - 128`` in int8. Three kinds of *plane* of them enter inner products (``rules.py``):
``("pixels", c)`` is contrast c as it is, ``("brain", c)`` the same with 0 outside the brain, and ``MASK`` the brain
itself as -1 inside and 0 outside (so that ``pixels & mask`` is the plane before it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.threads import for_each

#: A product of two values of int8 is at most 2**14, so a sum of 2**10 products, in any order and with or without fused
#: operations, stays within the 2**24 that float32 represents exactly.
SHIFT = 128
CHUNK = 1024

#: Rows of small images are filled up to a multiple of this.
SHORT = 64

#: Images read from a dataset at a time, and pixels of a contrast summed at a time.
READ_BATCH = 256
CACHED = 2**17

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Rows = slice | NDArray[np.integer[Any]] | NDArray[np.bool_]

Plane = tuple[str, int]
MASK: Plane = ("mask", 0)


class Images(Protocol):
    """What the search needs of a dataset (:class:`synthkit.contract.Samples` is one)."""

    @property
    def contrasts(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def read(
        self, indices: Sequence[int] | NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]: ...


@dataclass(frozen=True)
class Held:
    """Images in memory: uint8 ``(n, contrast, y, x)``, and their labels ``(n, y, x)``."""

    contrasts: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    @staticmethod
    def of(source: Images, rows: Int64) -> Held:
        """Some images of a dataset, read in small batches."""
        images = np.empty((len(rows), len(source.contrasts), *source.size), np.uint8)
        labels = np.empty((len(rows), *source.size), np.uint8)
        for first in range(0, len(rows), READ_BATCH):
            part = slice(first, first + READ_BATCH)
            images[part], labels[part] = source.read(rows[part])
        return Held(source.contrasts, images, labels)

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rows = np.asarray(indices, np.int64)
        return self.images[rows], self.labels[rows]


@dataclass(frozen=True)
class Box:
    """Rows ``top:bottom`` and columns ``left:right`` outside which every training pixel is zero."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def n_pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def join(self, other: Box) -> Box:
        return Box(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def crop(self, images: NDArray[Any]) -> NDArray[Any]:
        return images[..., self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Brain:
    """Where the brain of each image is, and the sums of its pixels.

    Attributes
    ----------
    mask : int8 ``(image, P)``, -1 where any contrast exceeds the background, else 0; cropped as the pixels are.
    counts : int64 ``(image,)``, pixels of the brain in the whole image.
    sums, squares : int64 ``(contrast, image)``, sum of x' and of x'^2 over the brain in the whole image.
    """

    mask: Int8
    counts: Int64
    sums: Int64
    squares: Int64

    def take(self, rows: Rows) -> Brain:
        return Brain(self.mask[rows], self.counts[rows], self.sums[:, rows], self.squares[:, rows])


@dataclass(frozen=True)
class Block:
    """Some images of a dataset, cropped to a box, with their exact sums.

    Attributes
    ----------
    start : position of the first image in its dataset.
    box : the crop. Pixels outside count in ``sums`` and ``squares``; they meet only zeros of the other side in <x, y>.
    pixels : int8 ``(contrast, image, P)``, value - 128, P = pixels of the box filled up with 0 (:func:`padded`).
    sums, squares : int64 ``(contrast, image)``, sum of x and of x^2 over the whole image.
    box_sums : int64 ``(contrast, image)``, sum of x over the box.
    brain : for the rule that looks at nothing else.
    """

    start: int
    box: Box
    pixels: Int8
    sums: Int64
    squares: Int64
    box_sums: Int64
    brain: Brain | None

    def __len__(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def chunk(self) -> int:
        """Pixels of a chunk: CHUNK, or all of a small image."""
        return min(CHUNK, int(self.pixels.shape[2]))

    @property
    def stop(self) -> int:
        return self.start + len(self)

    def take(self, rows: Rows) -> Block:
        """These images only (``start`` loses its meaning)."""
        return Block(
            self.start,
            self.box,
            self.pixels[:, rows],
            self.sums[:, rows],
            self.squares[:, rows],
            self.box_sums[:, rows],
            None if self.brain is None else self.brain.take(rows),
        )

    def plane(self, plane: Plane, rows: Rows, pixels: slice) -> Int8:
        """One plane of some images and pixels, int8 ``(image, pixel)``."""
        kind, contrast = plane
        if kind == "pixels":
            return self.pixels[contrast, rows, pixels]
        assert self.brain is not None  # a block is made for the rules that will be asked of it
        mask = self.brain.mask[rows, pixels]
        return mask if kind == "mask" else self.pixels[contrast, rows, pixels] & mask


def at_a_time(n_pixels: int) -> int:
    """Images of this many pixels that are worked on together: what fits a cache."""
    return max(1, CACHED // n_pixels)


def padded(n_pixels: int) -> int:
    """Length of a row of pixels: a multiple of CHUNK, or of SHORT where that is less than one CHUNK."""
    step = SHORT if n_pixels <= CHUNK else CHUNK
    return -(-n_pixels // step) * step


def _empty_block(start: int, n: int, n_contrasts: int, box: Box, with_brain: bool) -> Block:
    """A block whose images are still to be written ."""
    p = padded(box.n_pixels)
    sums = np.zeros((5, n_contrasts, n), np.int64)
    brain = Brain(np.zeros((n, p), np.int8), np.zeros(n, np.int64), sums[3], sums[4]) if with_brain else None
    return Block(start, box, np.zeros((n_contrasts, n, p), np.int8), sums[0], sums[1], sums[2], brain)


def _write_images(block: Block, at: int, images: NDArray[np.uint8], box: Box, background: int) -> None:
    """Write images ``(n, contrast, y, x)`` at row ``at`` of a block; ``box`` is its crop of them."""

    def write(part: slice) -> None:
        step = at_a_time(images[0, 0].size)
        for first in range(part.start, part.stop, step):
            some = slice(first, min(first + step, part.stop))
            _write_some(block, at + first, images[some], box, background)

    for_each(write, len(images), READ_BATCH)


def _write_some(block: Block, at: int, images: NDArray[np.uint8], box: Box, background: int) -> None:
    n, n_contrasts = images.shape[:2]
    rows = slice(at, at + n)
    cropped = box.crop(images).reshape(n, n_contrasts, -1).transpose(1, 0, 2)
    # Flipping the highest bit is subtracting 128 when the byte is then read as signed.
    np.bitwise_xor(cropped, np.uint8(SHIFT), out=block.pixels.view(np.uint8)[:, rows, : cropped.shape[2]])
    exact = _exact(images)
    block.sums[:, rows], block.squares[:, rows] = _sum(exact).T, _sum_of_squares(exact).T
    whole = cropped.shape[2] == images[0, 0].size
    block.box_sums[:, rows] = block.sums[:, rows] if whole else _sum(box.crop(exact)).T
    brain = block.brain
    if brain is not None:
        inside: Int8 = np.negative((images > background).any(axis=1).view(np.int8))
        brain.counts[rows] = -inside.sum(axis=(1, 2), dtype=np.int64)
        brain.mask[rows, : cropped.shape[2]] = box.crop(inside).reshape(n, -1)
        exact = _exact((images ^ np.uint8(SHIFT)).view(np.int8) & inside[:, None])
        brain.sums[:, rows], brain.squares[:, rows] = _sum(exact).T, _sum_of_squares(exact).T


def _exact(images: NDArray[Any]) -> NDArray[Any]:
    """Bytes as floating point: 256 squares, each below 2^16, add up exactly in float32, and any number in float64."""
    return images.astype(np.float32 if images.shape[-1] <= 256 else np.float64)


def _sum(exact: NDArray[Any]) -> Float64:
    """Over the last two axes, the last by a product with ones, which is faster than to add."""
    total: Float64 = (exact @ np.ones(exact.shape[-1], exact.dtype)).sum(axis=-1, dtype=np.float64)
    return total


def _sum_of_squares(exact: NDArray[Any]) -> Float64:
    total: Float64 = np.einsum("...x,...x->...", exact, exact).sum(axis=-1, dtype=np.float64)
    return total


def make_block(images: NDArray[np.uint8], box: Box, start: int, background: int | None = None) -> Block:
    """A block of images ``(n, contrast, y, x)`` cropped to ``box``; its brain, where above ``background``, if given."""
    block = _empty_block(start, len(images), images.shape[1], box, background is not None)
    _write_images(block, 0, images, box, background or 0)
    return block


def _bounds(images: NDArray[np.uint8]) -> Box:
    """Smallest box holding every non-zero pixel of ``(n, contrast, y, x)``; one pixel if all are zero."""
    used = images.max(axis=(0, 1)) > 0
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    if rows.size == 0:
        return Box(0, 1, 0, 1)
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def shards(train: Images, memory_bytes: int, background: int | None = None) -> Iterator[Block]:
    """The training images as consecutive blocks of at most ``memory_bytes`` of pixels, each held in memory in turn.

    The box of a shard is the smallest one that holds every non-zero pixel of it, so no product is lost.
    ``background`` as in :func:`make_block`.
    """
    planes = len(train.contrasts) + (background is not None)
    start = 0
    while start < len(train):
        box: Box | None = None
        parts: list[tuple[Box, NDArray[np.uint8]]] = []
        n = 0
        while start + n < len(train):
            stop = min(start + n + READ_BATCH, len(train))
            images, _ = train.read(range(start + n, stop))
            found = _bounds(images)
            joined = found if box is None else box.join(found)
            if parts and (n + len(images)) * planes * padded(joined.n_pixels) > memory_bytes:
                break
            box = joined
            parts.append((found, found.crop(images).copy()))
            n += len(images)
        assert box is not None
        yield _assemble(start, box, parts, background)
        start += n


def _assemble(start: int, box: Box, parts: list[tuple[Box, NDArray[np.uint8]]], background: int | None) -> Block:
    """One block from batches cropped each to its own box; frees each batch as soon as it is copied."""
    n, n_contrasts = sum(len(images) for _, images in parts), parts[0][1].shape[1]
    block = _empty_block(start, n, n_contrasts, box, background is not None)
    at = 0
    while parts:
        found, images = parts.pop(0)
        # All that lies outside the box is zero, so the sums of the canvas are those of the whole images.
        if found == box:
            canvas = images
        else:
            canvas = np.zeros((*images.shape[:2], *box.shape), np.uint8)
            top, left = found.top - box.top, found.left - box.left
            canvas[..., top : top + found.shape[0], left : left + found.shape[1]] = images
        _write_images(block, at, canvas, Box(0, box.shape[0], 0, box.shape[1]), background or 0)
        at += len(images)
    return block
