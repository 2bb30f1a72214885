"""Image values of any type as the 256 greys of a dataset: taken as they are, scaled by a given range, or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synthkit.contract import UInt8Array

# A contrast whose brightest pixel of all is darker than this was not scaled to 8 bits.
_NEARLY_BLACK = 32
_TOP_OF_16 = 65535


def parse_range(text: str) -> tuple[float, float]:
    """``LOW,HIGH`` as two numbers; :class:`UsageError` unless the first is the smaller one."""
    try:
        low, high = (float(word) for word in text.split(","))
        if not low < high or not np.isfinite([low, high]).all():
            raise ValueError
    except ValueError as error:
        raise UsageError(
            f"--range {text} is not understood.",
            "It is two numbers, the value that becomes black and the one that becomes white.",
            "Write them as in --range 0,4095.",
        ) from error
    return low, high


@dataclass
class GreyValues:
    """Which values the images hold; every one is counted before any is taken.

    Parameters
    ----------
    contrasts : names of the channels.
    given : values that become 0 and 255; None to take values as they are where they are 8-bit greys.
    """

    contrasts: tuple[str, ...]
    given: tuple[float, float] | None = None
    types: dict[str, str] = field(default_factory=dict)  # type -> a picture that has it
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    highest: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.highest = [-np.inf] * len(self.contrasts)

    def add(self, name: str, planes: list[NDArray[Any]]) -> None:
        """Count the channels (y, x) of one sample; :class:`DataError` for values that are no numbers."""
        for k, plane in enumerate(planes):
            low, high = float(plane.min()), float(plane.max())
            if not np.isfinite([low, high]).all():
                raise DataError(
                    f"The {self.contrasts[k]} image of {name} holds NaN or infinity.",
                    "They have no grey.",
                    "Replace them where the images are made.",
                )
            whole = plane.dtype.kind != "f" or bool((plane == np.rint(plane)).all())
            self.types.setdefault(str(plane.dtype), f"{self.contrasts[k]} of {name}")
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.whole &= whole
            self.highest[k] = max(self.highest[k], high)

    def check(self, source: str) -> list[str]:
        """What was concluded from the values, for the user.

        Raises
        ------
        DataError : values that are no 8-bit greys and no range; values beyond the range; or several types at once.
        """
        if self.types.keys() == {"uint8"} and self.given is None:
            return []
        span = f"{_written(self.low)} to {_written(self.high)}"
        if len(self.types) > 1:
            raise DataError(
                f"The images of {source} are of several types.",
                f"Values run from {span}, and one range cannot be right for all.",
                "Save all as one type.",
                [f"{kind}: {name}" for kind, name in sorted(self.types.items())],
            )
        if self.given is not None:
            if self.low < self.given[0] or self.high > self.given[1]:
                raise DataError(
                    f"The images of {source} hold values from {span}.",
                    f"--range {_written(self.given[0])},{_written(self.given[1])} would clip them.",
                    f"Give --range {self._range()}.",
                )
            return []
        kind = next(iter(self.types))
        if self.whole and self.low >= 0 and 1 < self.high <= 255:
            return [f"Images are stored as {kind} with whole numbers of {span}: taken as 8-bit greys."]
        fix = f"Say which values become black and white: --range {self._range()} scales all images alike"
        if kind == "uint16" and self.high < _TOP_OF_16:
            fix += f", so that the brightest is white; 0,{_TOP_OF_16} keeps the brightness that viewers show"
        raise DataError(
            f"The images of {source} are not 8-bit greys.", f"They are {kind} with values from {span}.", f"{fix}."
        )

    def warnings(self) -> list[str]:
        """Contrasts that are nearly black, with figures."""
        low, high = self.given or (0.0, 255.0)
        brightest = {
            name: round((value - low) / (high - low) * 255)
            for name, value in zip(self.contrasts, self.highest, strict=True)
        }
        return [
            f"{name} is nearly black: no pixel of any image is brighter than {grey} of 255."
            for name, grey in brightest.items()
            if grey < _NEARLY_BLACK
        ]

    def greys(self, plane: NDArray[Any]) -> UInt8Array:
        """A channel as uint8; values were found to fit."""
        if self.given is None:
            return np.ascontiguousarray(plane).astype(np.uint8)
        low, high = self.given
        scaled: UInt8Array = np.rint((plane.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
        return scaled

    def _range(self) -> str:
        low, high = self.low, self.high
        if not self.whole and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif not self.whole and low >= -1 and high <= 1:
            low, high = -1.0, 1.0
        elif low >= 0 and self.whole:
            low = 0.0
        return f"{_written(low)},{_written(max(high, low + 1))}"


def _written(number: float) -> str:
    """Exactly, so that a range that a message advises holds every value."""
    return str(int(number)) if number == int(number) else repr(number)
