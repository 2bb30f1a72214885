"""The order of the training images, and reading them ahead of the network."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Generator, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from synthkit.contract import Samples
from synthkit.errors import DataError
from synthkit_segmentation.recipe import ORDER

_BATCHES_AHEAD = 4


class Reader:
    """Reads rows as the network wants them: its contrasts only, and class indices instead of label values."""

    def __init__(self, data: Samples, channels: Sequence[int]) -> None:
        self._data, self._channels = data, list(channels)
        self._class_of = np.full(256, 255, dtype=np.uint8)
        self._class_of[list(data.label_values)] = np.arange(len(data.label_values))
        self._lock = threading.Lock()  # a source need not bear two readers

    def read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images uint8 (n, contrast, y, x) and classes uint8 (n, y, x)."""
        with self._lock:
            images, labels = self._data.read(rows)
        classes = self._class_of[labels]
        if (classes == 255).any():
            unknown = sorted(int(value) for value in np.unique(labels[classes == 255]))
            raise DataError(
                "The dataset holds labels that it does not declare.",
                f"Labels {unknown} are not among {list(self._data.label_values)}.",
                "Prepare or import the dataset again.",
            )
        return torch.from_numpy(np.ascontiguousarray(images[:, self._channels])), torch.from_numpy(classes)


def order_of(rows: Sequence[int], seed: int, start: int, stop: int) -> list[int]:
    """Which rows are shown from the ``start``-th to before the ``stop``-th image: a new permutation every epoch."""
    order: list[int] = []
    for epoch in range(start // len(rows), (stop - 1) // len(rows) + 1):
        first = epoch * len(rows)
        permutation = _permutation(len(rows), seed, epoch)
        order += [rows[i] for i in permutation[max(start - first, 0) : stop - first]]
    return order


@functools.lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, ORDER, epoch]).permutation(n)


def read_ahead(
    reader: Reader, batches: Iterable[Sequence[int]], *, pin: bool
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Images and classes of each batch of rows, read by a thread a few batches ahead."""
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException | None] = queue.Queue(_BATCHES_AHEAD)
    stopped = threading.Event()

    def offer(item: tuple[Tensor, Tensor] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for rows in batches:
                if stopped.is_set():
                    return
                images, classes = reader.read(rows)
                offer((images.pin_memory(), classes.pin_memory()) if pin else (images, classes))
            offer(None)
        except BaseException as error:  # raised again where the batches are used
            offer(error)

    threading.Thread(target=work, daemon=True, name="segmentation-reader").start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
