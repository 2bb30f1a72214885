"""The dataset's store: writing and reading samples, beside zarr-python, PNG files and a raw memmap.

    python benchmarks/dataset_store.py [SUBJECTS] [--samples 512] [--trials 5]

Samples are 256 x 256 slices of four contrasts and labels, uint8, of the BraTS-style subjects in SUBJECTS (default: the
environment variable SYNTHKIT_TEST_DATA, else ../shared/data beside the repository, folder brats-mini), repeated up to
the number asked for; without subjects, of two phantom subjects (needs nilearn).

    synthkit   synthkit.data.dataset: DatasetWriter (with digests, as every command writes) and Dataset
    zarr       zarr-python, one array of five channels (synthkit keeps two arrays), same sharding and codec
    png        five 8-bit PNG a sample (Pillow, level 1), as in the study
    memmap     one uncompressed array of five channels

Reads: all samples in order by 32; 32 drawn at random; one drawn at random. Trials are interleaved: each times every
store once. Figures are medians in ms a sample; ratios (peer / synthkit) are medians of the ratios within a trial.
A batch is read back and compared before the reads are timed. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from PIL import Image
from zarr.codecs import ZstdCodec

from synthkit.data.dataset import Dataset
from synthkit.data.shards import SAMPLES_PER_SHARD
from synthkit.data.slices import SliceProtocol, slice_volume
from synthkit.data.subjects import find_subjects, load_subject
from synthkit.data.writer import DatasetWriter
from synthkit.schemes import BRATS

BATCH = 32
N_RANDOM, N_SINGLE = 6, 40


class Store(Protocol):
    """A way to keep samples ``(n, 5, y, x)``, labels last, in a folder. Reading gives them so, or images and labels."""

    def write(self, samples: np.ndarray) -> None: ...
    def read(self, indices: Sequence[int]) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...


class Synthkit:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "dataset"
        self._dataset: Dataset | None = None

    def write(self, samples: np.ndarray) -> None:
        n, _, height, width = samples.shape
        with DatasetWriter(self.folder, contrasts=BRATS.contrast_names, scheme=BRATS, size=(height, width)) as writer:
            for start in range(0, n, BATCH):
                part = samples[start : start + BATCH]
                rows = [{"id": f"{i:06d}", "split": "train"} for i in range(start, start + len(part))]
                writer.append(part[:, :4], part[:, 4], rows)

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        self._dataset = self._dataset or Dataset(self.folder)
        return self._dataset.read(indices)


class ZarrPython:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "array.zarr"
        self._array: Any = None

    def write(self, samples: np.ndarray) -> None:
        shape = samples.shape[1:]
        array = zarr.create_array(
            self.folder,
            shape=samples.shape,
            dtype="uint8",
            chunks=(1, *shape),
            shards=(SAMPLES_PER_SHARD, *shape),
            compressors=ZstdCodec(level=1),
        )
        # A shard at a time: by smaller pieces zarr-python reads and writes each shard again for every piece.
        for start in range(0, len(samples), SAMPLES_PER_SHARD):
            array[start : start + SAMPLES_PER_SHARD] = samples[start : start + SAMPLES_PER_SHARD]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        self._array = self._array if self._array is not None else zarr.open_array(self.folder, mode="r")
        if len(indices) == 1:
            return self._array[indices[0]][None]
        first, last = indices[0], indices[-1]
        if list(indices) == list(range(first, last + 1)):
            return self._array[first : last + 1]
        return self._array.oindex[np.asarray(indices)]


class Png:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "png"

    def write(self, samples: np.ndarray) -> None:
        for channel in range(samples.shape[1]):
            (self.folder / str(channel)).mkdir(parents=True, exist_ok=True)
        for i, sample in enumerate(samples):
            for channel, plane in enumerate(sample):
                Image.fromarray(plane).save(self.folder / str(channel) / f"{i:06d}.png", compress_level=1)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack(
            [[np.asarray(Image.open(self.folder / str(c) / f"{i:06d}.png")) for c in range(5)] for i in indices]
        )


class Memmap:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "samples.npy"
        self._array: Any = None

    def write(self, samples: np.ndarray) -> None:
        array = np.lib.format.open_memmap(self.file, mode="w+", dtype=np.uint8, shape=samples.shape)
        for start in range(0, len(samples), BATCH):
            array[start : start + BATCH] = samples[start : start + BATCH]
        array.flush()

    def read(self, indices: Sequence[int]) -> np.ndarray:
        self._array = self._array if self._array is not None else np.load(self.file, mmap_mode="r")
        return np.array(self._array[np.asarray(indices)])


STORES: dict[str, Callable[[Path], Store]] = {"synthkit": Synthkit, "zarr": ZarrPython, "png": Png, "memmap": Memmap}


def slices(folder: Path | None, n: int) -> np.ndarray:
    """uint8 (n, 5, 256, 256) of real or phantom subjects."""
    if folder is not None:
        print(f"slices of the subjects in {folder.name}")
        return _of_subjects(folder, n)
    from synthkit.data.phantom import write_phantom

    print("slices of two phantom subjects")
    with tempfile.TemporaryDirectory() as temporary:
        write_phantom(Path(temporary) / "subjects", 2, 0)
        return _of_subjects(Path(temporary) / "subjects", n)


def _of_subjects(folder: Path, n: int) -> np.ndarray:
    found = []
    for subject in find_subjects(folder):
        cut = slice_volume(load_subject(subject), SliceProtocol())
        assert cut.labels is not None
        found.append(np.concatenate([cut.images, cut.labels[:, None]], axis=1))
    every = np.concatenate(found)
    return np.ascontiguousarray(every[np.arange(n) % len(every)])


def kibibytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024


def trial(make: Callable[[Path], Store], samples: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """ms a sample of each operation, and KiB a sample, of a fresh store."""
    n = len(samples)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = make(folder)
        result = {"write": _ms(lambda: store.write(samples), n)}
        size = kibibytes(folder) / n
        probe = sorted(rng.choice(n, BATCH, replace=False))
        read = store.read(probe)
        if isinstance(read, tuple):
            read = np.concatenate([read[0], read[1][:, None]], axis=1)
        assert np.array_equal(read, samples[probe])

        def in_order() -> None:
            for start in range(0, n - BATCH + 1, BATCH):
                store.read(range(start, start + BATCH))

        random = [sorted(rng.choice(n, BATCH, replace=False)) for _ in range(N_RANDOM)]
        single = rng.choice(n, N_SINGLE)
        result["in order"] = _ms(in_order, n - n % BATCH)
        result["random 32"] = _ms(lambda: [store.read(batch) for batch in random], N_RANDOM * BATCH)
        result["single"] = _ms(lambda: [store.read([int(i)]) for i in single], N_SINGLE)
        return {**result, "KiB": size}


def _ms(function: Callable[[], Any], n: int) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", type=Path, nargs="?")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--trials", type=int, default=5)
    arguments = parser.parse_args()
    data = Path(os.environ.get("SYNTHKIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    folder = arguments.subjects or next((p for p in (data / "brats-mini", data) if p.is_dir()), None)
    samples = slices(folder, arguments.samples)
    rng = np.random.default_rng(0)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in STORES}
    for _ in range(arguments.trials):
        for name, make in STORES.items():
            measured[name].append(trial(make, samples, rng))
    operations = list(measured["synthkit"][0])
    print(f"{len(samples)} samples of 5 x 256 x 256, {arguments.trials} trials, ms a sample")
    print(f"{'':9s}" + "".join(f"{operation:>12s}" for operation in operations))
    for name, trials in measured.items():
        print(f"{name:9s}" + "".join(f"{statistics.median(t[o] for t in trials):12.2f}" for o in operations))
    for name in [name for name in STORES if name != "synthkit"]:
        ratios = [
            statistics.median(a[o] / b[o] for a, b in zip(measured[name], measured["synthkit"], strict=True))
            for o in operations
        ]
        print(f"{name:9s}" + "".join(f"{ratio:11.2f}x" for ratio in ratios) + "  peer / synthkit")


if __name__ == "__main__":
    main()
