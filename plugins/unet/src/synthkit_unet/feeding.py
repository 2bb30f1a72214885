"""Which samples are trained and validated on, in which order, and reading them ahead of the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from synthkit.contract import Sample, Samples
from synthkit.errors import DataError
from synthkit.splits import patient_of

if TYPE_CHECKING:
    from synthkit_unet import UnetParams

#: Separate random streams of one seed.
SPLIT, ORDER, AUGMENTATION, VALIDATION = range(4)

_BATCHES_AHEAD = 4


def split_samples(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to validate on: real samples by patient, synthetic ones one by one.

    No patient is on both sides, whatever the number of scans. Each of the two kinds keeps at least one unit on either
    side where it has two.
    """
    rng = np.random.default_rng([seed, SPLIT])
    patients = {row.subject: patient_of(row.subject) for row in samples if row.subject is not None}
    held_patients = _held_out(sorted(set(patients.values())), fraction, rng)
    held_rows = _held_out([i for i, row in enumerate(samples) if row.subject is None], fraction, rng)
    held = [
        patients[row.subject] in held_patients if row.subject is not None else i in held_rows
        for i, row in enumerate(samples)
    ]
    return [i for i, out in enumerate(held) if not out], [i for i, out in enumerate(held) if out]


def _held_out(units: Sequence[Any], fraction: float, rng: np.random.Generator) -> set[Any]:
    n_held = min(max(1, round(fraction * len(units))), len(units) - 1) if fraction > 0 and units else 0
    return {units[i] for i in rng.permutation(len(units))[:n_held]}


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
        permutation = np.random.default_rng([seed, ORDER, epoch]).permutation(len(rows))
        order += [rows[i] for i in permutation[max(start - first, 0) : stop - first]]
    return order


def read_ahead(
    reader: Reader, rows: Sequence[int], params: UnetParams, first_step: int, *, pin: bool
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Batches of all steps from ``first_step`` on, read by a thread a few steps ahead."""
    ready: queue.Queue[tuple[Tensor, Tensor] | BaseException] = queue.Queue(_BATCHES_AHEAD)
    stopped = threading.Event()

    def offer(item: tuple[Tensor, Tensor] | BaseException) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            step = first_step
            while step * params.batch_size < params.samples and not stopped.is_set():
                start = step * params.batch_size
                stop = min(start + params.batch_size, params.samples)
                images, classes = reader.read(order_of(rows, params.seed, start, stop))
                offer((images.pin_memory(), classes.pin_memory()) if pin else (images, classes))
                step += 1
        except BaseException as error:  # raised again where the batches are used
            offer(error)

    threading.Thread(target=work, daemon=True, name="unet-reader").start()
    try:
        for _ in range(first_step, -(-params.samples // params.batch_size)):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
