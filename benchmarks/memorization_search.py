"""The exact memorization search beside dense float32 peers (numpy, faiss, torch) and one ``corrcoef`` a pair.

    python benchmarks/memorization_search.py [--subjects FOLDER] [--train 4096] [--queries 1024] [--trials 3] [--noise]

Training and synthetic images are slices of the subjects (default: five real ones beside the checkout; ``synthkit
phantom -o FOLDER`` makes others), each deformed, with its own contrast, texture and noise; 2 % of the queries are noisy
copies of training images. ``--noise`` takes white noise instead, where no bound prunes anything. Every trial times each
method once, in turn; figures are medians, and ratios of medians. Every peer runs at its best block size (tried on a
part). Two times of each: *ready*, when all that does not depend on the queries is done, for the peers also the queries
(images centred, normalised, as float32), and *from uint8* to answer. Exactness is checked on a sample against a brute
force in float64.

Peers that are not installed are named and skipped (``pip install faiss-cpu``). Memory: the peers' float32 copy of the
training images, 262 KB each (6.7 GB for 25,609), twice with faiss.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_memorization.search.exact import QUERY_BLOCK, ShardSearch, best_matches, make_block
from synthkit_memorization.search.matches import nothing
from synthkit_memorization.search.pixels import shards
from synthkit_memorization.search.rules import View

SIZE = 256
CONTRAST = "t1ce"
KEY = (CONTRAST, "pearson")
#: Only matches above this r, where only those are asked for.
ABOVE = 0.97
BLOCKS = (256, 512, 1024)
CHUNK = 256

Floats = NDArray[np.float32]


class InMemory:
    """A dataset of one contrast held in an array."""

    contrasts = (CONTRAST,)
    size = (SIZE, SIZE)

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images[:, None]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = self.images[np.asarray(indices, dtype=np.int64)]
        return images, np.zeros((len(images), *self.size), np.uint8)


# ---------------------------------------------------------------------------------------------------- the images


def slices_of(folder: Path) -> NDArray[np.uint8]:
    """Slices of all subjects, scaled to the volume's maximum; kept if 15 % of the pixels have T1 > 50."""
    import nibabel

    kept = []
    for subject in sorted(path for path in folder.iterdir() if path.is_dir()):
        volumes = []
        for contrast in ("t1", CONTRAST):
            image = nibabel.load(subject / f"{subject.name}_{contrast}.nii.gz")
            volume = np.asarray(image.dataobj, np.float32)
            volumes.append(np.clip(volume / volume.max() * 255, 0, 255).astype(np.uint8))
        t1, wanted = (np.pad(v, ((8, 8), (8, 8), (0, 0))).transpose(2, 1, 0) for v in volumes)
        kept.append(wanted[(t1 > 50).mean(axis=(1, 2)) > 0.15])
    return np.concatenate(kept)


def deformed(bases: NDArray[np.uint8], n: int, seed: int) -> NDArray[np.uint8]:
    """``n`` variants, ``(n, 256, 256)``: displacement of up to about 6 pixels, gamma 0.8 to 1.25, texture, noise."""
    parts = [(bases, min(CHUNK, n - first), (seed, first)) for first in range(0, n, CHUNK)]
    with ProcessPoolExecutor() as pool:
        return np.concatenate(list(pool.map(_deformed, *zip(*parts, strict=True))))


def _deformed(bases: NDArray[np.uint8], n: int, seed: tuple[int, int]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    grid = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    result = np.empty((n, SIZE, SIZE), np.uint8)
    for i in range(n):
        base = bases[rng.integers(len(bases))].astype(np.float32)
        coarse = rng.normal(0, 2.5, (3, 9, 9)).astype(np.float32)
        field = np.stack([ndimage.zoom(part, SIZE / 9, order=1, grid_mode=True, mode="nearest") for part in coarse])
        image = ndimage.map_coordinates(base, grid + field[:2], order=1)
        inside = image > 0
        image = 255 * (image / 255) ** rng.uniform(0.8, 1.25) + field[2] + rng.normal(0, 2, image.shape)
        result[i] = np.clip(inside * image, 0, 255)
    return result


def prepared(images: NDArray[np.uint8]) -> Floats:
    """Centred and normalised float32 ``(n, pixel)``, so that r is an inner product; statistics in float64."""
    result = np.empty((len(images), SIZE * SIZE), np.float32)

    def prepare(i: int) -> None:
        flat = images[i].ravel().astype(np.float32)
        mean = flat.sum(dtype=np.float64) / flat.size
        norm = np.sqrt(np.einsum("p,p->", flat, flat, dtype=np.float64) - flat.size * mean**2)
        np.multiply(flat - np.float32(mean), np.float32(1 / norm), out=result[i])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(prepare, range(len(images))))
    return result


