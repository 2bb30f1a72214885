"""The loops of the cascade, compiled: survivors of the bound, exact inner products, the k best.

Everything runs without the interpreter's lock, so queries are shared by threads. Sums of bounds may be reordered
(``slack`` of bound.py allows for that); sums of integers are exact; r is computed by the arithmetic of rules.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from synthkit_memorization.search import rules
from synthkit_memorization.search.matches import NOBODY

#: Bounds that are reduced to their maximum, so that most are never looked at one by one.
STRIP = 256
#: Pixels whose products are summed in 32 bits.
PIECE = 2**16
#: Images whose inner products with a query are taken at a time (``_piece`` names them one by one).
TOGETHER = 4


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
    people: NDArray[np.int64]  # whose each training image is: no two of the k best are of one person


class Answer(NamedTuple):
    """Written by the kernel, best first: index and r ``(query, k)``; ``solved`` and work done ``(query,)``."""

    index: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    r: NDArray[np.float64]
    solved: NDArray[np.bool_]


_exact = numba.njit(nogil=True, error_model="numpy")
_reordered = numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
_covariance = _exact(rules.covariance)
_brain_covariance = _exact(rules.brain_covariance)


@_exact
def _piece(x: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Sums of products of at most PIECE values of int8 with four rows; the casts keep 32-bit lanes, which they fit.

    Four at a time, for one alone waits for its memory.
    """
    p, q, r, s = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        value = np.int32(x[i])
        p, q = np.int32(p + value * np.int32(a[i])), np.int32(q + value * np.int32(b[i]))
        r, s = np.int32(r + value * np.int32(c[i])), np.int32(s + value * np.int32(d[i]))
    return p, q, r, s


@_exact
def _dots(x: Any, y: Any, images: Any, total: Any) -> None:
    """Add the inner products of one row with those of TOGETHER images to ``total``, int64."""
    for first in range(0, x.shape[0], PIECE):
        part = slice(first, first + PIECE)
        p, q, r, s = _piece(x[part], y[images[0], part], y[images[1], part], y[images[2], part], y[images[3], part])
        total[0] += p
        total[1] += q
        total[2] += r
        total[3] += s


@_exact
def _brain_piece(x: Any, x_mask: Any, y: Any, y_mask: Any) -> Any:
    d, s, t, n = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for i in range(x.shape[0]):
        mask = x_mask[i] & y_mask[i]
        a, b = np.int32(x[i] & mask), np.int32(y[i] & mask)
        d, s, t, n = np.int32(d + a * b), np.int32(s + a), np.int32(t + b), np.int32(n - mask)
    return d, s, t, n


@_exact
def _brain_sums(x: Any, x_mask: Any, y: Any, y_mask: Any) -> Any:
    """Sums of x'y', x', y' and 1 over the pixels in both brains."""
    dots, x_sum, y_sum, both = 0, 0, 0, 0
    for first in range(0, x.shape[0], PIECE):
        part = slice(first, first + PIECE)
        d, s, t, n = _brain_piece(x[part], x_mask[part], y[part], y_mask[part])
        dots, x_sum, y_sum, both = dots + d, x_sum + s, y_sum + t, both + n
    return dots, x_sum, y_sum, both


@_exact
def _pairs(task: Any, x: Any, i: int, y: Any, images: Any, r: Any) -> None:
    """r of query i with TOGETHER images, to the last bit that of ``rules.View.r``; the last may be repeated."""
    r[:] = 0.0
    if task.brain:
        for n in range(TOGETHER):
            if n and images[n] == images[n - 1]:
                r[n] = r[n - 1]
                continue
            for c in range(len(task.contrasts)):
                contrast, j = task.contrasts[c], images[n]
                dots, x_sum, y_sum, both = _brain_sums(
                    x.pixels[contrast, i], x.mask[i], y.pixels[contrast, j], y.mask[j]
                )
                r[n] += _brain_covariance(
                    dots, x_sum, y_sum, both, x.nearest[c, i], y.nearest[c, j], x.rest[c, i], y.rest[c, j]
                )
    else:
        total = np.zeros(TOGETHER, np.int64)
        for contrast in task.contrasts:
            _dots(x.pixels[contrast, i], y.pixels[contrast], images, total)
        for n in range(TOGETHER):
            r[n] = _covariance(task.n_pixels, total[n], x.offsets[i], x.sums[i], y.sums[images[n]])
    for n in range(TOGETHER):
        scale = np.sqrt(x.variance[i] * y.variance[images[n]])
        r[n] = min(1.0, max(-1.0, r[n] / scale)) if scale > 0 else 0.0


@_exact
def _reached(values: Any, least: Any) -> Any:
    """How many values are at least ``least``; many times faster than to look at them one by one."""
    count = np.int32(0)
    for i in range(values.shape[0]):
        count = np.int32(count + np.int32(values[i] >= least))
    return count


@_reordered
def _product(x: Any, y: Any) -> Any:
    total = np.float32(0)
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


@_exact
def _place(index: Any, people: Any, j: int) -> Any:
    """Where among the k best another image of the same person stands, else the last place."""
    for place in range(len(index) - 1):
        if index[place] == NOBODY or people[index[place]] == people[j]:
            return place
    return len(index) - 1


