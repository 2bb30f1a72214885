"""Samples: tied to their seed, with label values of the dataset, and (slowly) with labels that follow the image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit.errors import DataError
from synthkit_stylegan2 import Params, model

SMALL = Params(kimg=0.064, batch_size=8, channel_base=512, channel_max=16, mapping_layers=2, gamma=0.1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    make_discs = request.getfixturevalue("discs_module")
    folder = tmp_path_factory.mktemp("checkpoint")
    model.train(make_discs(16, label_values=(0, 1, 2, 4), contrasts=("t1", "t2", "flair")), folder, SMALL)
    return folder


def _stack(samples) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*samples, strict=True)
    return np.stack(images), np.stack(labels)


def test_samples_have_the_shape_and_labels_of_the_dataset(checkpoint: Path) -> None:
    images, labels = _stack(model.generate(checkpoint, range(6), SMALL))
    assert images.shape == (6, 3, 32, 32) and images.dtype == np.uint8
    assert labels.shape == (6, 32, 32) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2, 4}


def test_a_sample_belongs_to_its_seed(checkpoint: Path) -> None:
    together = _stack(
        model.generate(checkpoint, [7, 1, 2**40, 3, 4], dataclasses.replace(SMALL, generate_batch_size=5))
    )
    for size in (1, 2, 3):
        other = _stack(
            model.generate(checkpoint, [4, 3, 2**40, 1, 7], dataclasses.replace(SMALL, generate_batch_size=size))
        )
        difference = together[0].astype(int) - other[0][::-1].astype(int)
        assert np.abs(difference).max() <= 1
        assert (together[1] != other[1][::-1]).mean() < 1e-3  # a grey level on a cut point may fall either way
    assert len({image.tobytes() for image in together[0]}) == 5


def test_the_same_call_gives_the_same_bytes(checkpoint: Path) -> None:
    first, second = (_stack(model.generate(checkpoint, range(5), SMALL)) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    # Neighbours do not matter at one batch size, not even in the last grey level.
    alone = _stack(model.generate(checkpoint, [3], SMALL))
    assert np.array_equal(alone[0][0], first[0][3]) and np.array_equal(alone[1][0], first[1][3])


def test_generation_streams(checkpoint: Path) -> None:
    taken = []

    def endless():
        seed = 0
        while True:
            taken.append(seed)
            yield seed
            seed += 1

    samples = model.generate(checkpoint, endless(), dataclasses.replace(SMALL, generate_batch_size=4))
    for _ in range(5):
        next(samples)
    assert len(taken) == 8


def test_no_seeds_no_samples(checkpoint: Path) -> None:
    assert list(model.generate(checkpoint, [], SMALL)) == []


def test_generation_leaves_the_callers_random_state_alone(checkpoint: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(model.generate(checkpoint, [1, 2], SMALL))
    assert torch.equal(before, torch.get_rng_state())


def test_a_folder_without_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json"):
        next(model.generate(tmp_path, [0], SMALL))


def test_a_truncated_checkpoint_is_named(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    whole = (checkpoint / "generator.safetensors").read_bytes()
    (tmp_path / "generator.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"generator\.safetensors"):
        next(model.generate(tmp_path, [0], SMALL))


def test_only_the_surroundings_become_black() -> None:
    image = np.full((2, 8, 8), 3, dtype=np.uint8)
    labels = np.zeros((8, 8), dtype=np.uint8)
    image[:, 1:7, 1:7] = 100  # the head
    image[:, 3:5, 3:5] = 2  # a dark ventricle, not joined to the edge
    image[0, 0, 0] = 60  # not black in one contrast: stays
    labels[7, 7] = 4  # labelled: stays
    expected = image.copy()
    expected[:, 0, 1:] = 0
    expected[:, 7, :7] = 0
    expected[:, 1:, 0] = 0
    expected[:, 1:7, 7] = 0
    expected[:, 7, 7] = 3
    model.blacken(image, labels)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.slow
def test_labels_follow_the_bright_disc(tmp_path: Path, discs) -> None:
    params = Params(
        kimg=12,
        batch_size=16,
        channel_base=1024,
        channel_max=32,
        mapping_layers=2,
        gamma=0.05,
        ema_kimg=1,
        checkpoint_kimg=100,
    )
    model.train(discs(512), tmp_path, params)
    images, labels = _stack(model.generate(tmp_path, range(64), params))
    bright, labelled = images[:, 0] > 160, labels == 4
    assert labelled.any(axis=(1, 2)).mean() > 0.9
    overlap = (
        2 * (bright & labelled).sum(axis=(1, 2)) / np.maximum(1, bright.sum(axis=(1, 2)) + labelled.sum(axis=(1, 2)))
    )
    assert np.median(overlap) > 0.8, overlap
    # Not one image over and over: the discs are all round the centre, as in the data.
    y, x = np.mgrid[:32, :32] - 15.5
    centres = np.array([(y[mask].mean(), x[mask].mean()) for mask in labelled if mask.any()])
    assert (centres.std(axis=0) > 2).all(), centres.std(axis=0)
