"""How a rule of the audit looks at two images, for the pictures of a pair: what it compared, and with what r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthkit.report import pictures

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array


@dataclass(frozen=True)
class MatchRule:
    """A rule on the contrasts of one view.

    Attributes
    ----------
    rule : "pearson", "brain", "flip" or "shift"; any other is taken as "pearson".
    contrasts : positions of the view's contrasts.
    background : grey value that a pixel of the brain exceeds in any contrast of its image.
    shift_px : distance of the eight shifts.
    """

    rule: str
    contrasts: Sequence[int]
    background: int = 8
    shift_px: int = 2

    def r(self, one: UInt8Array, other: UInt8Array) -> float | None:
        """Correlation of two whole images ``(contrast, y, x)``, already transformed; None if one is constant.

        Over all pixels of the view's contrasts as one long image. Inside the brain, each contrast is centred on its
        own brain and everything outside is zero.
        """
        if self.rule != "brain":
            return pictures.pearson(one[list(self.contrasts)], other[list(self.contrasts)])
        x, y = self._inside(one), self._inside(other)
        norm = float(np.sqrt((x @ x) * (y @ y)))
        return float(x @ y) / norm if norm > 0 else None

    def _inside(self, image: UInt8Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        brain = (image > self.background).any(axis=0)
        view = image[list(self.contrasts)].astype(np.float64)
        means = view[:, brain].mean(axis=1) if brain.any() else np.zeros(len(view))
        return np.where(brain, view - means[:, None, None], 0.0).ravel()

    def transformed(self, image: UInt8Array, match: UInt8Array) -> tuple[UInt8Array, str]:
        """The synthetic image as it was compared with its match, and what was done to it in words."""
        if self.rule == "flip":
            return image[..., ::-1], "mirrored"
        if self.rule == "shift":
            steps = (-self.shift_px, 0, self.shift_px)
            ways = [(dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0)]
            best = max(ways, key=lambda way: self.r(moved(image, *way), match) or -1.0)
            return moved(image, *best), f"moved {_direction(*best)}"
        return image, ""


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
