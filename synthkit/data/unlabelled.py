"""Whether a subject of whom nothing is labelled shows what tumours show: a large bright region in FLAIR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Looked at are voxels of about this size. Bright is what is so many spreads (interquartile range / 1.35) above the
# median. Of 5 real subjects and 6 phantoms a bright region with a core, what is left of it without its outermost layer,
# of this size is there in all whose tumour has 20 ml and more; away from tumours cores have at most a tenth of that.
_VOXEL_MM, _BRIGHT, _CORE_ML = 4.0, 2.0, 1.0


def bright_region_ml(flair: NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """Size in ml of the largest bright region of a FLAIR (x, y, z), background 0; 0 where none is as large as tumours.

    Small lesions of the white matter and the bright rims of ventricles have no core and do not count.
    """
    from scipy import ndimage

    steps = [max(1, round(_VOXEL_MM / mm)) for mm in spacing_mm]
    coarse = flair[:: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
    brain = coarse[coarse != 0]
    if not brain.size:
        return 0.0
    low, middle, high = np.percentile(brain, (25, 50, 75))
    bright = coarse > middle + _BRIGHT * (high - low) / 1.35
    regions, _ = ndimage.label(bright)
    cores = np.bincount(regions[ndimage.binary_erosion(bright)], minlength=1)
    cores[0] = 0
    ml = float(np.prod([step * mm for step, mm in zip(steps, spacing_mm, strict=True)])) / 1000
    if cores.max() * ml < _CORE_ML:
        return 0.0
    return float(np.count_nonzero(regions == cores.argmax())) * ml