@_exact
def _insert(index: Any, r: Any, people: Any, j: int, value: float) -> None:
    """Put a pair into its place among the k best (largest r, then lowest index), one of each person."""
    place = _place(index, people, j)
    if value > r[place] or (value == r[place] and j < index[place]):
        while place > 0 and (value > r[place - 1] or (value == r[place - 1] and j < index[place - 1])):
            index[place], r[place] = index[place - 1], r[place - 1]
            place -= 1
        index[place], r[place] = j, value


@_exact
def _first(own: int, groups: Any, people: Any, floor: float, index: Any, r: Any) -> None:
    """The matches of an image without variance: r is 0 with all, so the first images that may be compared."""
    for j in range(len(groups)):
        if index[-1] != NOBODY or floor > 0:
            break
        if own < 0 or groups[j] != own:
            _insert(index, r, people, j, 0.0)


@_exact
def _seeds(bounds: Any, own: int, groups: Any, people: Any, index: Any, upper: Any) -> None:
    """Images that may be compared of largest bound, above what ``upper`` holds (ascending index among equals)."""
    for strip in range(0, len(bounds), STRIP):
        if _reached(bounds[strip : strip + STRIP], upper[-1]):
            for j in range(strip, min(strip + STRIP, len(bounds))):
                if bounds[j] > upper[-1] and (own < 0 or groups[j] != own):
                    _insert(index, upper, people, j, bounds[j])


@_exact
def _needed(index: Any, r: Any, people: Any, j: int, least: float) -> Any:
    """The r that an image must reach to change the k best: that of its person, or of the last."""
    return max(least, r[_place(index, people, j)])


@_exact
def _survivors(bounds: Any, floor: float, best: Any, task: Any, x: Any, i: int, y: Any, index: Any, upper: Any) -> Any:
    """Images whose every bound reaches what is needed, and the last bound; how many, or -1 for too many."""
    own, slacks = x.groups[i], task.slacks
    best_index, best_r = best
    step = x.tail.shape[1] // (len(slacks) - 1)
    least = max(floor, best_r[-1])
    lowest = np.float32(least - slacks[0])
    first = last = 0
    for strip in range(0, len(bounds), STRIP):
        reached = _reached(bounds[strip : strip + STRIP], lowest)
        first += reached
        if first > task.limits[0]:
            return -1
        for j in range(strip, min(strip + STRIP, len(bounds)) if reached else strip):
            if bounds[j] < lowest or (own >= 0 and y.groups[j] == own):
                continue
            needed = _needed(best_index, best_r, task.people, j, least)
            inner, bound = bounds[j] - x.rho[i, 0] * y.rho[j, 0], bounds[j]
            for level in range(1, len(slacks)):
                if bound < needed - slacks[level - 1]:
                    break
                part = slice((level - 1) * step, level * step)
                inner += _product(x.tail[i, part], y.tail[j, part])
                bound = inner + x.rho[i, level] * y.rho[j, level]
            if bound >= needed - slacks[-1]:
                if last == task.limits[1]:
                    return -1
                index[last], upper[last] = j, bound
                last += 1
    return last


@_exact
def _decide(candidates: Any, task: Any, x: Any, i: int, y: Any, index: Any, r: Any) -> None:
    """Put images into their places among the k best of query i by their exact r."""
    together, values = np.empty(TOGETHER, np.int64), np.empty(TOGETHER)
    for first in range(0, len(candidates), TOGETHER):
        some = candidates[first : first + TOGETHER]
        together[:] = some[-1]
        together[: len(some)] = some
        _pairs(task, x, i, y, together, values)
        for n in range(len(some)):
            _insert(index, r, task.people, some[n], values[n])


@_exact
def search(bounds: Any, start: int, stop: int, task: Any, x: Any, y: Any, answer: Any) -> None:
    """Solve queries start..stop of a block, whose first bounds are the rows of ``bounds`` (they are overwritten)."""
    index, upper = np.empty(task.limits[1], np.int64), np.empty(task.limits[1], np.float32)
    seeds, seeds_upper = np.empty(task.k, np.int64), np.empty(task.k, np.float32)
    waiting = np.empty(TOGETHER, np.int64)
    for i in range(start, stop):
        row, best_index, best_r, least = bounds[i - start], answer.index[i], answer.r[i], task.floor[i]
        if x.variance[i] == 0:
            _first(x.groups[i], y.groups, task.people, least, best_index, best_r)
            answer.solved[i] = True
            continue
        seeds[:], seeds_upper[:] = NOBODY, np.float32(least - task.slacks[0])
        _seeds(row, x.groups[i], y.groups, task.people, seeds, seeds_upper)
        found = seeds[seeds != NOBODY]
        _decide(found, task, x, i, y, best_index, best_r)
        row[found] = -np.inf  # done with
        n = _survivors(row, least, (best_index, best_r), task, x, i, y, index, upper)
        n_waiting = 0
        # The largest bound first, for its image is most likely to raise what the others must reach.
        for place in np.argsort(-upper[: max(n, 0)]):
            least = max(least, best_r[-1])
            # Strictly below: a candidate that may tie is still looked at, for the lowest index wins.
            if upper[place] < least - task.slacks[-1]:
                break
            if upper[place] >= _needed(best_index, best_r, task.people, index[place], least) - task.slacks[-1]:
                waiting[n_waiting] = index[place]
                n_waiting += 1
            if n_waiting == TOGETHER:
                _decide(waiting, task, x, i, y, best_index, best_r)
                n_waiting = 0
        _decide(waiting[:n_waiting], task, x, i, y, best_index, best_r)
        answer.solved[i] = n >= 0
