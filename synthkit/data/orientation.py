"""Which way the axes of an array lie in the body, and how another array order is reached by flips and permutations.

Codes name where the three axes of an array lead: L or R, P or A, S or I. ``LPS`` is the order in which slices appear
as radiologists look at them: x to the patient's left, y to the back, slices from feet to head, so that pixel ``[y, x]``
has the forehead on top and the patient's right on the left of the picture. Nothing here resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LPS = "LPS"

_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
# Names of the axes of the body by what lies at their two ends.
_AXIS_OF = {code: number for number, pair in enumerate(("LR", "PA", "SI")) for code in pair}

_Scalar = TypeVar("_Scalar", bound=np.generic)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Turn:
    """From one array order to another: axis ``i`` of the result is axis ``axes[i]``, reversed if ``flips[i]``."""

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def between(cls, codes: str, wanted: str) -> Turn:
        """The turn from an array whose axes lead to ``codes`` to one whose axes lead to ``wanted``."""
        places = [next(k for k, code in enumerate(codes) if _AXIS_OF[code] == _AXIS_OF[end]) for end in wanted]
        flips = [codes[place] != end for place, end in zip(places, wanted, strict=True)]
        return cls((places[0], places[1], places[2]), (flips[0], flips[1], flips[2]))

    def apply(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The array (x, y, z) in the other order, a view."""
        return array.transpose(self.axes)[self._steps]

    def undo(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The inverse of :meth:`apply`, a view."""
        return array[self._steps].transpose(np.argsort(self.axes))

    def of_each_axis(self, values: Sequence[_T]) -> tuple[_T, _T, _T]:
        """Something that each axis has, its length or its spacing, in the other order."""
        x, y, z = (values[axis] for axis in self.axes)
        return x, y, z

    def places(self, shape: Sequence[int]) -> NDArray[np.float64]:
        """(4, 4) from voxel indices of the result to those of an array of this shape: an affine of that times this."""
        found = np.eye(4)
        found[:3, :3] = 0
        for axis, (source, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            found[source, axis] = -1 if flip else 1
            found[source, 3] = shape[source] - 1 if flip else 0
        return found

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Where the array axes lead by an affine (4, 4), ``LPS``; oblique axes by the nearest of the body."""
    import nibabel as nib

    return "".join(str(code) for code in nib.aff2axcodes(affine))  # type: ignore[no-untyped-call]


def forward(array: NDArray[Any]) -> tuple[slice, ...]:
    """Index of a view that runs through memory forwards along every axis; it is its own inverse.

    NumPy reduces such a view several times faster than a flipped one.
    """
    return tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)


def directions(codes: str) -> NDArray[np.float64]:
    """Unit vectors (3, 3), a column an axis, to where the axes of such an array lead in NIfTI's space."""
    columns = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        columns[_AXIS_OF[code], axis] = 1 if code in "RAS" else -1
    return columns


def tilt_degrees(affine: NDArray[np.float64]) -> float:
    """By how much the array axes are turned against the nearest axes of the body, the largest of three angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    nearest = np.abs(directions).max(axis=0)
    return float(np.degrees(np.arccos(np.clip(nearest.min(), 0, 1))))


def is_code(text: str) -> bool:
    """Whether a text names three axes of the body, each once: ``RAS``, ``PIR``."""
    return len(text) == 3 and {_AXIS_OF.get(code) for code in text} == {0, 1, 2}


def says_nothing(affine: NDArray[np.float64], header: Any, shape: Sequence[int]) -> bool:
    """Whether an affine is only what programs write that know of no orientation.

    That is one without any code in the header (qform and sform 0), and one without a turn and with its origin in a
    corner or in the centre, as of arrays that were saved with an identity or with the voxel size alone.
    """
    if header is not None and not int(header["sform_code"]) and not int(header["qform_code"]):
        return True
    spacing = np.diag(affine)[:3]
    if (spacing <= 0).any() or not np.allclose(affine[:3, :3], np.diag(spacing), atol=1e-4):
        return False
    centre = (np.asarray(shape[:3]) - 1) / 2 * spacing
    origin = affine[:3, 3]
    return bool(np.allclose(origin, 0, atol=1e-4) or np.allclose(np.abs(origin), centre, atol=1e-4))


def edge_marks(codes: str | None) -> dict[str, str]:
    """Letters at the ``left``, ``right``, ``top`` and ``bottom`` edge of slices (y, x) whose axes lead to ``codes``.

    Empty where that is not known.
    """
    if not codes:
        return {}
    x, y = codes[0], codes[1]
    return {"left": _OPPOSITE[x], "right": x, "top": _OPPOSITE[y], "bottom": y}
