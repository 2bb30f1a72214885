"""The toy segmenter: nearest mean, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthkit.testing.toys.statistics import learn, load, means

if TYPE_CHECKING:
    from synthkit.contract import Samples, UInt8Array


def train(
    data: Samples, checkpoint: Path, params: Any, *, initial: Path | None = None, initial_state: Path | None = None
) -> None:
    learn(data, checkpoint, params, initial)


def segment(checkpoint: Path, images: Iterable[UInt8Array], params: Any) -> Iterator[UInt8Array]:
    state = load(checkpoint)
    for image in images:
        yield nearest(state, image)


def segment_with_probabilities(
    checkpoint: Path, images: Iterable[UInt8Array], params: Any
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """All or nothing: a nearest mean says nothing of how near the others are."""
    state = load(checkpoint)
    values = np.array(state["label_values"], np.uint8)
    for image in images:
        labels = nearest(state, image)
        yield labels, (labels == values[:, None, None]).astype(np.uint8) * np.uint8(255)


def nearest(state: dict[str, Any], image: UInt8Array) -> UInt8Array:
    """Labels ``(y, x)`` of one image; black pixels are background."""
    # (label, y, x): squared distance to the mean grey levels of each label.
    distance = ((image[None] - means(state)[:, :, None, None]) ** 2).sum(axis=1)
    labels = np.array(state["label_values"], np.uint8)[distance.argmin(axis=0)]
    return np.where(image.max(axis=0) > 0, labels, 0).astype(np.uint8)
