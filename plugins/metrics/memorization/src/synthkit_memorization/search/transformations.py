"""What the rules do to a query before it is compared: exact integers, the same everywhere.

Turned images are bilinear: every pixel is the mean of four source pixels by weights that are multiples of 2^-16, added
up in integers and rounded to the nearest (half up), so that they do not depend on the order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search.pixels import Int64
from synthkit_memorization.search.threads import for_each

#: Degrees by which the rule ``turned`` turns each orientation.
DEGREES = (-14.0, -7.0, 0.0, 7.0, 14.0)
#: Weights of bilinear interpolation, along each axis, are whole multiples of 1 / WEIGHT.
WEIGHT = 256
#: Images turned at a time.
TURNED = 16

Uint8 = NDArray[np.uint8]


def transformed(images: Uint8, rule: str, shift_px: int, background: int) -> Iterator[Uint8]:
    """What a rule does to queries ``(n, contrast, y, x)``: one or several arrays of the same shape."""
    if rule == "flip":
        yield images[..., ::-1]
    elif rule == "shift":
        steps = (-shift_px, 0, shift_px)
        yield from (moved(images, dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0))
    elif rule == "inverted":
        yield 255 - images
    elif rule == "brain-inverted":
        yield inverted_inside(images, background)
    elif rule == "turned":
        for degrees in DEGREES:
            yield from orientations(turned(images, degrees))
    elif rule == "turned-inside":
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                yield from orientations(moved(images, dy, dx))
    else:
        yield images


def moved(images: Uint8, dy: int, dx: int) -> Uint8:
    """Images moved down by dy and right by dx pixels; zeros come in."""
    height, width = images.shape[-2:]
    dy, dx = max(-height, min(dy, height)), max(-width, min(dx, width))
    result = np.zeros_like(images)
    into = result[..., max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
    into[...] = images[..., max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
    return result


def inverted_inside(images: Uint8, background: int) -> Uint8:
    """255 less the value where any contrast exceeds the background, but above it, so that this stays the brain."""
    brain = (images > background).any(axis=1, keepdims=True)
    return np.where(brain, np.maximum(255 - images, background + 1), images).astype(np.uint8)


def orientations(images: Uint8) -> Iterator[Uint8]:
    """Images mirrored along either axis, both or none, and each turned by a quarter where they are square."""
    square = images.shape[-2] == images.shape[-1]
    for standing in (images, images.swapaxes(-1, -2)) if square else (images,):
        for upright in (standing, standing[..., ::-1, :]):
            yield from (upright, upright[..., ::-1])


def turned(images: Uint8, degrees: float) -> Uint8:
    """Images turned about their centre, clockwise as they are shown; zeros come in."""
    if degrees == 0:
        return images
    index, weight = _bilinear(*images.shape[-2:], degrees)
    result = np.empty_like(images)

    def turn(part: slice) -> None:
        # Pixels first, so that each corner is a few long rows.
        source = images[part].reshape(-1, index.shape[1]).T.astype(np.uint32)
        total = np.full(source.shape, WEIGHT**2 // 2, np.uint32)
        for corner in range(4):
            total += weight[corner][:, None] * source[index[corner]]
        result[part] = (total // WEIGHT**2).T.reshape(result[part].shape)

    for_each(turn, len(images), TURNED)
    return result


@cache
def _bilinear(height: int, width: int, degrees: float) -> tuple[Int64, NDArray[np.uint32]]:
    """Four source pixels of each pixel, and their weights in units of 1 / WEIGHT^2: ``(corner, pixel)``."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    # In units of 1 / WEIGHT pixels, so that the fractions are whole.
    from_y = np.rint(WEIGHT * (cos * y - sin * x + (height - 1) / 2)).astype(np.int64).ravel()
    from_x = np.rint(WEIGHT * (sin * y + cos * x + (width - 1) / 2)).astype(np.int64).ravel()
    index, weight = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = from_y // WEIGHT + dy, from_x // WEIGHT + dx
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            shares = [part % WEIGHT if d else WEIGHT - part % WEIGHT for d, part in ((dy, from_y), (dx, from_x))]
            index.append(np.where(inside, row * width + column, 0))
            weight.append(np.where(inside, shares[0] * shares[1], 0).astype(np.uint32))
    return np.stack(index), np.stack(weight)
