"""Exact best-match search against the dense peers and the published loop, side by side in one run.

    python benchmarks/memorization_search.py [--subjects FOLDER] [--train 4096] [--queries 1024] [--trials 2] [--noise]

Images: 256x256 axial slices (one contrast, uint8) of the BraTS-style subjects in FOLDER (default: the environment
variable SYNTHKIT_TEST_DATA, else ../shared/data beside the repository, sub-folder brats-mini), each made into many by a
smooth random deformation, a change of contrast and noise; without subjects, smooth simulated ones. 2 % of the queries
are noisy copies of training images. ``--noise`` takes white noise instead: the worst case, where nothing can be pruned.

Peers get their images prepared (float32, centred, normalised) for nothing; the exact search is timed from uint8 to
answer, index included, and again without its index. A dense peer is timed in blocks of several sizes and the best
counts. The published loop (one corrcoef a pair) is extrapolated from 300 pairs. Every answer is compared with the
float64 one on a sample.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from synthkit_memorization.pixels import make_block, shards
from synthkit_memorization.search import QUERY_BLOCK, ShardSearch, best_matches, no_matches

SIZE = 256
CONTRAST = "t1ce"


class InMemory:
    """A dataset of one contrast held in an array."""

    contrasts = (CONTRAST,)
    size = (SIZE, SIZE)

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = self.images[np.asarray(indices, dtype=np.int64)]
        return images, np.zeros((len(images), *self.size), np.uint8)


def real_slices(folder: Path) -> NDArray[np.uint8]:
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


def simulated_slices(n: int) -> NDArray[np.uint8]:
    """Heads of low-frequency texture, ``(n, 256, 256)``."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    head = (x / 0.29) ** 2 + (y / 0.36) ** 2 < 1
    fields = np.stack(
        [sum(ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), s) * s for s in (3, 8, 20)) for _ in range(n)]
    )
    return (head * np.clip(110 + 60 * fields, 20, 255)).astype(np.uint8)


def deformed(bases: NDArray[np.uint8], n: int, seed: int) -> NDArray[np.uint8]:
    """``n`` variants: displacement of up to about 6 pixels, contrast (gamma 0.8 to 1.25), texture and noise."""
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


def prepared(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Centred and normalised float32 ``(n, pixel)``, so that r is an inner product; statistics in float64."""
    result = np.empty((len(images), SIZE * SIZE), np.float32)
    for i, image in enumerate(images):
        flat = image.ravel().astype(np.float64)
        flat -= flat.mean()
        result[i] = flat / np.linalg.norm(flat)
    return result


def dense(queries: NDArray[np.float32], train: NDArray[np.float32], block: int) -> NDArray[np.int64]:
    return np.concatenate([(queries[i : i + block] @ train.T).argmax(axis=1) for i in range(0, len(queries), block)])


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
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()

    n, m = options.queries, options.train
    rng = np.random.default_rng(1)
    if options.noise:
        source = "white noise"
        train, queries = (rng.integers(0, 256, (k, SIZE, SIZE), dtype=np.uint8) for k in (m, n))
    else:
        real = options.subjects.is_dir()
        bases = real_slices(options.subjects) if real else simulated_slices(60)
        source = f"{len(bases)} {'real' if real else 'simulated'} slices, deformed"
        train, queries = deformed(bases, m, 2), deformed(bases, n, 3)
    copies = rng.choice(n, max(1, n // 50), replace=False)
    copied = train[rng.integers(m, size=len(copies))].astype(np.float32)
    queries[copies] = np.clip(copied + (copied > 0) * rng.normal(0, 3, copied.shape), 0, 255)
    print(f"{n:,} queries, {m:,} training images of {SIZE}x{SIZE}, {CONTRAST}; {source}")

    x, y = prepared(queries), prepared(train)
    search = lambda: best_matches(InMemory(queries[:, None]), InMemory(train[:, None]))[CONTRAST]  # noqa: E731
    blocks = [b for b in (128, 512, 1024, 2048) if b <= n]
    best_block = min(blocks, key=lambda b: timed(lambda: dense(x, y, b))[0])

    shard = next(shards(InMemory(train[:, None]), 10**12))
    queried = make_block(queries[:, None], shard.box, 0)
    seconds: dict[str, list[float]] = {"exact": [], "exact, index ready": [], "dense": []}
    rule = {CONTRAST: (0,)}
    indexed = ShardSearch(shard, SIZE * SIZE, rule, 1, None)
    indexed.build_cascades(InMemory(queries[:, None]), no_matches(rule, n, 1))

    def ready() -> None:
        state = no_matches(rule, n, 1)
        for first in range(0, n, QUERY_BLOCK):
            rows = np.arange(first, min(first + QUERY_BLOCK, n))
            indexed.search(queried.take(rows), rows, state)

    found = search()
    for _ in range(options.trials):
        seconds["exact"].append(timed(search)[0])
        seconds["exact, index ready"].append(timed(ready)[0])
        taken, answer = timed(lambda: dense(x, y, best_block))
        seconds["dense"].append(taken)
    pairs = rng.integers(m, size=300)
    loop = (
        timed(lambda: [np.corrcoef(queries[0].ravel(), train[j].ravel())[0, 1] for j in pairs])[0] / len(pairs) * n * m
    )

    sample = rng.choice(n, min(n, 32), replace=False)
    flat = [images.reshape(len(images), -1).astype(np.float64) for images in (queries[sample], train)]
    for part in flat:
        part -= part.mean(axis=1, keepdims=True)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    brute = flat[0] @ flat[1].T
    assert (brute.argmax(axis=1) == found.index[sample, 0]).all(), "the exact search is not exact"
    error = np.abs(brute.max(axis=1) - found.r[sample, 0]).max()

    way = "cascade" if indexed.cascades else "fallback, dense"
    print(f"exact search took the way: {way}; largest |dr| to float64 on {len(sample)} queries: {error:.1e}")
    print(f"the dense float32 peer names another image in {(answer != found.index[:, 0]).mean():.2%} of the queries")
    print(f"{'method':44}{'seconds':>10}{'ms a query':>12}{'exact is':>10}")
    base = float(np.median(seconds["exact"]))
    warm = float(np.median(seconds["exact, index ready"]))
    peer = float(np.median(seconds["dense"]))
    for name, taken, ratio in (
        ("exact, from uint8 to answer with its index", base, 1.0),
        ("exact, index ready", warm, warm / base),
        (f"numpy float32 GEMM + max, blocks of {best_block}", peer, peer / base),
        ("one corrcoef a pair (extrapolated)", loop, loop / base),
    ):
        print(f"{name:44}{taken:10.2f}{1000 * taken / n:12.3f}{ratio:9.1f}x")
    print(f"with the index ready, the exact search is {peer / warm:.1f}x the dense peer")


if __name__ == "__main__":
    main()
