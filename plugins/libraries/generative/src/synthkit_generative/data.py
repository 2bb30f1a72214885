"""Real images for training, in an order that follows from the seed, read ahead of the arithmetic."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from synthkit_torch import parallel
from torch import Tensor

from synthkit.contract import Samples
from synthkit.errors import DataError
from synthkit_generative.encodings import Encoding, to_bytes

_AHEAD = 4  # batches read in advance: enough to hide a slow disk, little memory


def square_side(data: Samples, name: str, sizes: Sequence[int] = (32, 64, 128, 256, 512)) -> int:
    """Side in pixels of the images of ``data``. DataError unless they are square, of one of ``sizes``, and some."""
    height, width = data.size
    if height != width or height not in sizes:
        *first, last = map(str, sizes)
        raise DataError(
            f"{name} cannot learn images of {height} x {width} pixels.",
            f"It draws square images of {', '.join(first)} or {last} pixels.",
            "Prepare the dataset at one of these sizes.",
        )
    if len(data) == 0:
        raise DataError("The dataset has no samples to train on.", "", "Check the split, or prepare more subjects.")
    return height


def to_float(batch: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Grey levels 0..255 as float32 in [-1, 1] on the device, where a fourth of the bytes arrives."""
    bytes_ = torch.from_numpy(batch)
    if device.type == "cuda":  # from memory that cannot be paged out a copy goes on beside the arithmetic
        bytes_ = bytes_.pin_memory()
    return bytes_.to(device, non_blocking=True).float() / 127.5 - 1


class RealImages:
    """Batches of real images for steps ``first..last-1``, read ahead by one thread.

    Each batch is ``uint8 (n, contrast + channel, y, x)``, the last channels being the labels in this ``encoding``, from
    0 for -1 to 255 for 1. The images of a step follow from ``(seed, step)`` alone: epochs are permutations, laid end to
    end. With ``mirror`` an epoch has each image twice, once mirrored left to right with its labels. With several
    processes each reads its share.
    """

    def __init__(
        self, data: Samples, encoding: Encoding, batch_size: int, seed: int, first: int, last: int, *, mirror: bool
    ) -> None:
        self._share = parallel.rows(batch_size, parallel.n_processes(), parallel.rank())
        self._data = data
        self._encoding = encoding
        self._batch_size = batch_size
        self._seed = seed
        self._rows = len(data) * (2 if mirror else 1)  # those from len(data) on are the mirrored ones
        self._steps = range(first, last)
        self._queue: queue.Queue[NDArray[np.uint8] | BaseException] = queue.Queue(maxsize=_AHEAD)
        self._stop = threading.Event()
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._thread = threading.Thread(target=self._read_ahead, name="real-images", daemon=True)

    def __enter__(self) -> RealImages:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for _ in self._steps:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def indices(self, step: int) -> NDArray[np.int64]:
        """What this process sees in step ``step``: rows of the dataset, and from its length on the same mirrored."""
        positions = step * self._batch_size + self._share
        return np.array([self._row(int(position)) for position in positions], dtype=np.int64)

    def _row(self, position: int) -> int:
        epoch, offset = divmod(position, self._rows)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
        return int(self._order[offset])

    def _read_ahead(self) -> None:
        try:
            for step in self._steps:
                mirrored, rows = np.divmod(self.indices(step), len(self._data))
                images, labels = self._data.read(rows)
                if mirrored.any():
                    images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
                    labels = np.where(mirrored[:, None, None], labels[..., ::-1], labels)
                if not self._put(np.concatenate([images, to_bytes(self._encoding.encode(labels))], axis=1)):
                    return
        except BaseException as error:  # handed to the training loop, which raises it
            self._put(error)

    def _put(self, item: NDArray[np.uint8] | BaseException) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
