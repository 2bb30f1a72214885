"""Wrong samples of a generator."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.errors import DataError
from synthkit.testing.toys import GENERATOR, generator
from synthkit.testing.toys.statistics import load
from synthkit.testing.toys.wrong.wrong import Wrong, method


def _unknown_labels(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    for image, labels in generator.generate(checkpoint, seeds, params):
        yield image, np.where(labels == 4, np.uint8(3), labels)


def _by_place(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    # The first random number comes from a stream that all samples of a call share.
    state, shared = load(checkpoint), np.random.default_rng(0)
    for seed in seeds:
        yield generator.draw(state, np.random.default_rng([seed, int(shared.integers(1 << 30))]))


def _by_batch(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    # As batch normalisation in training mode does: grey levels depend on who else is in the batch.
    batch: list[Any] = []
    for sample in generator.generate(checkpoint, seeds, params):
        batch.append(sample)
        if len(batch) == 4:
            yield from _normalised(batch)
            batch = []
    yield from _normalised(batch)


def _normalised(batch: list[Any]) -> Iterator[Any]:
    for image, labels in batch:
        peak = max(other.mean() for other, _ in batch)
        yield np.rint(image * (image.mean() / peak)).astype(np.uint8), labels


def _always_the_same(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    state = load(checkpoint)
    for _ in seeds:
        yield generator.draw(state, np.random.default_rng(0))


def _low_half_only(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    yield from generator.generate(checkpoint, (seed % 2**32 for seed in seeds), params)


def _all_seeds_first(checkpoint: Path, seeds: Iterable[int], params: Any) -> Iterator[Any]:
    yield from generator.generate(checkpoint, list(seeds), params)


def _unpickles(file: Path, checkpoint: Path, **_: Any) -> int:
    try:
        side: int = pickle.loads(file.read_bytes())["size"][0]
    except Exception as error:
        raise DataError("It is not a pickle of a network.") from error
    return side


def _lets_errors_through(file: Path, checkpoint: Path, **_: Any) -> int:
    side: int = json.loads(file.read_bytes())["size"][0]
    return side


WRONG: tuple[Wrong, ...] = (
    method("samples_have_the_right_form", "makes an unknown label", GENERATOR, generate=_unknown_labels),
    method("sample_belongs_to_its_seed", "depends on the place in the list", GENERATOR, generate=_by_place),
    method("sample_belongs_to_its_seed", "depends on the batch", GENERATOR, generate=_by_batch),
    method("seeds_make_different_samples", "ignores the seed", GENERATOR, generate=_always_the_same),
    method("seeds_make_different_samples", "ignores the high half of the seed", GENERATOR, generate=_low_half_only),
    method("samples_come_as_they_are_made", "reads all seeds first", GENERATOR, generate=_all_seeds_first),
    method("foreign_files_are_not_executed", "executes an import", GENERATOR, import_checkpoint=_unpickles),
    method("foreign_files_are_not_executed", "fails on an import", GENERATOR, import_checkpoint=_lets_errors_through),
)
