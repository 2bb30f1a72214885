"""How a rule of the audit looks at two images, for the pictures of a pair: what it compared, and with what r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthkit.report import pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array


BENT = "bent"
#: Rules by which images are compared in a common frame: turned, scaled and bent as no picture here is.
FRAMED = frozenset({"turned", "turned-inside", BENT})
#: Rules that leave out what a label map says, which pictures show, and the pixels by which they do.
APART = {
    "outside": "pixels outside the labels of both",
    "outside-brain": "pixels of both brains outside the labels of both",
    "inside": "pixels inside the label map, each label apart",
}


@dataclass(frozen=True)
class MatchRule:
    """A rule on the contrasts of one view.

    Attributes
    ----------
    rule : "pearson", "brain", "flip", "shift", "inverted", "brain-inverted", or one of FRAMED or APART; any other
        is taken as "pearson".
    contrasts : positions of the view's planes: contrasts, or the label map.
    background : grey value that a pixel of the brain exceeds in any contrast of its image.
    shift_px : distance of the eight shifts.
    """

    rule: str
    contrasts: Sequence[int]
    background: int = 8
    shift_px: int = 2

    @property
    def is_framed(self) -> bool:
        """What is drawn is not what was compared: only the orientation is the same."""
        return self.rule in FRAMED

    @property
    def is_as_drawn(self) -> bool:
        """Whether r is of all that is drawn."""
        return not self.is_framed and self.rule not in APART

    @property
    def not_drawn(self) -> str:
        """What was done before r was taken, and is not in the picture; empty if nothing was."""
        if self.rule in APART:
            return f"r is of {APART[self.rule]} alone"
        if not self.is_framed:
            return ""
        return "r is of images brought to one frame" + (" and bent" if self.rule == BENT else "") + ", not of these"

    def r(self, one: UInt8Array, other: UInt8Array) -> float | None:
        """Correlation of two whole images ``(contrast, y, x)``, already transformed; None if one is constant.

        Over all pixels of the view's contrasts as one long image. Inside the brain, each contrast is centred on its
        own brain and everything outside is zero.
        """
        if not self.rule.startswith("brain"):
            return pictures.pearson(one[list(self.contrasts)], other[list(self.contrasts)])
        x, y = self._inside(one), self._inside(other)
        norm = float(np.sqrt((x @ x) * (y @ y)))
        return float(x @ y) / norm if norm > 0 else None

    def _inside(self, image: UInt8Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        brain = self._brain(image)
        view = image[list(self.contrasts)].astype(np.float64)
        means = view[:, brain].mean(axis=1) if brain.any() else np.zeros(len(view))
        return np.where(brain, view - means[:, None, None], 0.0).ravel()

    def _brain(self, image: UInt8Array) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = np.any(image > self.background, axis=0)
        return inside

    def transformed(self, image: UInt8Array, match: UInt8Array) -> tuple[UInt8Array, str]:
        """The synthetic image as it was compared with its match, and what was done to it in words."""
        if self.rule == "flip":
            return image[..., ::-1], "mirrored"
        if self.rule == "shift":
            steps = (-self.shift_px, 0, self.shift_px)
            ways = [(dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0)]
            best = max(ways, key=lambda way: self.r(moved(image, *way), match) or -1.0)
            return moved(image, *best), f"moved {_direction(*best)}"
        if self.rule == "inverted":
            return 255 - image, "dark and bright exchanged"
        if self.rule == "brain-inverted":
            inverted: UInt8Array = np.where(self._brain(image), 255 - image, image)
            return inverted, "dark and bright exchanged"
        if self.is_framed:
            return self._turned(image, match)
        return image, ""

    def _turned(self, image: UInt8Array, match: UInt8Array) -> tuple[UInt8Array, str]:
        """The image in the orientation of its match, over its match; small angles, the scale and bends are left."""
        quarters = range(4) if image.shape[-1] == image.shape[-2] else (0, 2)
        found = []
        for mirrored in (False, True):
            for quarter in quarters:
                turned = np.rot90(image[..., ::-1] if mirrored else image, quarter, axes=(-2, -1))
                (y, x), (to_y, to_x) = self._centre(turned), self._centre(match)
                placed = moved(turned, round(to_y - y), round(to_x - x))
                words = ["mirrored"] * mirrored + [f"turned by {90 * quarter} degrees"] * bool(quarter)
                found.append((self.r(placed, match) or -1.0, len(words), placed, ", ".join(words)))
        _, _, best, how = max(found, key=lambda item: (item[0], -item[1]))
        return best, how

    def _centre(self, image: UInt8Array) -> tuple[float, float]:
        """Centroid ``(y, x)`` of what the view's planes show; the middle of an empty one."""
        y, x = np.nonzero(self._brain(image[list(self.contrasts)]))
        middle = ((image.shape[-2] - 1) / 2, (image.shape[-1] - 1) / 2)
        return (float(y.mean()), float(x.mean())) if len(y) else middle


def moved(image: UInt8Array, dy: int, dx: int) -> UInt8Array:
    """An image ``(contrast, y, x)`` moved down by dy and right by dx pixels; zeros come in."""
    pad = max(abs(dy), abs(dx))
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    height, width = image.shape[-2:]
    return padded[:, pad - dy : pad - dy + height, pad - dx : pad - dx + width]


def _direction(dy: int, dx: int) -> str:
    parts = [f"{abs(dy)} px {'down' if dy > 0 else 'up'}"] if dy else []
    parts += [f"{abs(dx)} px {'right' if dx > 0 else 'left'}"] if dx else []
    return ", ".join(parts)
