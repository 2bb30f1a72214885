"""The toy metric that keeps what it needs of the real slices for later runs: their mean grey level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthkit import Kept, Score
from synthkit.errors import DataError


def score(
    *, metrics: Sequence[str], params: Any, real: Any, synthetic: Any = None, kept: Path | None = None
) -> Iterator[Score | Kept]:
    if not len(real):
        raise DataError("There are no real images.")
    mean = _mean(real) if kept is None else _read(kept, real)
    if synthetic is None:
        yield Kept(arrays={"mean": np.array(mean), "of": np.array(real.digest)})
    elif not len(synthetic):
        yield Score(name="distance", value=None, n=0, note="a dataset without samples has no mean")
    else:
        yield Score(name="distance", value=abs(mean - _mean(synthetic)), n=len(synthetic))


def _read(kept: Path, real: Any) -> float:
    with np.load(kept, allow_pickle=False) as arrays:
        if str(arrays["of"]) != real.digest:
            raise DataError("What --kept gives is of other images.", fix="Leave --kept out.")
        return float(arrays["mean"])


def _mean(source: Any) -> float:
    return float(np.mean([image.mean() for images, _ in source.batches(16) for image in images]))
