"""A Zarr 3 array of samples, sharded, read and written directly.

On disk this is plain Zarr 3 (``sharding_indexed``, inner chunks of one sample, zstd), so any Zarr library opens
it. The Python library's own reader needs 10 ms and more for each sample of a random batch, fifty times a plain
read of the frame (``benchmarks/dataset_store.py``), and training reads random batches; hence this module.

Layout of a shard (Zarr 3 core specification and sharding codec, ZEP 2): the zstd frames one after another, then an
index of (offset, length) pairs as little-endian uint64, all ones where a chunk is absent, then its CRC-32C.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import google_crc32c
import numpy as np
import zstandard

from synthkit.errors import DataError
from synthkit.files import LINKED, open_inside, write_atomically

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array

SAMPLES_PER_SHARD = 256
_ABSENT = np.uint64(2**64 - 1)
_ZSTD_LEVEL = 1
_OPEN_SHARDS = 64
_N_THREADS = min(8, os.cpu_count() or 1)
_RUNS_A_THREAD = 4

_T = TypeVar("_T")
_R = TypeVar("_R")
_local = threading.local()
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def map_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """``[function(item) for item in items]`` on all cores; zstd, sha256 and numpy release the GIL.

    Items are handed out by the run: waking a thread for each costs more than a small one takes. Nothing is at work any
    more when it returns or raises, so a caller may clean up after an error.
    """
    global _pool
    if len(items) < 4:
        return [function(item) for item in items]
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max_workers=_N_THREADS, thread_name_prefix="synthkit-zstd")
    length = -(-len(items) // (_RUNS_A_THREAD * _N_THREADS))
    runs = [items[start : start + length] for start in range(0, len(items), length)]
    futures = [_pool.submit(lambda run: [function(item) for item in run], run) for run in runs]
    try:
        return [result for future in futures for result in future.result()]
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _drop_pool_after_fork() -> None:
    # A forked child inherits the pool object without its threads and would wait for them for ever.
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_drop_pool_after_fork)


def _compress(array: UInt8Array) -> bytes:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    frame: bytes = _local.compressor.compress(np.ascontiguousarray(array).data.cast("B"))
    return frame


def _decompress(frame: bytes, n_bytes: int) -> bytes:
    if zstandard.frame_content_size(frame) != n_bytes:  # before anything is allocated
        raise ValueError("it has another size")
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    data: bytes = _local.decompressor.decompress(frame)
    return data


class ShardedArray:
    """Reads samples of one array. Safe to use from several threads."""

    def __init__(self, path: Path, n_samples: int, shape: tuple[int, ...]) -> None:
        self.path = path
        self.n_samples = n_samples
        self.shape = shape
        self._n_bytes = math.prod(shape)
        self._lock = threading.Lock()
        self._shards: OrderedDict[int, tuple[int, np.ndarray[Any, np.dtype[np.uint64]]]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        # What is open stays in its process.
        return ShardedArray, (self.path, self.n_samples, self.shape)

    def read(self, indices: Sequence[int]) -> UInt8Array:
        """Samples ``(n, *shape)`` in the order asked for; raises :class:`DataError` for a damaged shard."""
        result = np.empty((len(indices), *self.shape), dtype=np.uint8)

        def read_one(position: int) -> None:
            result[position] = self._sample(int(indices[position]))

        map_threads(read_one, range(len(indices)))
        return result

    def frame(self, index: int) -> bytes:
        """The compressed frame of one sample."""
        if not 0 <= index < self.n_samples:
            raise IndexError(f"sample {index} of {self.n_samples}")
        shard, row = divmod(index, SAMPLES_PER_SHARD)
        with self._lock:
            descriptor, table = self._open(shard)
            offset, length = table[row]
            if offset == _ABSENT:
                raise self._damaged(shard, "a sample is missing from its index")
            if int(offset) + int(length) > os.fstat(descriptor).st_size:
                raise self._damaged(shard, "the file is shorter than its index says")
            frame = os.pread(descriptor, int(length), int(offset))
        if len(frame) != int(length):
            raise self._damaged(shard, "the file is shorter than its index says")
        return frame

    def close(self) -> None:
        with self._lock:
            for descriptor, _ in self._shards.values():
                os.close(descriptor)
            self._shards.clear()

    def __del__(self) -> None:
        if hasattr(self, "_shards"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "n_samples": self.n_samples, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _sample(self, index: int) -> UInt8Array:
        try:
            return np.frombuffer(_decompress(self.frame(index), self._n_bytes), dtype=np.uint8).reshape(self.shape)
        except (zstandard.ZstdError, ValueError) as error:
            raise self._damaged(index // SAMPLES_PER_SHARD, f"sample {index} does not decompress ({error})") from error

    def _open(self, shard: int) -> tuple[int, np.ndarray[Any, np.dtype[np.uint64]]]:
        if shard in self._shards:
            self._shards.move_to_end(shard)
            return self._shards[shard]
        try:
            names = shard_path(self.path, shard, len(self.shape)).relative_to(self.path.parent).parts
            descriptor = open_inside(self.path.parent, *names)
        except OSError as error:
            why = error.strerror or "the file cannot be opened"
            raise self._damaged(shard, why, LINKED if error.errno in (errno.ELOOP, errno.ENOTDIR) else "") from error
        index_bytes = SAMPLES_PER_SHARD * 16
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, index_bytes + 4, max(0, size - index_bytes - 4))
        if len(tail) != index_bytes + 4 or google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
            os.close(descriptor)
            raise self._damaged(shard, "the checksum of its index is wrong")
        table = np.frombuffer(tail[:-4], dtype="<u8").reshape(SAMPLES_PER_SHARD, 2)
        self._shards[shard] = (descriptor, table)
        while len(self._shards) > _OPEN_SHARDS:
            os.close(self._shards.popitem(last=False)[1][0])
        return self._shards[shard]

    def _damaged(self, shard: int, why: str, fix: str = "") -> DataError:
        return DataError(
            f"Shard {shard} of {self.path} is damaged.",
            f"{why[:1].upper()}{why[1:]}.",
            fix or "Restore the dataset from its source, or make it again.",
        )


class ShardWriter:
    """Appends samples to one array; a shard is replaced as a whole, so a reader never sees half of one."""

    def __init__(self, path: Path, shape: tuple[int, ...], n_samples: int = 0) -> None:
        self.path = path
        self.shape = shape
        self.n_samples = n_samples
        self._shard = n_samples // SAMPLES_PER_SHARD
        first = self._shard * SAMPLES_PER_SHARD
        # Frames of an unfinished shard are taken up again, so that appending continues it.
        old = ShardedArray(path, n_samples, shape)
        self._frames = [old.frame(index) for index in range(first, n_samples)]
        old.close()

    def append(self, samples: UInt8Array) -> None:
        for frame in map_threads(_compress, list(samples)):
            self._frames.append(frame)
            self.n_samples += 1
            if len(self._frames) == SAMPLES_PER_SHARD:
                self._write_shard()
                self._frames = []
                self._shard += 1

    def flush(self, dimension_names: tuple[str, ...]) -> None:
        """Make everything appended so far durable."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self._frames:
            self._write_shard()
        write_atomically(self.path / "zarr.json", _array_metadata(self.n_samples, self.shape, dimension_names))

    def _write_shard(self) -> None:
        table = np.full((SAMPLES_PER_SHARD, 2), _ABSENT, dtype="<u8")
        lengths = np.array([len(frame) for frame in self._frames], dtype=np.uint64)
        table[: len(lengths), 1] = lengths
        table[: len(lengths), 0] = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.uint64)
        index = table.tobytes()
        path = shard_path(self.path, self._shard, len(self.shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join([*self._frames, index, google_crc32c.value(index).to_bytes(4, "little")]))


def shard_path(array: Path, shard: int, n_other_dimensions: int) -> Path:
    return array.joinpath("c", str(shard), *["0"] * n_other_dimensions)


def _array_metadata(n_samples: int, shape: tuple[int, ...], dimension_names: tuple[str, ...]) -> bytes:
    """``zarr.json`` of the array, after the Zarr 3 core specification."""
    inner = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": True}}]
    sharding = {
        "chunk_shape": [1, *shape],
        "codecs": inner,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n_samples, *shape],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SAMPLES_PER_SHARD, *shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": list(dimension_names),
        "attributes": {},
    }
    return json.dumps(metadata, indent=1).encode()
