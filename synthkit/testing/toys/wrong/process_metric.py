"""A metric whose scores belong to the process; see :mod:`.processes`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from synthkit.testing.toys import slice_metric


def score(**given: Any) -> Iterator[Any]:
    noise = float(np.random.default_rng(abs(hash("bootstrap"))).random())
    for answer in slice_metric.score(**given):
        yield answer if answer.value is None else replace(answer, value=answer.value + noise)
