"""Whether labels lie on a reference's once their axes are exchanged or mirrored, as after a library's other order.

SimpleITK's arrays are (z, y, x), NiBabel's (x, y, z), and programs differ in which way an axis runs. An array that was
saved in one order with the affine of another, or with none, has the right labels in the wrong places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.data.orientation import Turn
from synthkit.data.volume_checks import AFFINE_TOLERANCE_MM, grid_distance_mm
from synthkit.schemes import enumerated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

# A segmenter that is wrong does not find the mirror image of a tumour by chance: Dice in the other order from which
# this is said, and how much more that is than in the order of the file; of a tumour that overlaps with its own image,
# what only the same tumour has, and what a good segmenter may have. Fewer voxels than these on a side say nothing.
_FITS, _MORE, _SAME, _GOOD, _FEWEST = 0.8, 0.4, 0.98, 0.8, 20
_ORDINALS = ("first", "second", "third")


@dataclass(frozen=True)
class AxisOrder:
    """The order of axes in which labels overlap most with a reference's, all labels taken together.

    Attributes
    ----------
    turn : from the order of the labels to that of the reference; None where no order but their own has its shape.
    dice : Dice coefficient in that order.
    dice_as_stored : the same in the order that they have; 0 where the shapes differ.
    """

    turn: Turn | None
    dice: float
    dice_as_stored: float

    @property
    def fits(self) -> bool:
        """Whether that order is theirs beyond doubt, and the one they have is not."""
        is_same = self.dice >= _SAME and self.dice_as_stored < _GOOD
        return self.turn is not None and (is_same or self.dice >= max(_FITS, self.dice_as_stored + _MORE))

    @property
    def in_words(self) -> str:
        """What to do: ``mirrored along the first axis``."""
        assert self.turn is not None
        moved = [k for k, axis in enumerate(self.turn.axes) if k != axis]
        flipped = [_ORDINALS[k] for k, flip in enumerate(self.turn.flips) if flip]
        parts = []
        if self.turn.axes == (2, 1, 0):
            parts = ["with its axes in reverse order"]
        elif len(moved) == 2:
            parts = [f"with its {_ORDINALS[moved[0]]} and {_ORDINALS[moved[1]]} axes exchanged"]
        elif moved:
            parts = [f"with its axes in the order {', '.join(_ORDINALS[axis] for axis in self.turn.axes)}"]
        parts += [f"mirrored along the {enumerated(flipped)} {'axes' if len(flipped) > 1 else 'axis'}"] * bool(flipped)
        return " and then ".join(parts)

    @property
    def in_numpy(self) -> str:
        """The same as NumPy writes it: ``array.transpose(2, 1, 0)[::-1, :, :]``."""
        assert self.turn is not None
        axes = f".transpose{self.turn.axes}" if self.turn.axes != (0, 1, 2) else ""
        steps = ", ".join("::-1" if flip else ":" for flip in self.turn.flips)
        return f"array{axes}{f'[{steps}]' if any(self.turn.flips) else ''}"


def best_order(reference: UInt8Array, labels: UInt8Array) -> AxisOrder:
    """In which order of axes labels (x, y, z) overlap most with those of a reference; values above 0 count as one."""
    there, found = reference > 0, np.nonzero(labels)
    n_there, n_found = int(np.count_nonzero(there)), len(found[0])
    stored, highest = 0.0, 0.0
    best: Turn | None = None
    if min(n_there, n_found) < _FEWEST:
        return AxisOrder(None, 0.0, 0.0)
    fewer = min(n_there, n_found)
    if labels.shape == reference.shape and 2 * fewer / (n_there + n_found) < _FITS:  # too unlike in size to fit at all
        return AxisOrder(None, 0.0, 2 * int(np.count_nonzero(there & (labels > 0))) / (n_there + n_found))
    for turn in _turns(labels.shape, reference.shape):
        places = [found[axis] for axis in turn.axes]
        places = [n - 1 - k if flip else k for n, k, flip in zip(there.shape, places, turn.flips, strict=True)]
        dice = 2 * int(np.count_nonzero(there[tuple(places)])) / (n_there + n_found)
        if turn == Turn():
            stored = dice
            if stored >= _GOOD:  # no other order can be so much better
                break
        elif dice > highest:
            highest, best = dice, turn
    return AxisOrder(best, highest, stored)


def turn_by_affines(
    affine: NDArray[np.float64], shape: Sequence[int], own: NDArray[np.float64], own_shape: Sequence[int]
) -> Turn | None:
    """The turn that puts an array of ``own_shape`` on a grid of ``shape``, voxel by voxel; None where none does.

    By their affines (4, 4) both have the same voxels at the same places then, and differ in the order of axes alone.
    """
    step = np.linalg.solve(own[:3, :3], affine[:3, :3])  # along an axis of the grid, in voxels of the array
    axes = [int(axis) for axis in np.abs(step).argmax(axis=0)]
    if sorted(axes) != [0, 1, 2]:
        return None
    flips = [bool(step[axis, k] < 0) for k, axis in enumerate(axes)]
    turn = Turn((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
    if turn.of_each_axis(own_shape) != tuple(shape):
        return None
    to_array = np.zeros((4, 4))
    to_array[3, 3] = 1
    for k, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        to_array[axis, k] = -1 if flip else 1
        to_array[axis, 3] = own_shape[axis] - 1 if flip else 0
    return turn if grid_distance_mm(affine, own @ to_array, shape) <= AFFINE_TOLERANCE_MM else None


def orders_of_shape(shape: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, ...]]:
    """Permutations of axes that make one shape another."""
    return [axes for axes in permutations(range(3)) if tuple(shape[axis] for axis in axes) == tuple(wanted)]


def _turns(shape: Sequence[int], wanted: Sequence[int]) -> list[Turn]:
    return [
        Turn((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))
        for axes in orders_of_shape(shape, wanted)
        for flips in product((False, True), repeat=3)
    ]


def dice_by_affines(
    reference: UInt8Array, affine: NDArray[np.float64], labels: UInt8Array, own: NDArray[np.float64]
) -> float:
    """Dice of all labels together once they are resampled to the reference by their affines (4, 4), nearest voxel.

    What lies outside of the reference's box counts as predicted, so that this never is more than the true one.
    """
    places: NDArray[Any] = np.argwhere(reference)
    if not len(places) or not labels.any():
        return 0.0
    step = np.linalg.inv(own) @ affine
    at = np.rint(places @ step[:3, :3].T + step[:3, 3]).astype(np.intp)
    inside = ((at >= 0) & (at < labels.shape)).all(axis=1)
    both = int(np.count_nonzero(labels[tuple(at[inside].T)]))
    volumes = abs(np.linalg.det(own[:3, :3]) / np.linalg.det(affine[:3, :3]))
    return float(2 * both / (len(places) + np.count_nonzero(labels) * volumes))
