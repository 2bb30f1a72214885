"""The toy generator: labels first, then grey levels given the labels, so that both come from one distribution."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.errors import DataError
from synthkit.testing.toys.statistics import STATE, learn, load, means

if TYPE_CHECKING:
    from synthkit.contract import Samples, UInt8Array


def train(
    data: Samples, checkpoint: Path, params: Any, *, initial: Path | None = None, initial_state: Path | None = None
) -> None:
    learn(data, checkpoint, params, initial)


def generate(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    state = load(checkpoint)
    for seed in seeds:
        yield draw(state, np.random.default_rng(seed))


def import_checkpoint(
    file: Path, checkpoint: Path, *, contrasts: Sequence[str], label_values: Sequence[int], params: Any
) -> int:
    try:
        state = json.loads(file.read_bytes())
        side, n_contrasts = int(state["size"][0]), len(state["sums"][0])
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f"{file.name} holds no means.", f"{error}.", "Give the model.json of a training.") from error
    if n_contrasts != len(contrasts) or len(state["sums"]) != len(label_values):
        raise DataError(f"{file.name} has {n_contrasts} contrasts and {len(state['sums'])} labels.")
    (checkpoint / STATE).write_text(json.dumps({**state, "label_values": list(label_values)}), encoding="utf-8")
    return side


def draw(state: dict[str, Any], rng: np.random.Generator) -> tuple[UInt8Array, UInt8Array]:
    """One sample from a random stream of its own."""
    head, distance, radius = shapes(state, rng)
    labels = rings(distance / radius, [value for value in state["label_values"] if value])
    return painted(state, rng, head, labels), labels


def shapes(state: dict[str, Any], rng: np.random.Generator) -> tuple[Any, Any, float]:
    """Where the head is, how far each pixel is from the tumour's centre, and its radius; lengths in sides of images."""
    height, width = state["size"]
    y, x = np.mgrid[:height, :width]
    y, x = y / height - 0.5, x / width - 0.5
    head = (x / rng.uniform(0.38, 0.46)) ** 2 + (y / rng.uniform(0.4, 0.48)) ** 2 < 1
    return head, np.hypot(y - rng.uniform(-0.15, 0.15), x - rng.uniform(-0.15, 0.15)), rng.uniform(0.15, 0.22)


def rings(distance: Any, values: Sequence[int]) -> UInt8Array:
    """Labels of a tumour of radius 1: a ring for each value, the first one outside."""
    labels = np.zeros(distance.shape, np.uint8)
    for number, value in enumerate(values):
        labels[distance < 1 - number / len(values)] = value
    return labels


def painted(state: dict[str, Any], rng: np.random.Generator, head: Any, labels: UInt8Array) -> UInt8Array:
    """Grey levels given the labels, black outside the head."""
    rows = np.searchsorted(state["label_values"], labels)
    greys = means(state)[rows].transpose(2, 0, 1) + rng.normal(0, 5, (len(state["sums"][0]), *labels.shape))
    return np.where(head, np.clip(np.rint(greys), 0, 255), 0).astype(np.uint8)
