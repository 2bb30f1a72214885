"""The toy metric of slices: the difference between the mean grey levels of two datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from synthkit import Score


def score(*, metrics: Sequence[str], params: Any, real: Any, synthetic: Any, holdout: Any = None) -> Iterator[Score]:
    yield _difference("shift", real, synthetic)
    if holdout is not None:
        yield _difference("floor", real, holdout)


def _difference(name: str, a: Any, b: Any) -> Score:
    if not len(a) or not len(b):
        return Score(name=name, value=None, n=0, note="a dataset without samples has no mean")
    return Score(name=name, value=abs(_mean(a) - _mean(b)), n=min(len(a), len(b)))


def _mean(source: Any) -> float:
    return float(np.mean([image.mean() for images, _ in source.batches(16) for image in images]))
