"""Bending one image onto another, compiled: block matching, a smooth field, and r of what it gives.

Block matching as in video coding: for each of a grid of square windows of the query, the displacement of the other
image, by whole pixels, under which the two correlate best. Sums of products are of integers, so they are the same in
any order.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

#: Side of a window, and pixels from one to the next: half of it, and a part of SIDE of ``warped.py``.
WINDOW, STEP = 12, 6
#: Largest displacement along an axis, pixels.
REACH = 3
#: What a displacement of one pixel, squared, costs in correlation: where windows show nothing, nothing moves.
COST = 0.002
#: Standard deviation by which the field is smoothed, in windows.
SMOOTH = 0.8


def smoothing(n: int) -> NDArray[np.float64]:
    """Gaussian weights of n windows in a row for each of them, ``(n, n)``."""
    apart = np.arange(n)[:, None] - np.arange(n)
    weights: NDArray[np.float64] = np.exp(-0.5 * (apart / SMOOTH) ** 2)
    return weights


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def bend(queries: Any, images: Any, weights: Any, r: Any) -> None:
    """r of pairs ``(pair, contrast, y, x)`` once each image is bent onto its query, into ``r`` float64 ``(pair,)``.

    Both hold whole numbers of 0 to 255 as float32 and are square, the images with REACH zeros on every side.
    ``weights`` are those of :func:`smoothing`.
    """
    for pair in range(len(queries)):
        down, right, trust = _displacements(queries[pair], images[pair])
        r[pair] = _bent_r(queries[pair], images[pair], _smooth(down, trust, weights), _smooth(right, trust, weights))


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _displacements(query: Any, image: Any) -> Any:
    """Of each window the displacement, down and right, and the variance of the query in it: ``(window, window)``."""
    contrasts, side = query.shape[0], query.shape[1]
    n, area = side // STEP - 1, WINDOW * WINDOW
    down, right, best = np.zeros((n, n)), np.zeros((n, n)), np.full((n, n), -2.0)
    sums, squares = _window_sums(image)
    own, energy = _window_sums(query)
    trust = np.zeros((n, n))
    for row in range(n):
        for column in range(n):
            for c in range(contrasts):
                total = own[c, row * STEP, column * STEP]
                trust[row, column] += energy[c, row * STEP, column * STEP] - total * total / area
    for a in range(2 * REACH + 1):
        for b in range(2 * REACH + 1):
            cost = COST * ((a - REACH) ** 2 + (b - REACH) ** 2)
            blocks = _block_products(query, image, a, b)
            for row in range(n):
                for column in range(n):
                    y, x = row * STEP, column * STEP
                    upper = blocks[row, column] + blocks[row, column + 1]
                    covariance = upper + blocks[row + 1, column] + blocks[row + 1, column + 1]
                    variance = 0.0
                    for c in range(contrasts):
                        total = sums[c, y + a, x + b]
                        covariance -= own[c, y, x] * total / area
                        variance += squares[c, y + a, x + b] - total * total / area
                    if variance <= 0 or trust[row, column] <= 0:
                        continue
                    score = covariance / np.sqrt(trust[row, column] * variance) - cost
                    if score > best[row, column]:
                        best[row, column] = score
                        down[row, column], right[row, column] = a - REACH, b - REACH
    return down, right, trust


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _block_products(query: Any, image: Any, down: int, right: int) -> Any:
    """Sums of products with the displaced image in blocks of STEP pixels, over all contrasts: ``(block, block)``.

    A window is two blocks high and wide. Sums of a column of a block are below 2^24, so exact in float32 in any order.
    """
    contrasts, side = query.shape[0], query.shape[1]
    blocks = np.zeros((side // STEP, side // STEP))
    columns = np.empty(side, np.float32)
    for c in range(contrasts):
        for row in range(side // STEP):
            columns[:] = 0
            for y in range(row * STEP, (row + 1) * STEP):
                one, other = query[c, y], image[c, y + down, right : right + side]
                for x in range(side):
                    columns[x] += one[x] * other[x]
            for column in range(side // STEP):
                total = 0.0
                for x in range(column * STEP, (column + 1) * STEP):
                    total += columns[x]
                blocks[row, column] += total
    return blocks


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _window_sums(image: Any) -> Any:
    """Sums of the values, and of their squares, in the window that begins at each pixel: ``(contrast, y, x)``."""
    contrasts, height, width = image.shape
    tall, wide = height - WINDOW + 1, width - WINDOW + 1
    sums, squares = np.zeros((contrasts, tall, wide)), np.zeros((contrasts, tall, wide))
    # Whole numbers below 2^53 throughout.
    table = np.zeros((2, height + 1, width + 1))
    for c in range(contrasts):
        for y in range(height):
            first = second = 0.0
            for x in range(width):
                value = float(image[c, y, x])
                first += value
                second += value * value
                table[0, y + 1, x + 1] = table[0, y, x + 1] + first
                table[1, y + 1, x + 1] = table[1, y, x + 1] + second
        for y in range(tall):
            for x in range(wide):
                below, beside = y + WINDOW, x + WINDOW
                sums[c, y, x] = table[0, below, beside] - table[0, y, beside] - table[0, below, x] + table[0, y, x]
                squares[c, y, x] = table[1, below, beside] - table[1, y, beside] - table[1, below, x] + table[1, y, x]
    return sums, squares


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _smooth(field: Any, trust: Any, weights: Any) -> Any:
    """The field as a mean over windows nearby, weighed by how much each shows."""
    n = len(field)
    least = trust.max() * 1e-3
    result = np.zeros((n, n))
    for row in range(n):
        for column in range(n):
            total, weight = 0.0, 0.0
            for i in range(n):
                for j in range(n):
                    w = weights[row, i] * weights[column, j] * (trust[i, j] + least)
                    total += w * field[i, j]
                    weight += w
            if weight > 0:
                result[row, column] = total / weight
    return result


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _at(field: Any, row: float, column: float) -> Any:
    """The field between its windows, bilinear; beyond the outermost as these."""
    last = len(field) - 1
    row, column = min(max(row, 0.0), last), min(max(column, 0.0), last)
    i, j = min(int(row), last - 1), min(int(column), last - 1)
    v, u = row - i, column - j
    upper = (1 - u) * field[i, j] + u * field[i, j + 1]
    lower = (1 - u) * field[i + 1, j] + u * field[i + 1, j + 1]
    return (1 - v) * upper + v * lower


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _bent_r(query: Any, image: Any, down: Any, right: Any) -> Any:
    """r over all contrasts as one long image; 0 where one of the two is constant."""
    contrasts, side = query.shape[0], query.shape[1]
    middle = (WINDOW - 1) / 2
    s_x, s_y, s_xx, s_yy, s_xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(side):
        for x in range(side):
            place = (y - middle) / STEP, (x - middle) / STEP
            from_y = y + REACH + _at(down, place[0], place[1])
            from_x = x + REACH + _at(right, place[0], place[1])
            i, j = int(from_y), int(from_x)
            i, j = min(i, side + 2 * REACH - 2), min(j, side + 2 * REACH - 2)
            v, u = from_y - i, from_x - j
            for c in range(contrasts):
                upper = (1 - u) * image[c, i, j] + u * image[c, i, j + 1]
                lower = (1 - u) * image[c, i + 1, j] + u * image[c, i + 1, j + 1]
                b = (1 - v) * upper + v * lower
                a = float(query[c, y, x])
                s_x += a
                s_y += b
                s_xx += a * a
                s_yy += b * b
                s_xy += a * b
    n = contrasts * side * side
    variance = (s_xx - s_x * s_x / n) * (s_yy - s_y * s_y / n)
    if variance <= 0:
        return 0.0
    return min(1.0, (s_xy - s_x * s_y / n) / np.sqrt(variance))
