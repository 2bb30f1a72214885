"""For the tests of generators: a dataset in memory, and a training that is killed.

The dataset is of discs: a dim disc (the head) with a bright, labelled disc (the tumour) somewhere inside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

import synthkit
from synthkit.contract import Sample

UInt8Array = NDArray[np.uint8]


class MemorySamples:
    """Arrays ``(n, contrast, y, x)`` and ``(n, y, x)`` as :class:`synthkit.contract.Samples`; ``reads`` counts."""

    def __init__(
        self, images: UInt8Array, labels: UInt8Array, contrasts: tuple[str, ...], label_values: tuple[int, ...]
    ) -> None:
        self.images, self.labels = images, labels
        self.contrasts, self.label_values = contrasts, label_values
        self.digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        self.reads = 0

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    @property
    def samples(self) -> Sequence[Sample]:
        return [Sample(str(row), "train", f"subject{row}", 0, None, "") for row in range(len(self))]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> tuple[UInt8Array, UInt8Array]:
        self.reads += 1
        rows = np.asarray(indices)
        return self.images[rows], self.labels[rows]

    def batches(self, batch_size: int) -> Iterator[tuple[UInt8Array, UInt8Array]]:
        for start in range(0, len(self), batch_size):
            yield self.read(range(start, min(start + batch_size, len(self))))


def make_discs(
    n: int = 64, size: int = 32, contrasts: tuple[str, ...] = ("t1", "flair"), label_values: tuple[int, ...] = (0, 4)
) -> MemorySamples:
    """``n`` discs, with soft edges and some noise as MR has.

    The first contrast is brightest in the inner disc, the further ones ever less so. The last label value is the disc.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    images = np.zeros((n, len(contrasts), size, size), dtype=np.uint8)
    labels = np.zeros((n, size, size), dtype=np.uint8)
    for row in range(n):
        angle, radius = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.2) * size
        inner = np.hypot(y - np.sin(angle) * size / 6, x - np.cos(angle) * size / 6) < radius / 1.2
        for number in range(len(contrasts)):
            images[row, number][np.hypot(y, x) < 0.42 * size] = 90
            images[row, number][inner] = 230 - 40 * number
        labels[row][inner] = label_values[-1]
    soft = ndimage.gaussian_filter(images.astype(float), (0, 0, 0.7, 0.7))
    noisy = np.where(soft > 5, soft + random.normal(0, 6, soft.shape), 0)
    return MemorySamples(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), labels, contrasts, label_values)


class KilledError(BaseException):
    """Stands for a killed process: no method catches it."""


@contextmanager
def killed_after(images: int) -> Iterator[None]:
    """A training in the block ends with :class:`KilledError`, which is caught, once it has shown ``images``."""

    def progress(step: int, total: int | None = None, **_: object) -> None:
        if step >= images:
            raise KilledError

    with mock.patch.object(synthkit, "progress", progress):
        try:
            yield
        except KilledError:
            return
    raise AssertionError(f"The training ended before it had shown {images} images.")


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks of tests gain nothing from threads, and lose much to their waiting on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def stacked(samples: Iterator[tuple[UInt8Array, UInt8Array]]) -> tuple[UInt8Array, UInt8Array]:
    """Images ``(n, contrast, y, x)`` and labels ``(n, y, x)`` of all samples."""
    images, labels = zip(*samples, strict=True)
    return np.stack(images), np.stack(labels)
