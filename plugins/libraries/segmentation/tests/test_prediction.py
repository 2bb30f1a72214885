"""Segmentation of a stream, by a network that has learned the toy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from synthkit_segmentation.prediction import segment, segment_with_probabilities  # noqa: E402
from synthkit_segmentation.testing import Toy, ToyParams, toy_recipe  # noqa: E402
from synthkit_segmentation.training import fit  # noqa: E402

from synthkit.errors import DataError  # noqa: E402

PARAMS = ToyParams(samples=1600, batch_size=8, learning_rate=0.01, checkpoint_every=800)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    fit(toy_recipe, Toy(300), folder, PARAMS)
    return folder


def dice(found: np.ndarray, wanted: np.ndarray, label: int) -> float:
    return 2 * ((found == label) & (wanted == label)).sum() / ((found == label).sum() + (wanted == label).sum())


def test_learns_disc_and_ring(trained: Path) -> None:
    fresh = Toy(40, seed=1)
    found = np.stack(list(segment(toy_recipe, trained, iter(fresh.images), PARAMS)))
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= {0, 1, 4}
    assert dice(found, fresh.labels, 1) > 0.8
    assert dice(found, fresh.labels, 4) > 0.8
    history = json.loads((trained / "history.json").read_text())
    assert history["best_val_dice"] == max(entry["val_dice"] for entry in history["validations"]) > 0.8


def test_labels_do_not_depend_on_the_batch(trained: Path) -> None:
    images = Toy(19, seed=2).images
    together = list(segment(toy_recipe, trained, images, PARAMS))
    assert len(together) == 19
    for size in (1, 5):
        params = dataclasses.replace(PARAMS, batch_size=size)
        for one, other in zip(together, segment(toy_recipe, trained, images, params), strict=True):
            np.testing.assert_array_equal(one, other)


def test_sides_of_any_length_and_mixed_shapes_in_order(trained: Path) -> None:
    toys = [Toy(1, size, seed=5) for size in ((37, 50), (32, 32), (37, 50), (61, 33))]
    found = list(segment(toy_recipe, trained, (toy.images[0] for toy in toys), PARAMS))
    for labels, toy in zip(found, toys, strict=True):
        assert labels.shape == toy.size
        assert dice(labels, toy.labels[0], 1) > 0.8


def test_smaller_than_the_network_likes(trained: Path) -> None:
    (labels,) = segment(toy_recipe, trained, [np.full((3, 5, 7), 90, np.uint8)], PARAMS)
    assert labels.shape == (5, 7)


def test_empty_slices_are_background(trained: Path) -> None:
    images = [np.zeros((3, 32, 32), np.uint8), Toy(1, seed=9).images[0]]
    empty, full = segment(toy_recipe, trained, images, PARAMS)
    assert not empty.any()
    assert full.any()


def test_probabilities_beside_the_same_labels(trained: Path) -> None:
    images = [*Toy(6, seed=3).images, np.zeros((3, 32, 32), np.uint8)]
    pairs = list(segment_with_probabilities(toy_recipe, trained, images, PARAMS))
    for (labels, probabilities), alone in zip(pairs, segment(toy_recipe, trained, images, PARAMS), strict=True):
        np.testing.assert_array_equal(labels, alone)
        assert (probabilities.dtype, probabilities.shape) == (np.uint8, (3, 32, 32))
        assert np.abs(probabilities.astype(int).sum(0) - 255).max() <= 1
        chosen = np.take_along_axis(probabilities, np.searchsorted((0, 1, 4), labels)[None], 0)[0]
        np.testing.assert_array_equal(chosen, probabilities.max(0))
    assert (pairs[-1][1][0] == 255).all()  # nothing there: background for sure


def test_segment_streams(trained: Path) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        image = Toy(1).images[0]
        while True:
            taken += 1
            yield image

    labels = segment(toy_recipe, trained, endless(), PARAMS)
    next(labels)
    assert taken <= 20


def test_segment_checks_the_contrasts(trained: Path) -> None:
    with pytest.raises(DataError, match="3, y, x"):
        list(segment(toy_recipe, trained, [np.zeros((4, 32, 32), np.uint8)], PARAMS))


def test_segment_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a checkpoint"):
        list(segment(toy_recipe, tmp_path, [np.zeros((3, 32, 32), np.uint8)], PARAMS))
