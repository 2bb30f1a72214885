# ruff: noqa: E402 (imports follow the check for torch)
"""Samples: tied to their seed, with label values of the dataset, and (slowly) with labels that follow the image."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_stylegan2 import Params, model

from synthkit.errors import DataError

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
    together = _stack(model.generate(checkpoint, [7, 1, 2**40, 3, 4], SMALL))
    for size in (1, 3):
        params = dataclasses.replace(SMALL, generate_batch_size=size)
        other = _stack(model.generate(checkpoint, [4, 3, 2**40, 1, 7], params))
        np.testing.assert_array_equal(together[0], other[0][::-1])
        np.testing.assert_array_equal(together[1], other[1][::-1])
    assert len({image.tobytes() for image in together[0]}) == 5


def test_drawing_is_float32_not_tf32(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    forward = model.Generator.forward

    def spy(self, *args, **kwargs):
        seen.add(torch.backends.cudnn.allow_tf32)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(model.Generator, "forward", spy)
    for _ in model.generate(checkpoint, range(2), SMALL):
        assert torch.backends.cudnn.allow_tf32  # the caller's own, between samples too
    assert seen == {False}


def test_all_bits_of_a_seed_count(checkpoint: Path) -> None:
    seeds = [0, 1, 2**32, 2**32 + 1, 2**40, 2**64]
    images, _ = _stack(model.generate(checkpoint, seeds, SMALL))
    assert len({image.tobytes() for image in images}) == len(seeds)


def test_batches_change_a_grey_level_at_most(checkpoint: Path) -> None:
    """As a GPU draws them."""
    generator, w_mean, _ = model._load(checkpoint, torch.device("cpu"))
    seeds = [5, 6, 7, 8, 9]
    for size in (2, 5):
        together = model._draw(generator, w_mean, seeds[:size], 0.7)
        for seed, (image, grey) in zip(seeds, together, strict=False):
            ((alone, alone_grey),) = model._draw(generator, w_mean, [seed], 0.7)
            assert np.abs(image.astype(int) - alone).max() <= 1
            assert np.abs(grey.astype(int) - alone_grey).max() <= 1


def test_the_last_batch_is_filled_up(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the size of a batch may decide how sums are ordered, so all batches have the same."""
    expected = _stack(model.generate(checkpoint, range(5), SMALL))
    sizes = []

    def draw(*arguments):
        sizes.append(len(arguments[2]))
        return _draw(*arguments)

    _draw = model._draw
    monkeypatch.setattr(model, "_draw", draw)
    monkeypatch.setattr(model, "_device", lambda: _NamedCuda())
    monkeypatch.setattr(model, "_load", _load_on_cpu(model._load))
    found = _stack(model.generate(checkpoint, range(5), dataclasses.replace(SMALL, generate_batch_size=3)))
    assert sizes == [3, 3] and len(found[0]) == 5
    assert np.abs(found[0].astype(int) - expected[0]).max() <= 1


class _NamedCuda:
    """Makes the code take the path of a GPU, on the CPU."""

    type = "cuda"


def _load_on_cpu(load):
    return lambda folder, _: load(folder, torch.device("cpu"))


def test_generation_streams(checkpoint: Path) -> None:
    taken = []

    def endless():
        for seed in itertools.count():
            taken.append(seed)
            yield seed

    samples = model.generate(checkpoint, endless(), SMALL)
    for _ in range(5):
        next(samples)
    assert len(taken) == 5


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
        kimg=8,
        batch_size=16,
        learning_rate=0.005,
        gamma=0.5,
        channel_base=512,
        channel_max=32,
        mapping_layers=2,
        style_mixing=0.0,
        path_length_weight=0.0,
        ema_kimg=1,
    )
    model.train(discs(512), tmp_path, params)
    images, labels = _stack(model.generate(tmp_path, range(64), params))
    bright, labelled = images[:, 0] > 160, labels == 4
    assert labelled.any(axis=(1, 2)).mean() > 0.9
    overlap = 2 * (bright & labelled).sum() / (bright.sum() + labelled.sum())  # Dice over all pixels
    assert overlap > 0.7
    # The head is where it is in the data, the surroundings are black, and not all samples are one.
    head = discs(1).images[0, 0] > 45
    assert np.median((images[:, 0, head] > 45).mean(axis=1)) > 0.85
    assert (images[:, :, 0, 0] == 0).mean() > 0.8
    y, x = np.mgrid[:32, :32] - 15.5
    centres = np.array([(y[mask].mean(), x[mask].mean()) for mask in labelled if mask.any()])
    assert (centres.std(axis=0) > 0.3).all()
