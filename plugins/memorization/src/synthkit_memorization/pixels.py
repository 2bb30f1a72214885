"""Images as exact integers: blocks of pixels with the sums that Pearson's r needs, and r from integers.

Pearson's r of two images over all their D pixels is

    r = (D <x, y> - S_x S_y) / sqrt(v_x v_y),    v_x = D <x, x> - S_x^2,

and for 8-bit pixels everything but the last division is an integer. It is computed as one, so r does not depend on
block sizes, threads or the order of summation, is exactly 1 for identical images, and errs by a few 1e-16.

An image without variance has no r. Here it is 0, with every image, identical ones included: a blank image carries
nothing of anybody, so it is never a match worth reporting (and equals what a correlation with added infinitesimal
noise gives on average).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Pixels are stored as ``value - 128`` in int8. A product of two is at most 2**14, so a sum of 2**10 products, in any
#: order and with or without fused operations, stays within the 2**24 that float32 represents exactly.
SHIFT = 128
CHUNK = 1024

#: Images read from a dataset at a time.
READ_BATCH = 256

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


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

    def crop(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return images[..., self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Block:
    """Some images of a dataset, cropped to a box, with their exact sums.

    Attributes
    ----------
    start : position of the first image in its dataset.
    box : the crop. Pixels outside count in ``sums`` and ``squares``; they meet only zeros of the other side in <x, y>.
    pixels : int8 ``(contrast, image, P)``, value - 128, P = pixels of the box padded with 0 to a multiple of CHUNK.
    sums, squares : int64 ``(contrast, image)``, sum of x and of x^2 over the whole image.
    box_sums : int64 ``(contrast, image)``, sum of x over the box.
    """

    start: int
    box: Box
    pixels: Int8
    sums: Int64
    squares: Int64
    box_sums: Int64

    def __len__(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def stop(self) -> int:
        return self.start + len(self)

    def take(self, rows: NDArray[np.integer[Any]]) -> Block:
        """These images only (``start`` loses its meaning)."""
        return Block(
            self.start,
            self.box,
            self.pixels[:, rows],
            self.sums[:, rows],
            self.squares[:, rows],
            self.box_sums[:, rows],
        )


@dataclass(frozen=True)
class Moments:
    """Sum and scaled variance of each image of a block under one rule: int64 ``(image,)``."""

    n_pixels: int
    sums: Int64
    variance: Int64  # D <x, x> - S^2

    @staticmethod
    def of(block: Block, contrasts: tuple[int, ...], image_pixels: int) -> Moments:
        """Over the contrasts together, as if they were one long image."""
        n_pixels = image_pixels * len(contrasts)
        sums = block.sums[list(contrasts)].sum(axis=0)
        squares = block.squares[list(contrasts)].sum(axis=0)
        return Moments(n_pixels, sums, n_pixels * squares - sums * sums)


def pearson(
    dots: Int64,
    x_sums: Int64 | np.int64,
    y_sums: Int64,
    x_variance: Int64 | np.int64,
    y_variance: Int64,
    n_pixels: int,
) -> Float64:
    """r from integers (equation at the top of this file), 0 where a variance is 0. Broadcasts."""
    covariance = (n_pixels * dots - x_sums * y_sums).astype(np.float64)
    # One square root of the product: sqrt(v * v) is exactly v, so identical images have r = 1 and not 1 - 1e-16.
    scale = np.sqrt(x_variance.astype(np.float64) * y_variance.astype(np.float64))
    r = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0)
    return np.clip(r, -1.0, 1.0, out=r)


def check_size(n_pixels: int) -> None:
    """The integers above fit 64 bits up to images of this many pixels, all contrasts together."""
    if n_pixels * n_pixels * 255 * 255 >= 2**63:
        raise ValueError(f"images of {n_pixels} pixels are too large for exact 64-bit sums (limit 11.9 million)")


def _bounds(images: NDArray[np.uint8]) -> Box | None:
    """Smallest box holding every non-zero pixel of ``(n, contrast, y, x)``, or None if all are zero."""
    used = images.max(axis=(0, 1)) > 0
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    if rows.size == 0:
        return None
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def _padded(n: int) -> int:
    return -(-n // CHUNK) * CHUNK


def _fill(pixels: Int8, at: int, images: NDArray[np.uint8], box: Box) -> Int64:
    """Write cropped, shifted pixels of ``(n, contrast, y, x)`` at row ``at`` and return their sums over the box."""
    cropped = box.crop(images)
    n, n_contrasts = cropped.shape[:2]
    flat = cropped.reshape(n, n_contrasts, -1).transpose(1, 0, 2)
    # Flipping the highest bit is subtracting 128 when the byte is then read as signed.
    np.bitwise_xor(flat, np.uint8(SHIFT), out=pixels.view(np.uint8)[:, at : at + n, : box.n_pixels])
    sums: Int64 = flat.sum(axis=2, dtype=np.int64)
    return sums


def _totals(images: NDArray[np.uint8]) -> tuple[Int64, Int64]:
    """Sum and sum of squares ``(contrast, image)`` of uint8 ``(n, contrast, y, x)``."""
    n, n_contrasts = images.shape[:2]
    sums = np.empty((n_contrasts, n), np.int64)
    squares = np.zeros((n_contrasts, n), np.int64)
    for i in range(n):
        flat = images[i].reshape(n_contrasts, -1)
        sums[:, i] = flat.sum(axis=1, dtype=np.int64)
        # 2**16 squares of a byte fit 32 bits; a longer image is summed in such pieces.
        for first in range(0, flat.shape[1], 2**16):
            piece = flat[:, first : first + 2**16].astype(np.uint32)
            squares[:, i] += np.einsum("cp,cp->c", piece, piece).astype(np.int64)
    return sums, squares


def make_block(images: NDArray[np.uint8], box: Box, start: int) -> Block:
    """A block of images ``(n, contrast, y, x)`` cropped to ``box``."""
    n, n_contrasts = images.shape[:2]
    pixels = np.zeros((n_contrasts, n, _padded(box.n_pixels)), np.int8)
    box_sums = _fill(pixels, 0, images, box)
    sums, squares = _totals(images)
    return Block(start, box, pixels, sums, squares, box_sums)


def shards(train: Images, memory_bytes: int) -> Iterator[Block]:
    """The training images as consecutive blocks of at most ``memory_bytes`` of pixels, each held in memory in turn.

    The box of a shard is the smallest one that holds every non-zero pixel of it, so no product is lost.
    """
    start = 0
    while start < len(train):
        box: Box | None = None
        parts: list[tuple[Box, NDArray[np.uint8]]] = []
        sums: list[tuple[Int64, Int64]] = []
        n = 0
        while start + n < len(train):
            stop = min(start + n + READ_BATCH, len(train))
            images, _ = train.read(range(start + n, stop))
            found = _bounds(images) or Box(0, 1, 0, 1)
            joined = found if box is None else box.join(found)
            if parts and (n + len(images)) * images.shape[1] * _padded(joined.n_pixels) > memory_bytes:
                break
            box = joined
            parts.append((found, found.crop(images).copy()))
            sums.append(_totals(images))
            n += len(images)
        assert box is not None
        yield _assemble(start, box, parts, sums)
        start += n


def _assemble(
    start: int, box: Box, parts: list[tuple[Box, NDArray[np.uint8]]], sums: list[tuple[Int64, Int64]]
) -> Block:
    """One block from batches cropped each to its own box; frees each batch as soon as it is copied."""
    n = sum(len(images) for _, images in parts)
    n_contrasts = parts[0][1].shape[1]
    pixels = np.zeros((n_contrasts, n, _padded(box.n_pixels)), np.int8)
    at = 0
    while parts:
        found, images = parts.pop(0)
        canvas = np.zeros((*images.shape[:2], *box.shape), np.uint8)
        top, left = found.top - box.top, found.left - box.left
        canvas[..., top : top + found.shape[0], left : left + found.shape[1]] = images
        _fill(pixels, at, canvas, Box(0, box.shape[0], 0, box.shape[1]))
        at += len(images)
    totals = np.concatenate([pair[0] for pair in sums], axis=1)
    squares = np.concatenate([pair[1] for pair in sums], axis=1)
    return Block(start, box, pixels, totals, squares, totals)
