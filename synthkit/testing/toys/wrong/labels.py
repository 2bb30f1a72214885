"""Wrong labels of a segmenter."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthkit.testing.toys import SEGMENTER, segmenter
from synthkit.testing.toys.statistics import load
from synthkit.testing.toys.wrong.wrong import Wrong, method


def _unknown_labels(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    # BraTS 2023's number of the enhancing tumour instead of the training data's.
    for labels in segmenter.segment(checkpoint, images, params):
        yield np.where(labels == 4, np.uint8(3), labels)


def _by_neighbours(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    # The image before stands in for a background to be subtracted.
    state, before = load(checkpoint), None
    for image in images:
        yield segmenter.nearest(state, image if before is None else np.maximum(image, before) - before)
        before = image.copy()


def _divide_by_the_mean(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    for image in images:
        if 1 / int(image.sum()) > 0:
            yield from segmenter.segment(checkpoint, [image], params)


def _look_at_the_first(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    images = iter(images)
    first = list(itertools.islice(images, 1))
    np.zeros_like(first[0])  # a buffer of the right shape, say
    yield from segmenter.segment(checkpoint, itertools.chain(first, images), params)


def _all_images_first(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    yield from segmenter.segment(checkpoint, list(images), params)


def _background_last(checkpoint: Path, images: Iterable[Any], params: Any) -> Iterator[Any]:
    for labels, probabilities in segmenter.segment_with_probabilities(checkpoint, images, params):
        yield labels, np.roll(probabilities, -1, axis=0)


_PROBABILISTIC = replace(SEGMENTER, probabilities=True)

WRONG: tuple[Wrong, ...] = (
    method("labels_belong_to_their_image", "depends on the image before", SEGMENTER, segment=_by_neighbours),
    method("label_maps_have_the_right_form", "gives an unknown label", SEGMENTER, segment=_unknown_labels),
    method("black_image_is_no_error", "divides by zero", SEGMENTER, segment=_divide_by_the_mean),
    method("no_images_are_no_error", "wants a first image", SEGMENTER, segment=_look_at_the_first),
    method(
        "probabilities_belong_to_the_labels",
        "gives background last",
        _PROBABILISTIC,
        segment_with_probabilities=_background_last,
    ),
    method("labels_come_as_they_are_made", "reads all images first", SEGMENTER, segment=_all_images_first),
)
