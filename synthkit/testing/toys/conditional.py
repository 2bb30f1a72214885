"""The toy generator that can be asked: for a label map, or for the radius and the parts of the tumour that it draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.errors import UsageError
from synthkit.testing.toys import TumourConditions
from synthkit.testing.toys.generator import painted, rings, shapes
from synthkit.testing.toys.statistics import learn, load

if TYPE_CHECKING:
    from synthkit.contract import Asked, Samples, UInt8Array


def train(data: Samples, checkpoint: Path, params: Any) -> None:
    learn(data, checkpoint, params)


def generate(
    checkpoint: Path, seeds: Iterable[int], params: Any, *, asked: Iterable[Asked] | None = None
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    state = load(checkpoint)
    for seed, wanted in zip(seeds, repeat(None) if asked is None else asked, strict=False):
        yield draw(state, np.random.default_rng(seed), wanted)


def draw(state: dict[str, Any], rng: np.random.Generator, wanted: Asked | None) -> tuple[UInt8Array, UInt8Array]:
    """One sample from a random stream of its own, and as it is asked for."""
    head, distance, radius = shapes(state, rng)
    values = TumourConditions() if wanted is None else wanted.values
    if wanted is not None and wanted.labels is not None:
        if values != TumourConditions():
            raise UsageError("A label map says the radius and the parts already.", fix="Ask for one or for the other.")
        return painted(state, rng, head, wanted.labels), wanted.labels
    tumour = {name: value for name, value in zip(state["label_names"], state["label_values"], strict=True) if value}
    labels = rings(distance / (values.radius or radius), [tumour[name] for name in values.parts or tumour])
    return painted(state, rng, head, labels), labels
