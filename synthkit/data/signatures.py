"""A subject's signature: what its brain looks like, whatever the file's type, grey scale, voxels and orientation.

One head is laid on a cubic lattice by the centre and the spread of its bright voxels along each array axis, so that
shifts, padding and voxel sizes cancel. Of the grey values only the detail remains: what differs from the surroundings,
in units of the spread of the surroundings (local correlation, as in Cachier and Pennec 2000, doi
10.1109/MMBIA.2000.852379), so that scale, offset and slow changes (gamma, bias fields) cancel. Two signatures of one
head are then alike over most of the brain, also where a tumour has grown; those of two people only where all brains
are alike. How alike is a correlation after an affine registration, :func:`likeness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.filters import Nearby, blurred, box_mean, eroded, with_holes_filled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Weights = tuple[NDArray[np.intp], FloatArray]

#: Points of the lattice along each side, and how far it reaches, in standard deviations (a ball's surface is at 2.24).
SIDE = 40
_REACH = 2.5
#: Side of the surroundings, in points: about 20 mm.
_AROUND = 5
# Fewer points inside than this, or a grey value that is a smooth slope, tell nobody apart.
_MIN_POINTS = 2000
_MIN_VOXELS = 12
_MIN_DETAIL = 0.1
#: Sums of squares of larger values overflow.
_LARGEST = 1e12
#: Brighter than this share of the brightest is head; voxels that are looked at along each side of the head.
_FOREGROUND = 0.15
_READ = 64
# Every second voxel each way tells as well how bright the brightest are.
_THINNED = (slice(None, None, 2),) * 3
#: Standard deviation, in points of the coarse lattice: heads that are turned a little still look alike.
_BLUR = 0.8
# Registration: steps at each of two resolutions, at so many points. It ends between them where the coarse one has not
# brought two heads together so far: most of different people stay below, scans of one person are above 0.6.
_STEPS, _N_COARSE, _N_FINE = 6, 1200, 3000
_WORTH_A_CLOSER_LOOK = 0.4
_SAME_VOLUME = 0.85

#: The ways an array may lie: orders of its axes, each with every mirroring.
Lie = tuple[tuple[int, int, int], tuple[int, int, int]]
LIES: tuple[Lie, ...] = tuple(
    ((p[0], p[1], p[2]), (f[0], f[1], f[2])) for p in permutations(range(3)) for f in product((1, -1), repeat=3)
)
# Even (0) or odd (1) along each axis.
_PARITIES = tuple(product((0, 1), repeat=3))


@dataclass(frozen=True, eq=False)
class Signature:
    """What a head looks like on its lattice.

    Attributes
    ----------
    detail : int8 (contrast, SIDE, SIDE, SIDE), 40 a standard deviation of the surroundings; 0 outside.
    coarse : float32 (contrast, SIDE / 2, ...), blurred, of unit length over all.
    """

    detail: NDArray[np.int8]
    coarse: FloatArray


def signature(volumes: Sequence[NDArray[Any]]) -> Signature | None:
    """The signature of a head; None if there is too little in it to tell it from another's.

    Parameters
    ----------
    volumes : contrasts (x, y, z) on one grid, in the same order for all subjects. The first says where the head is.
    """
    if min(volumes[0].shape) < _MIN_VOXELS:
        return None
    volumes = [_squarable(volume) for volume in volumes]
    head = _Head.found(volumes[0])
    if head is None:
        return None
    mask = head.inside.astype(np.float32)
    share = box_mean(mask, _AROUND) + np.float32(1e-6)
    details = [_detail(head.laid(volume), mask, share) for volume in volumes]
    if not np.any(details[0]):
        return None
    stored = np.stack(details)
    halved = stored.astype(np.int16)
    for axis in range(3):  # two neighbours along each axis become one
        pairs = np.moveaxis(halved, 1 + axis, 0)
        halved = np.moveaxis(pairs[0::2] + pairs[1::2], 0, 1 + axis)
    coarse = np.stack([blurred(channel, _BLUR, reach=2) for channel in halved.astype(np.float32)])
    return Signature(stored, coarse / np.linalg.norm(coarse))


def _squarable(volume: NDArray[Any]) -> NDArray[Any]:
    """The volume itself, or one in another scale where squares of its values have no place in single precision."""
    if volume.dtype.kind != "f":
        return volume
    largest = max(abs(float(volume.max())), abs(float(volume.min())))
    return volume / largest if largest > _LARGEST else volume


# ------------------------------------------------------------------------------------------------------- the lattice


@dataclass(frozen=True, eq=False)
class _Head:
    """Where a head lies in its array: the box around it, and what of the box each point of the lattice sees."""

    box: tuple[slice, slice, slice]
    weights: tuple[Weights, Weights, Weights]
    inside: NDArray[np.bool_]

    @classmethod
    def found(cls, volume: NDArray[Any]) -> _Head | None:
        # Every sixth voxel or so says where the head is. What differs from the corners is head; of z-scored volumes
        # that is darker than the background as well.
        steps = [max(1, round(n / 40)) for n in volume.shape]
        sample = volume[:: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
        corners = np.array([volume[place] for place in product((0, -1), repeat=3)], dtype=np.float32)
        background = float(np.median(corners))
        low, high = float(sample.min()), float(np.percentile(sample[_THINNED], 99))
        if float(np.ptp(corners)) > 2 * _FOREGROUND * (high - low):  # cut out of a head: there is no background
            background = low
        bright = box_mean(np.abs(sample - np.float32(background)), 3, "edge")
        foreground = bright > _FOREGROUND * np.percentile(bright[_THINNED], 99)
        if not foreground.any():
            return None
        foreground = with_holes_filled(foreground)
        box, weights, weights_of_sample = [], [], []
        for axis, step in enumerate(steps):
            others = tuple(other for other in range(3) if other != axis)
            profile = foreground.sum(axis=others, dtype=np.float64)
            place = np.arange(len(profile), dtype=np.float64)
            centre = float((profile * place).sum() / profile.sum())
            spread = float(np.sqrt((profile * (place - centre) ** 2).sum() / profile.sum()))
            if spread * step * 4 < _MIN_VOXELS:
                return None
            used = np.flatnonzero(profile)
            low, high = max(0, int(used[0]) - 1) * step, min(volume.shape[axis], (int(used[-1]) + 2) * step)
            stride = max(1, (high - low) // _READ)
            points = (np.arange(SIDE) - (SIDE - 1) / 2) * (2 * _REACH / SIDE) * spread + centre
            box.append(slice(low, high, stride))
            weights.append(_weights((points * step - low) / stride, len(range(low, high, stride))))
            weights_of_sample.append(_weights(points, len(profile)))
        inside = _contracted(foreground.astype(np.float32), weights_of_sample) > 0.5
        inside = eroded(inside, 2)  # the sample is blurred beyond the edge of the brain
        if np.count_nonzero(inside) < _MIN_POINTS:
            return None
        return cls((box[0], box[1], box[2]), (weights[0], weights[1], weights[2]), inside)

    def laid(self, volume: NDArray[Any]) -> FloatArray:
        """A volume on the lattice."""
        return _contracted(volume[self.box].astype(np.float32), self.weights)


def _weights(points: NDArray[np.floating[Any]], n: int) -> Weights:
    """The mean around each point, of a triangle as wide as the points are apart; 0 beyond the array.

    The k-th of the few voxels that it is of, and their weights, both (k, point).
    """
    width = max(float(points[1] - points[0]), 1.0)
    voxels = np.floor(points - width).astype(np.intp) + np.arange(int(2 * width) + 2)[:, None]
    near = np.clip(1 - np.abs(voxels - points) / width, 0, None) * ((voxels >= 0) & (voxels < n))
    total = near.sum(axis=0)
    weights = np.where(total > 0.3, near / np.maximum(total, 0.3), 0)
    return np.clip(voxels, 0, n - 1), weights.astype(np.float32)


def _contracted(volume: FloatArray, weights: Sequence[Weights]) -> FloatArray:
    """A volume (x, y, z) as its points see it along each axis."""
    lying = np.ascontiguousarray(volume.T)  # as files have it: whole planes and rows are summed before single voxels
    lying = _summed_along(0, lying, weights[2])
    lying = _summed_along(1, lying, weights[1])
    lying = _summed_along(0, np.ascontiguousarray(lying.transpose(2, 1, 0)), weights[0])
    return np.ascontiguousarray(lying)


def _summed_along(axis: int, volume: FloatArray, weights: Weights) -> FloatArray:
    total: FloatArray | None = None
    for voxels, shares in zip(*weights, strict=True):
        part = volume.take(voxels, axis, mode="clip")
        part *= shares.reshape(-1, *(1,) * (2 - axis))
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def _detail(lattice: FloatArray, mask: FloatArray, share: FloatArray) -> NDArray[np.int8]:
    """What differs from the surroundings, in units of their spread; nothing (0) for a smooth slope.

    ``mask`` is 1 inside, ``share`` how much of the surroundings of each point is inside.
    """
    values = (lattice - lattice[mask > 0].mean()) * mask
    spread = float(np.sqrt(np.square(values).sum() / mask.sum()))
    mean = box_mean(values, _AROUND) / share
    deviation = values - mean * mask
    variance = np.maximum(box_mean(values * values, _AROUND) / share - mean * mean, 0)
    within = share > 0.999  # all surroundings are brain: at its edge even a slope would show detail
    if np.count_nonzero(within) < _MIN_POINTS or float(np.std(deviation[within])) <= _MIN_DETAIL * spread:
        return np.zeros(lattice.shape, dtype=np.int8)
    local = deviation / np.sqrt(variance + np.float32(0.05 * spread**2))
    stored: NDArray[np.int8] = np.clip(np.rint(local * 40), -127, 127).astype(np.int8)
    return stored


# -------------------------------------------------------------------------------------------------- how alike are two


def first_look(rows: Sequence[Signature], columns: Sequence[Signature]) -> tuple[FloatArray, NDArray[np.intp]]:
    """Best correlation of the coarse signatures over all ways that a column's array may lie, and which way it is.

    A mirroring turns the sign of what is odd along its axis. So even and odd parts are compared once an axis order, and
    the eight mirrorings are sums of these.

    Returns
    -------
    float32 (row, column) and index into ``LIES``.
    """
    left = _even_and_odd(rows)
    right = _even_and_odd(columns)
    best = np.full((len(rows), len(columns)), -np.inf, dtype=np.float32)
    which = np.zeros(best.shape, dtype=np.intp)
    signs = np.array([[f**parity for f, parity in zip(lie[1], p, strict=True)] for lie in LIES[:8] for p in _PARITIES])
    mirrorings = signs.prod(axis=1).reshape(8, 8).astype(np.float32)
    for number in range(0, len(LIES), 8):
        order = LIES[number][0]
        other = right.transpose(*order, 3, 4, *(5 + axis for axis in order))
        alike = np.matmul(left.reshape(8, len(rows), -1), other.reshape(8, len(columns), -1).transpose(0, 2, 1))
        for mirroring, weights in enumerate(mirrorings, start=number):
            found: FloatArray = np.tensordot(weights, alike, 1)
            better = found > best
            best[better], which[better] = found[better], mirroring
    return best, which


def _even_and_odd(signatures: Sequence[Signature]) -> FloatArray:
    """Parts of the coarse signatures (parity along three axes; signature, contrast; three axes of half the length)."""
    parts = np.stack([signature.coarse for signature in signatures])[None]
    half = SIDE // 4
    for axis in (-3, -2, -1):
        front = parts.take(range(half), axis)
        back = np.flip(parts, axis).take(range(half), axis)
        parts = np.stack([front + back, front - back], axis=1).reshape(-1, *front.shape[1:])
    parts *= np.float32(8**-0.5)  # the length stays
    return parts.reshape(2, 2, 2, *parts.shape[1:])


def turned(lattice: NDArray[Any], lie: Lie) -> NDArray[Any]:
    """A lattice (..., SIDE, SIDE, SIDE) with its axes in another order and mirrored."""
    order, signs = lie
    first = lattice.ndim - 3
    moved = lattice.transpose(*range(first), *(first + axis for axis in order))
    return moved[..., :: signs[0], :: signs[1], :: signs[2]]


def likeness(one: Signature, other: Signature, lie: Lie) -> float:
    """Correlation of the detail of two heads where both have brain, after an affine registration; at most 1.

    Parameters
    ----------
    lie : how the array of ``other`` lies, from :func:`first_look`.
    """
    placed = _Pair(one.coarse, turned(other.coarse, lie), _N_COARSE).registered(np.eye(3, 4), _STEPS)
    fine = _Pair(one.detail, turned(other.detail, lie), _N_FINE)
    alike = fine.correlation(placed)
    return alike if alike < _WORTH_A_CLOSER_LOOK else fine.correlation(fine.registered(placed, _STEPS))


class _Pair:
    """Two heads on lattices of one size, of which the second is moved."""

    def __init__(self, fixed: NDArray[Any], moving: NDArray[Any], n_points: int) -> None:
        side = fixed.shape[-1]
        self._middle = (side - 1) / 2
        self._unit = side / 2
        self._moving = np.ascontiguousarray(moving, dtype=np.float32)
        brain = np.any(self._moving != 0, axis=0).astype(np.float32)
        # (voxel, volume): all that is seen at a point lies side by side.
        self._volumes = np.stack([brain, *self._moving], axis=-1).reshape(brain.size, -1)
        points = np.argwhere(np.any(fixed != 0, axis=0))
        points = points[:: max(1, len(points) // n_points)]
        self._fixed = fixed[:, points[:, 0], points[:, 1], points[:, 2]].astype(np.float32)
        self._at = np.vstack([((points - self._middle) / self._unit).T, np.ones(len(points))])

    def registered(self, placed: NDArray[np.float64], n_steps: int) -> NDArray[np.float64]:
        """The affine matrix (3, 4), lattice from -1 to 1, after Gauss-Newton steps on the squared difference."""
        slopes = [part for channel in self._moving for part in np.gradient(channel)]
        slopes_too = np.hstack([self._volumes, np.stack(slopes, axis=-1).reshape(len(self._volumes), -1)])
        n = len(self._fixed)
        for _ in range(n_steps):
            brain, *seen_volumes = self._near(placed).seen(slopes_too)
            normal, slope = np.eye(12) * 1e-6, np.zeros(12)
            for k, (fixed, seen) in enumerate(zip(self._fixed, seen_volumes[:n], strict=True)):
                scale = np.clip((seen * fixed * brain).sum() / max(float((seen**2 * brain).sum()), 1e-9), 0.5, 2)
                pull = np.stack(seen_volumes[n + 3 * k :][:3]) * brain * (scale * self._unit)
                jacobian = (pull[:, None] * self._at[None]).reshape(12, -1)
                normal += jacobian @ jacobian.T
                slope += jacobian @ ((fixed - scale * seen) * brain)
            normal += np.diag(np.diag(normal)) * 0.01
            placed = placed + np.clip(np.linalg.solve(normal, slope), -0.15, 0.15).reshape(3, 4)
        return placed

    def correlation(self, placed: NDArray[np.float64]) -> float:
        """Mean over contrasts of the correlation where both have brain; 0 where that is a small part of the head.

        One contrast that is so much alike as only the same volume is decides alone: others may have been swapped.
        """
        brain, *seen = self._near(placed).seen(self._volumes)
        both = brain > 0.5
        if both.mean() < 0.4:
            return 0.0
        found = []
        for fixed, moving in zip(self._fixed, seen, strict=True):
            a, b = fixed[both], moving[both]
            size = float(np.sqrt((a * a).sum() * (b * b).sum()))
            if size > 0:
                found.append(float((a * b).sum()) / size)
        return max(found) if max(found, default=0.0) > _SAME_VOLUME else float(np.mean(found or 0.0))

    def _near(self, placed: NDArray[np.float64]) -> Nearby:
        """What of the moved head lies at the points of the fixed one."""
        return Nearby((placed @ self._at) * self._unit + self._middle, self._moving.shape[1:])
