"""A generator whose samples belong to their seed and to the process; see :mod:`.processes`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.testing.toys.generator import draw, import_checkpoint, train
from synthkit.testing.toys.statistics import load

__all__ = ["generate", "import_checkpoint", "train"]


def generate(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    state = load(checkpoint)
    for seed in seeds:
        yield draw(state, np.random.default_rng([seed, abs(hash("noise"))]))
