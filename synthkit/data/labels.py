"""Label values, the regions made of them, and their grey-level code in an image channel.

BraTS stores necrotic core 1, oedema 2, enhancing tumour 4 (3 since 2023: read as 4, see :func:`canonical`).
The study codes labels as a fifth image channel, ``grey = label / 5 * 255``, so that a generator can draw them
together with the contrasts; decoding takes the nearest level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

#: Label name -> value, in nnU-Net's form.
BRATS_LABELS: dict[str, int] = {"background": 0, "NCR": 1, "ED": 2, "ET": 4}

#: Evaluated regions -> the label values they consist of: the three raw labels, then the BraTS regions.
#: (Enhancing tumour is both.)
REGIONS: dict[str, tuple[int, ...]] = {"NCR": (1,), "ED": (2,), "ET": (4,), "TC": (1, 4), "WT": (1, 2, 4)}


def canonical(labels: UInt8Array) -> UInt8Array:
    """BraTS 2023 and later write enhancing tumour as 3: return it as 4. A map that holds both keeps both."""
    import numpy as np

    has_three, has_four = bool((labels == 3).any()), bool((labels == 4).any())
    if not has_three or has_four:
        return labels
    return np.where(labels == 3, np.uint8(4), labels)


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
