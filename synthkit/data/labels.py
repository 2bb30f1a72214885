"""Labels coded as grey levels of an image channel, and back.

The study codes labels as a fifth image channel, ``grey = label / 5 * 255``, so that a generator can draw them
together with the contrasts; decoding takes the nearest level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array


def grey_levels(label_values: Sequence[int]) -> UInt8Array:
    """Grey level of each label value: ``value / (max + 1) * 255``, rounded; 0, 51, 102, 204 for BraTS."""
    import numpy as np

    values = np.asarray(label_values, dtype=np.float64)
    levels: UInt8Array = np.rint(values / (values.max() + 1) * 255).astype(np.uint8)
    return levels


def to_grey(labels: UInt8Array, label_values: Sequence[int]) -> UInt8Array:
    """Labels (any shape) as grey levels. Values outside ``label_values`` become background."""
    import numpy as np

    table = np.zeros(256, dtype=np.uint8)
    table[np.asarray(label_values)] = grey_levels(label_values)
    return table[labels]


def from_grey(grey: UInt8Array, label_values: Sequence[int]) -> tuple[UInt8Array, int]:
    """Decode grey levels (any shape, uint8) to the nearest level's label.

    Returns the labels and how many pixels were off every level, so that a blurred edge between two tissues
    (which passes through the levels of others) can be reported. A tie goes to the lower level: the cut points
    for BraTS are 25.5, 76.5 and 153, as in the study, and 153 decodes to oedema.
    """
    import numpy as np

    values = np.asarray(sorted(label_values), dtype=np.uint8)
    levels = grey_levels(values.tolist()).astype(np.int16)
    distance = np.abs(np.arange(256, dtype=np.int16)[:, None] - levels[None, :])
    table = values[distance.argmin(axis=1)]
    return table[grey], int(np.count_nonzero(distance.min(axis=1)[grey]))
