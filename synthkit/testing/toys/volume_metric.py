"""The toy metric of volumes: Dice of everything that is not background. Both empty: None, and not in the mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from synthkit import Row, Score


def score(*, metrics: Sequence[str], params: Any, reference: Any, prediction: Any) -> Iterator[Score | Row]:
    values = []
    for subject in reference.subjects:
        a, b = reference.labels(subject)[0] > 0, prediction.labels(subject)[0] > 0
        total = int(a.sum()) + int(b.sum())
        value = 2 * int((a & b).sum()) / total if total else None
        yield Score(name="overlap", value=value, of={"subject": subject}, note="" if total else "both are empty")
        yield Row(table="overlap", values={"subject": subject, "voxels": total})
        values += [value] if value is not None else []
    if not values:
        yield Score(name="overlap_mean", value=None, n=0, note="no subject has a tumour")
        return
    # The bounds are the extremes: an interval that needs no distribution.
    yield Score(name="overlap_mean", value=float(np.mean(values)), low=min(values), high=max(values), n=len(values))
