"""What surrounds the method: a stream of real images, and files that are either whole or absent."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from synthkit.contract import Samples
from synthkit.errors import DataError, NotWritableError
from synthkit.labels import to_grey

_AHEAD = 4  # batches read in advance: enough to hide a slow disk, little memory


class RealImages:
    """Batches of real images for steps ``first..last-1``, read ahead by one thread.

    Each batch is ``uint8 (n, contrast + 1, y, x)``, the last channel being the labels as grey levels. The images of a
    step follow from ``(seed, step)`` alone: epochs are permutations, laid end to end.
    """

    def __init__(self, data: Samples, batch_size: int, seed: int, first: int, last: int) -> None:
        self._data = data
        self._batch_size = batch_size
        self._seed = seed
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
        """Rows of the dataset that step ``step`` sees."""
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size, dtype=np.int64)
        return np.array([self._row(int(position)) for position in positions], dtype=np.int64)

    def _row(self, position: int) -> int:
        epoch, offset = divmod(position, len(self._data))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._data))
        return int(self._order[offset])

    def _read_ahead(self) -> None:
        try:
            for step in self._steps:
                images, labels = self._data.read(self.indices(step))
                grey = to_grey(labels, self._data.label_values)
                if not self._put(np.concatenate([images, grey[:, None]], axis=1)):
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


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-ready ``facts`` into one safetensors file, which appears whole or not at all."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = partial_path(path)
    try:
        save_file(whole, partial, metadata={"facts": json.dumps(dict(facts))})
        partial.chmod(0o644)  # safetensors leaves it to its owner alone, and a container may be another user
        _publish(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise _not_writable(path, error) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and facts of a file written by :func:`save_tensors`; DataError if it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"The checkpoint file {path.name} cannot be read.",
            f"{type(error).__name__}: {error}.",
            "Give the checkpoint folder of a finished training, or train again.",
        ) from error


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    partial = partial_path(path)
    try:
        partial.write_text(json.dumps(dict(content), indent=2) + "\n", encoding="utf-8")
        _publish(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _not_writable(path, error) from error


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object; DataError if the file is missing or is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        reason = "it holds no JSON object"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise DataError(
        f"The checkpoint file {path.name} cannot be read.",
        f"{reason}.",
        "Give the checkpoint folder of a finished training, or train again.",
    )


def _publish(partial: Path, path: Path) -> None:
    # Without the fsync a power cut may leave the new name with old or no content.
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _not_writable(path: Path, error: Exception) -> NotWritableError:
    return NotWritableError(
        f"The checkpoint file {path.name} cannot be written.",
        f"{error}.",
        "Free some disk space or choose another output folder, then run the same command again: training resumes.",
    )