# ----------------------------------------------------------------------------------------------------- the peers


def numpy_peer(x: Floats, y: Floats) -> Callable[[int], NDArray[Any]]:
    def run(block: int) -> NDArray[Any]:
        return np.concatenate([(x[i : i + block] @ y.T).argmax(axis=1) for i in range(0, len(x), block)])

    return run


def faiss_peer(x: Floats, y: Floats) -> Callable[[int], NDArray[Any]]:
    import faiss

    index = faiss.IndexFlatIP(y.shape[1])
    index.add(y)

    def run(block: int) -> NDArray[Any]:
        return np.concatenate([index.search(x[i : i + block], 1)[1][:, 0] for i in range(0, len(x), block)])

    return run


def torch_peer(x: Floats, y: Floats) -> Callable[[int], NDArray[Any]]:
    import torch

    first, second = torch.from_numpy(x), torch.from_numpy(y)

    def run(block: int) -> NDArray[Any]:
        found = [torch.topk(first[i : i + block] @ second.T, 1)[1][:, 0] for i in range(0, len(x), block)]
        return torch.cat(found).numpy()

    return run


PEERS = {"numpy GEMM + max": numpy_peer, "faiss flat": faiss_peer, "torch GEMM + top-k": torch_peer}


class Ready:
    """The exact search with its index built before."""

    def __init__(self, queries: NDArray[np.uint8], train: NDArray[np.uint8]) -> None:
        self.queries = queries
        start = time.perf_counter()
        self.shard = next(shards(InMemory(train), 10**12, None))
        views = {KEY: View("pearson", (0,), SIZE * SIZE)}
        self.search = ShardSearch(self.shard, views, 1, None)
        state = {KEY: nothing(len(queries), 1)}
        self.search.build_cascades(InMemory(queries), ("pearson",), state, 8, 2)
        self.seconds = time.perf_counter() - start

    def __call__(self, above: float | None = None) -> Any:
        state = {KEY: nothing(len(self.queries), 1, above)}
        for first in range(0, len(self.queries), QUERY_BLOCK):
            rows = np.arange(first, min(first + QUERY_BLOCK, len(self.queries)))
            block = make_block(self.queries[rows][:, None], self.shard.box, first, None)
            self.search.update(state, block, rows, ("pearson",))
        return state[KEY].finished()


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = function()
    return time.perf_counter() - start, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("SYNTHKIT_TEST_DATA", shared)) / "brats-mini"
    parser.add_argument("--subjects", type=Path, default=data)
    parser.add_argument("--train", type=int, default=4096)
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()
    n, m = options.queries, options.train
    rng = np.random.default_rng(1)
    if options.noise:
        source = "white noise"
        train, queries = (rng.integers(0, 256, (k, SIZE, SIZE), dtype=np.uint8) for k in (m, n))
    else:
        bases = slices_of(options.subjects)
        source = f"{len(bases):,} slices of {options.subjects.name}, deformed"
        train, queries = deformed(bases, m, 2), deformed(bases, n, 3)
    copies = rng.choice(n, max(1, n // 50), replace=False)
    copied = train[rng.integers(m, size=len(copies))].astype(np.float32)
    queries[copies] = np.clip(copied + (copied > 0) * rng.normal(0, 3, copied.shape), 0, 255)
    print(f"{n:,} queries, {m:,} training images of {SIZE}x{SIZE}, {CONTRAST}; {source}", flush=True)

    best_matches(InMemory(queries[:600]), InMemory(train[:600]), method="cascade")  # compiles, once a process
    whole = lambda: best_matches(InMemory(queries), InMemory(train))[KEY]  # noqa: E731
    ready = Ready(queries, train)
    found = ready()
    preparation, (x, y) = timed(lambda: (prepared(queries), prepared(train)))
    peers: dict[str, Callable[[], NDArray[Any]]] = {}
    for name, make in PEERS.items():
        try:
            run = make(x, y)
        except ImportError as error:
            print(f"{name} skipped: {error}")
            continue
        few = make(x[: max(BLOCKS)], y[: min(m, 4096)])
        block = _best_block(few, n)
        peers[f"{name}, blocks of {block}"] = lambda run=run, block=block: run(block)
    exact, few = "exact", f"exact, only r > {ABOVE}"
    from_pixels = f"{exact}, from uint8"
    methods: dict[str, Callable[[], Any]] = {exact: ready, few: lambda: ready(ABOVE), from_pixels: whole, **peers}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    answers: dict[str, Any] = {}
    for _ in range(options.trials):
        for name, method in methods.items():
            taken, answers[name] = timed(method)
            seconds[name].append(taken)
    pairs = rng.integers(m, size=300)
    loop, _ = timed(lambda: [np.corrcoef(queries[0].ravel(), train[j].ravel())[0, 1] for j in pairs])

    sample = rng.choice(n, min(n, 32), replace=False)
    brute = np.stack([_exact_r(queries[i], train) for i in sample])
    assert (brute.argmax(axis=1) == found.index[sample, 0]).all(), "the exact search is not exact"
    error = np.abs(brute.max(axis=1) - found.r[sample, 0]).max()
    above = answers[few].index[:, 0]
    assert (above == np.where(found.r[:, 0] > ABOVE, found.index[:, 0], -1)).all(), "above is not exact"

    way = "cascade" if ready.search.cascades else "fallback, all pairs"
    print(f"way: {way}; index {ready.seconds:.1f} s; largest |dr| to float64 on {len(sample)} queries: {error:.1e}")
    if peers:
        wrong = (answers[next(iter(peers))] != found.index[:, 0]).mean()
        print(f"the plain float32 recipe names another image in {wrong:.2%} of the queries")
    time_of = {name: median(taken) for name, taken in seconds.items()}
    rows = {
        exact: (time_of[exact], time_of[from_pixels]),
        few: (time_of[few], None),
        **{name: (time_of[name], time_of[name] + preparation) for name in peers},
        "one corrcoef a pair (extrapolated)": (loop / len(pairs) * n * m,) * 2,
    }
    print(f"{'':40}{'ms a query, ready':>19}{'ratio':>9}{'to above':>9}{'seconds, from uint8':>21}{'ratio':>9}")
    for name, (warm, cold) in rows.items():
        print(
            f"{name:40}{1000 * warm / n:19.3f}{warm / time_of[exact]:8.1f}x{warm / time_of[few]:8.1f}x"
            + (f"{cold:21.2f}{cold / time_of[from_pixels]:8.1f}x" if cold else ""),
            flush=True,
        )


def _best_block(run: Callable[[int], Any], n: int) -> int:
    """The block size at which a peer is fastest, the better of two tries each."""
    tries = [(min(timed(lambda size=size: run(size))[0] for _ in range(2)), size) for size in BLOCKS if size <= n]
    return min(tries)[1]


def _exact_r(query: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.float64]:
    """r in float64 with all training images, a block at a time."""
    u = query.ravel().astype(np.float64)
    u = (u - u.mean()) / np.linalg.norm(u - u.mean())
    result = []
    for first in range(0, len(train), CHUNK):
        v = train[first : first + CHUNK].reshape(-1, u.size).astype(np.float64)
        v -= v.mean(axis=1, keepdims=True)
        result.append(v @ u / np.linalg.norm(v, axis=1))
    return np.concatenate(result)


if __name__ == "__main__":
    main()
