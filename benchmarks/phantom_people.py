"""Slices of phantom people, made once and kept in a file: what benchmarks of the audit draw from. Not a script.

A person has SLICES slices of 64 x 64 pixels in four contrasts, with labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthkit.data.phantom import VERSION, make_subject
from synthkit.schemes import BRATS
from synthkit.testing import InMemorySamples

CONTRASTS = BRATS.contrast_names
SIDE, SPACING_MM, SHAPE = 64, 3.75, (64, 64, 40)
LEVELS = range(8, 32, 2)
SLICES = len(LEVELS)

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Slices:
    """Some slices: images uint8 ``(n, contrast, y, x)``, labels uint8 ``(n, y, x)``, and whose they are, ``(n,)``."""

    images: UInt8
    labels: UInt8
    person: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def dataset(self, prefix: str = "") -> InMemorySamples:
        """As the metrics read it: real images of named people, or without ``prefix`` synthetic ones of nobody."""
        names = [f"{prefix}{number}" if prefix else None for number in self.person]
        return InMemorySamples(self.images, self.labels, subjects=names)


def joined(parts: Sequence[Slices]) -> Slices:
    """All slices of several, in order."""
    return Slices(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels", "person")))


@dataclass(frozen=True)
class People:
    """images uint8 ``(person, slice, contrast, y, x)`` and labels uint8 ``(person, slice, y, x)``."""

    images: UInt8
    labels: UInt8

    def __len__(self) -> int:
        return len(self.images)

    def slices(self, people: NDArray[np.int64] | Sequence[int]) -> Slices:
        """All slices of some people, one person after the other."""
        rows = np.asarray(people, np.int64)
        images, labels = self.images[rows], self.labels[rows]
        flat = images.reshape(-1, *images.shape[2:]), labels.reshape(-1, *labels.shape[2:])
        return Slices(*flat, np.repeat(rows, SLICES))


def make_people(n: int, seed: int, cache: Path | None, workers: int) -> People:
    """The first n phantom people of a seed; from the file ``cache``, which is made or enlarged where it has fewer."""
    images, labels = _cached(cache, seed)
    if len(images) < n:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            made = list(pool.map(partial(_person, seed), range(len(images), n), chunksize=4))
        images = np.concatenate([images, np.stack([each[0] for each in made])])
        labels = np.concatenate([labels, np.stack([each[1] for each in made])])
        if cache is not None:
            unfinished = cache.with_name(f".{cache.name}.part")
            with unfinished.open("wb") as file:
                np.savez(file, who=_who(seed), images=images, labels=labels)
            unfinished.replace(cache)
    return People(images[:n], labels[:n])


def _who(seed: int) -> str:
    """Whose slices a file holds: those of another seed or phantom are not taken for these."""
    return f"phantom {VERSION}, seed {seed}, slices {list(LEVELS)} of {SHAPE} voxels of {SPACING_MM} mm"


def _cached(cache: Path | None, seed: int) -> tuple[UInt8, UInt8]:
    if cache is not None and cache.exists():
        with np.load(cache) as file:
            if str(file["who"]) != _who(seed):
                raise SystemExit(f"{cache} holds {file['who']}, not {_who(seed)}: give another file.")
            return file["images"], file["labels"]
    shape = (0, SLICES, len(CONTRASTS), SIDE, SIDE)
    return np.empty(shape, np.uint8), np.empty((0, SLICES, SIDE, SIDE), np.uint8)


def _person(seed: int, index: int) -> tuple[UInt8, UInt8]:
    """The slices of one person; 255 is the 99.5th percentile of the brain in each contrast."""
    subject = make_subject(index, seed, shape=SHAPE, spacing_mm=SPACING_MM)
    contrasts = []
    for name in CONTRASTS:
        volume = subject[name].astype(np.float64)
        contrasts.append(np.clip(np.rint(volume * (255 / np.quantile(volume[volume > 0], 0.995))), 0, 255))
    images = np.stack(contrasts).astype(np.uint8)[..., list(LEVELS)].transpose(3, 0, 2, 1)
    return images.copy(), subject["seg"][..., list(LEVELS)].transpose(2, 1, 0).astype(np.uint8)
