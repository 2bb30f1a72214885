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

#: Side of a window, and pixels from one to the next; both suit SIDE of ``warped.py``.
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


@numba.njit(nogil=True, fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _product(one: Any, other: Any) -> Any:
    """Sum of products in a window: below 2^24, so exact in float32 in any order."""
    total = np.float32(0)
    for i in range(WINDOW):
        for j in range(WINDOW):
            total += one[i, j] * other[i, j]
    return total


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _displacements(query: Any, image: Any) -> Any:
    """Of each window the displacement, down and right, and the variance of the query in it: ``(window, window)``."""
    contrasts, side = query.shape[0], query.shape[1]
    n = (side - WINDOW) // STEP + 1
    area = WINDOW * WINDOW
    down, right, trust = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    sums, squares = _window_sums(image)
    for row in range(n):
        for column in range(n):
            y, x = row * STEP, column * STEP
            own = np.zeros(contrasts, np.int64)
            variance = 0.0
            for c in range(contrasts):
                total, energy = 0, 0
                for i in range(WINDOW):
                    for j in range(WINDOW):
                        value = int(query[c, y + i, x + j])
                        total += value
                        energy += value * value
                own[c] = total
                variance += energy - total * total / area
            trust[row, column] = variance
            if variance <= 0:
                continue
            best = -2.0
            for a in range(2 * REACH + 1):
                for b in range(2 * REACH + 1):
                    covariance, other = 0.0, 0.0
                    for c in range(contrasts):
                        product = _product(
                            query[c, y : y + WINDOW, x : x + WINDOW],
                            image[c, y + a : y + a + WINDOW, x + b : x + b + WINDOW],
                        )
                        total = sums[c, y + a, x + b]
                        covariance += product - own[c] * total / area
                        other += squares[c, y + a, x + b] - total * total / area
                    if other <= 0:
                        continue
                    moved = (a - REACH) ** 2 + (b - REACH) ** 2
                    score = covariance / np.sqrt(variance * other) - COST * moved
                    if score > best:
                        best = score
                        down[row, column], right[row, column] = a - REACH, b - REACH
    return down, right, trust


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _window_sums(image: Any) -> Any:
    """Sums of the values, and of their squares, in the window that begins at each pixel: ``(contrast, y, x)``."""
    contrasts, height, width = image.shape
    sums = np.zeros((2, contrasts, height - WINDOW + 1, width - WINDOW + 1), np.int64)
    for c in range(contrasts):
        table = np.zeros((2, height + 1, width + 1), np.int64)
        for y in range(height):
            for x in range(width):
                value = np.int64(image[c, y, x])
                for power in range(2):
                    table[power, y + 1, x + 1] = (
                        (value if power == 0 else value * value)
                        + table[power, y, x + 1]
                        + table[power, y + 1, x]
                        - table[power, y, x]
                    )
        for power in range(2):
            for y in range(height - WINDOW + 1):
                for x in range(width - WINDOW + 1):
                    sums[power, c, y, x] = (
                        table[power, y + WINDOW, x + WINDOW]
                        - table[power, y, x + WINDOW]
                        - table[power, y + WINDOW, x]
                        + table[power, y, x]
                    )
    return sums[0], sums[1]


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
def _at(field: Any, row: float, column: float) -> float:
    """The field between its windows, bilinear; beyond the outermost as these."""
    last = len(field) - 1
    row, column = min(max(row, 0.0), last), min(max(column, 0.0), last)
    i, j = min(int(row), last - 1), min(int(column), last - 1)
    v, u = row - i, column - j
    upper = (1 - u) * field[i, j] + u * field[i, j + 1]
    lower = (1 - u) * field[i + 1, j] + u * field[i + 1, j + 1]
    return (1 - v) * upper + v * lower


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _bent_r(query: Any, image: Any, down: Any, right: Any) -> float:
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
