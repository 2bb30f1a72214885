"""All wrong toys."""

from __future__ import annotations

from synthkit.testing.toys.wrong import asking, declarations, labels, processes, samples, scores, training
from synthkit.testing.toys.wrong.wrong import Wrong

WRONG: tuple[Wrong, ...] = (
    *declarations.WRONG,
    *training.WRONG,
    *samples.WRONG,
    *asking.WRONG,
    *labels.WRONG,
    *scores.WRONG,
    *processes.WRONG,
)
