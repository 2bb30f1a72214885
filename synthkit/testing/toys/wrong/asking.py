"""Generators that do not do what they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.contract import Asked
from synthkit.testing.toys import CONDITIONAL_GENERATOR, conditional, generator
from synthkit.testing.toys.wrong.wrong import Wrong, method


def _clears_the_surroundings(
    checkpoint: Path, seeds: Iterable[int], params: Any, *, asked: Iterable[Asked] | None = None
) -> Iterator[Any]:
    for image, labels in conditional.generate(checkpoint, seeds, params, asked=asked):
        yield image, np.where(image.any(axis=0), labels, 0).astype(np.uint8)


def _ignores_the_label_map(
    checkpoint: Path, seeds: Iterable[int], params: Any, *, asked: Iterable[Asked] | None = None
) -> Iterator[Any]:
    if asked is None:
        yield from generator.generate(checkpoint, seeds, params)
        return
    for seed, wanted in zip(seeds, asked, strict=False):
        without = replace(wanted, labels=None)
        image, labels = next(conditional.generate(checkpoint, [seed], params, asked=[without]))
        yield image, labels if wanted.labels is None else wanted.labels


def _ignores_the_radius(
    checkpoint: Path, seeds: Iterable[int], params: Any, *, asked: Iterable[Asked] | None = None
) -> Iterator[Any]:
    wanted = None if asked is None else (replace(one, values=replace(one.values, radius=None)) for one in asked)
    yield from conditional.generate(checkpoint, seeds, params, asked=wanted)


def _asks_for_all_what_the_first_is_asked_for(
    checkpoint: Path, seeds: Iterable[int], params: Any, *, asked: Iterable[Asked] | None = None
) -> Iterator[Any]:
    # As a batch with one condition for all; the label map alone is each sample's own.
    first: Any = None
    wanted = []
    for one in asked or ():
        first = first or one.values
        wanted.append(replace(one, values=first))
    yield from conditional.generate(checkpoint, seeds, params, asked=wanted or None)


WRONG: tuple[Wrong, ...] = (
    method(
        "asked_labels_are_drawn",
        "clears labels outside the head",
        CONDITIONAL_GENERATOR,
        generate=_clears_the_surroundings,
    ),
    method(
        "what_is_asked_changes_the_sample",
        "ignores the label map",
        CONDITIONAL_GENERATOR,
        generate=_ignores_the_label_map,
    ),
    method(
        "what_is_asked_changes_the_sample", "ignores a condition", CONDITIONAL_GENERATOR, generate=_ignores_the_radius
    ),
    method(
        "sample_belongs_to_its_seed_and_to_what_is_asked",
        "gives a batch the condition of its first",
        CONDITIONAL_GENERATOR,
        generate=_asks_for_all_what_the_first_is_asked_for,
    ),
)
