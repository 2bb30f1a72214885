# ruff: noqa: E402 (imports follow the check for torch)
"""Samples: of the checkpoint's shape and labels, and (slowly) with labels that follow the image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.testing import assert_like_discs, make_discs, stacked
from synthkit_stylegan2 import Params, model

from synthkit.cli import demo
from synthkit.data.dataset import Dataset
from synthkit.errors import DataError

SMALL = Params(kimg=0.064, batch_size=8, channel_base=512, channel_max=16, mapping_layers=2, gamma=0.1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    model.train(make_discs(16, label_values=(0, 1, 2, 4), contrasts=("t1", "t2", "flair")), folder, SMALL)
    return folder


def test_samples_have_the_shape_and_labels_of_the_dataset(checkpoint: Path) -> None:
    images, labels = stacked(model.generate(checkpoint, range(6), SMALL))
    assert images.shape == (6, 3, 32, 32) and images.dtype == np.uint8
    assert labels.shape == (6, 32, 32) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2, 4}


def test_all_bits_of_a_seed_count(checkpoint: Path) -> None:
    seeds = [0, 1, 2**32, 2**32 + 1, 2**40, 2**64]
    images, _ = stacked(model.generate(checkpoint, seeds, SMALL))
    assert len({image.tobytes() for image in images}) == len(seeds)


def test_batches_change_rounding_only(checkpoint: Path) -> None:
    """As a GPU draws them."""
    generator, w_mean, _ = model._load(checkpoint, torch.device("cpu"))
    together = model.sample(generator, w_mean, [5, 6, 7], 0.7)
    for seed, image in zip([5, 6, 7], together, strict=True):
        torch.testing.assert_close(model.sample(generator, w_mean, [seed], 0.7)[0], image, atol=1e-4, rtol=1e-4)


def test_generation_leaves_the_callers_random_state_alone(checkpoint: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(model.generate(checkpoint, [1, 2], SMALL))
    assert torch.equal(before, torch.get_rng_state())


def test_the_shipped_checkpoint_still_loads() -> None:
    images, labels = stacked(model.generate(demo.FAITHFUL, [0], Params()))
    assert images.shape == (1, 4, 64, 64) and labels.any() and images.max() > 100


def test_a_folder_without_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json"):
        next(model.generate(tmp_path, [0], SMALL))


def test_a_truncated_checkpoint_is_named(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    whole = (checkpoint / "generator.safetensors").read_bytes()
    (tmp_path / "generator.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"generator\.safetensors"):
        next(model.generate(tmp_path, [0], SMALL))


def test_a_shard_holds_its_seeds_and_how_it_was_drawn(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthkit", "generate", str(demo.FAITHFUL), "--seeds", "0-6,20-22", "--shard", "4/5",
         "-o", str(tmp_path / "part"), "-p", "background_zero=false", "--backend", "local"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = Dataset(tmp_path / "part")
    assert [sample.seed for sample in made.samples] == [6, 20]
    assert made.description["provenance"]["seeds"] == "6,20"
    assert made.description["provenance"]["params"]["background_zero"] is False


@pytest.mark.slow
def test_labels_follow_the_bright_disc(tmp_path: Path) -> None:
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
    model.train(make_discs(512), tmp_path, params)
    images, labels = stacked(model.generate(tmp_path, range(64), params))
    assert_like_discs(images, labels, overlap=0.7)
    assert (images[:, :, 0, 0] == 0).mean() > 0.8  # the surroundings are black
