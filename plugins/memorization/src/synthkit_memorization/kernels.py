"""The loops of the cascade, compiled: survivors of the bound, exact inner products, the k best.

Everything runs without the interpreter's lock, so queries are shared by threads. Sums of bounds may be reordered
(``slack`` of bound.py allows for that); sums of integers are exact; r is computed by the arithmetic of rules.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from synthkit_memorization import rules
from synthkit_memorization.matches import NOBODY

#: Bounds that are reduced to their maximum, so that most are never looked at one by one.
STRIP = 256
#: Pixels whose products are summed in 32 bits.
PIECE = 2**16


class Side(NamedTuple):
    """All the kernels need of queries or of training images; arrays as in Block, Moments and Embedding."""

    pixels: NDArray[np.int8]
    mask: NDArray[np.int8]  # (image, P); one row if the brain plays no part
    tail: NDArray[np.float32]
    rho: NDArray[np.float32]
    variance: NDArray[np.float64]
    sums: NDArray[np.int64]
    offsets: NDArray[np.int64]
    nearest: NDArray[np.int64]
    rest: NDArray[np.float64]
    groups: NDArray[np.int64]


class Task(NamedTuple):
    """What is asked of a block of queries: by which view, the k best, at least ``floor`` (one a query)."""

    contrasts: NDArray[np.int64]
    brain: bool
    n_pixels: int
    k: int
    floor: NDArray[np.float64]
    slacks: NDArray[np.float64]  # of each level
    limits: NDArray[np.int64]  # survivors of the first and of the last level beyond which a query is left unsolved


class Answer(NamedTuple):
    """Written by the kernel, best first: index and r ``(query, k)``; ``solved`` and work done ``(query,)``."""

    index: NDArray[np.int64]
    r: NDArray[np.float64]
    solved: NDArray[np.bool_]
    survivors: NDArray[np.int64]  # (query, 3): of the first bound, of the last, exact inner products


_exact = numba.njit(nogil=True, error_model="numpy")
_reordered = numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
_covariance = _exact(rules.covariance)
_brain_covariance = _exact(rules.brain_covariance)


@_exact
def _dot(x: Any, y: Any) -> Any:
    """Sum of products of int8; the casts keep 32-bit lanes, which 2^16 products of 2^14 fit."""
    total = 0
    for first in range(0, x.shape[0], PIECE):
        piece = np.int32(0)
        for i in range(first, min(first + PIECE, x.shape[0])):
            piece = np.int32(piece + np.int32(x[i]) * np.int32(y[i]))
        total += piece
    return total


@_exact
def _brain_sums(x: Any, x_mask: Any, y: Any, y_mask: Any) -> Any:
    """Sums of x'y', x', y' and 1 over the pixels in both brains."""
    dots, x_sum, y_sum, both = 0, 0, 0, 0
    for first in range(0, x.shape[0], PIECE):
        d, s, t, n = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
        for i in range(first, min(first + PIECE, x.shape[0])):
            mask = x_mask[i] & y_mask[i]
            a, b = np.int32(x[i] & mask), np.int32(y[i] & mask)
            d, s, t, n = np.int32(d + a * b), np.int32(s + a), np.int32(t + b), np.int32(n - mask)
        dots, x_sum, y_sum, both = dots + d, x_sum + s, y_sum + t, both + n
    return dots, x_sum, y_sum, both


@_exact
def _r(task: Any, x: Any, i: int, y: Any, j: int) -> Any:
    """r of one pair, to the last bit that of ``rules.View.r``."""
    numerator = 0.0
    if task.brain:
        for c in range(len(task.contrasts)):
            contrast = task.contrasts[c]
            dots, x_sum, y_sum, both = _brain_sums(x.pixels[contrast, i], x.mask[i], y.pixels[contrast, j], y.mask[j])
            numerator += _brain_covariance(
                dots, x_sum, y_sum, both, x.nearest[c, i], y.nearest[c, j], x.rest[c, i], y.rest[c, j]
            )
    else:
        dots = 0
        for contrast in task.contrasts:
            dots += _dot(x.pixels[contrast, i], y.pixels[contrast, j])
        numerator += _covariance(task.n_pixels, dots, x.offsets[i], x.sums[i], y.sums[j])
    scale = np.sqrt(x.variance[i] * y.variance[j])
    return min(1.0, max(-1.0, numerator / scale)) if scale > 0 else 0.0


@_reordered
def _largest(values: Any) -> Any:
    result = values[0]
    for value in values:
        result = max(result, value)
    return result


@_reordered
def _product(x: Any, y: Any) -> Any:
    total = np.float32(0)
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


@_exact
def _insert(index: Any, r: Any, j: int, value: float) -> None:
    """Put a pair into its place among the k best (largest r, then lowest index)."""
    place = len(r)
    while place > 0 and (value > r[place - 1] or (value == r[place - 1] and j < index[place - 1])):
        place -= 1
    for later in range(len(r) - 1, place, -1):
        index[later], r[later] = index[later - 1], r[later - 1]
    if place < len(r):
        index[place], r[place] = j, value


@_exact
def _first(own: int, groups: Any, floor: float, index: Any, r: Any) -> None:
    """The matches of an image without variance: r is 0 with all, so the first images that may be compared."""
    found = 0
    for j in range(len(groups)):
        if found == len(index) or floor > 0:
            break
        if own < 0 or groups[j] != own:
            index[found], r[found] = j, 0.0
            found += 1


@_exact
def _seeds(bounds: Any, strips: Any, own: int, groups: Any, index: Any, upper: Any) -> None:
    """The k training images of largest bound that may be compared (ascending index among equals)."""
    for strip in range(len(strips)):
        if strips[strip] > upper[-1]:
            for j in range(strip * STRIP, min((strip + 1) * STRIP, len(bounds))):
                if bounds[j] > upper[-1] and (own < 0 or groups[j] != own):
                    _insert(index, upper, j, bounds[j])


@_exact
def _survivors(
    bounds: Any, strips: Any, least: float, task: Any, x: Any, i: int, y: Any, index: Any, upper: Any
) -> Any:
    """Images whose every bound reaches ``least``, and the last bound; how many passed the first and the last."""
    own, slacks = x.groups[i], task.slacks
    step = x.tail.shape[1] // (len(slacks) - 1)
    first = last = 0
    for strip in range(len(strips)):
        if strips[strip] < least - slacks[0]:
            continue
        for j in range(strip * STRIP, min((strip + 1) * STRIP, len(bounds))):
            if bounds[j] < least - slacks[0] or (own >= 0 and y.groups[j] == own):
                continue
            first += 1
            if first > task.limits[0]:
                return first, last
            inner, passed, bound = bounds[j] - x.rho[i, 0] * y.rho[j, 0], True, bounds[j]
            for level in range(1, len(slacks)):
                part = slice((level - 1) * step, level * step)
                inner += _product(x.tail[i, part], y.tail[j, part])
                bound = inner + x.rho[i, level] * y.rho[j, level]
                if bound < least - slacks[level]:
                    passed = False
                    break
            if passed:
                if last == task.limits[1]:
                    return first, last + 1
                index[last], upper[last] = j, bound
                last += 1
    return first, last


@_exact
def search(bounds: Any, start: int, first: int, stop: int, task: Any, x: Any, y: Any, answer: Any) -> None:
    """Solve queries first..stop of a block; row 0 of ``bounds`` is query ``start``."""
    m = bounds.shape[1]
    strips = np.empty((m + STRIP - 1) // STRIP, np.float32)
    index, upper = np.empty(task.limits[1], np.int64), np.empty(task.limits[1], np.float32)
    seeds, seeds_upper = np.empty(task.k, np.int64), np.empty(task.k, np.float32)
    for i in range(first, stop):
        row, best_index, best_r, floor = bounds[i - start], answer.index[i], answer.r[i], task.floor[i]
        if x.variance[i] == 0:
            _first(x.groups[i], y.groups, floor, best_index, best_r)
            answer.solved[i] = True
            continue
        for strip in range(len(strips)):
            strips[strip] = _largest(row[strip * STRIP : min((strip + 1) * STRIP, m)])
        seeds[:], seeds_upper[:] = NOBODY, -np.inf
        _seeds(row, strips, x.groups[i], y.groups, seeds, seeds_upper)
        for s in range(task.k):
            if seeds[s] != NOBODY and seeds_upper[s] >= floor - task.slacks[0]:
                _insert(best_index, best_r, seeds[s], _r(task, x, i, y, seeds[s]))
                answer.survivors[i, 2] += 1
        least = max(floor, best_r[-1])
        n_first, n_last = _survivors(row, strips, least, task, x, i, y, index, upper)
        answer.survivors[i, 0], answer.survivors[i, 1] = n_first, n_last
        if n_first > task.limits[0] or n_last > task.limits[1]:
            continue
        for done in range(n_last):
            # The largest bound first, for its image is most likely to raise what the others must reach.
            best = done
            for later in range(done + 1, n_last):
                if upper[later] > upper[best]:
                    best = later
            index[done], index[best] = index[best], index[done]
            upper[done], upper[best] = upper[best], upper[done]
            # Strictly below: a candidate that may tie is still looked at, for the lowest index wins.
            if upper[done] < least - task.slacks[-1]:
                break
            known = False
            for s in range(task.k):
                known = known or index[done] == seeds[s]
            if not known:
                _insert(best_index, best_r, index[done], _r(task, x, i, y, index[done]))
                least = max(least, best_r[-1])
                answer.survivors[i, 2] += 1
        answer.solved[i] = True
