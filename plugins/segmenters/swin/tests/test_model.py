"""The transformer learns the toy, resumes exactly and begins with pretrained weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from synthkit_segmentation.testing import Toy, assert_resumes_exactly, assert_step_needs_nothing_of_the_host  # noqa: E402
from synthkit_swin import SwinParams, model  # noqa: E402

from synthkit.errors import DataError  # noqa: E402

TINY = SwinParams(
    backbone="nano", head_channels=16, samples=32, batch_size=4, checkpoint_every=16, learning_rate=1e-3, warmup_steps=2
)


def dice(found: np.ndarray, wanted: np.ndarray, label: int) -> float:
    return 2 * ((found == label) & (wanted == label)).sum() / ((found == label).sum() + (wanted == label).sum())


def test_learns_disc_and_ring_and_segments_any_size(tmp_path: Path) -> None:
    params = dataclasses.replace(TINY, samples=960, batch_size=8, checkpoint_every=960, drop_path=0.1)
    model.train(Toy(300), tmp_path, params)
    for size in ((32, 32), (50, 37)):
        fresh = Toy(20, size, seed=1)
        found = np.stack(list(model.segment(tmp_path, iter(fresh.images), SwinParams())))
        assert found.shape == fresh.labels.shape
        assert dice(found, fresh.labels, 1) > 0.6
        assert dice(found, fresh.labels, 4) > 0.6


def test_resumed_training_equals_uninterrupted_bitwise(tmp_path: Path) -> None:
    assert_resumes_exactly(lambda data, folder: model.train(data, folder, TINY), tmp_path, stop_at=24)


def test_training_begins_with_pretrained_weights(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    model.train(Toy(12), tmp_path / "first", TINY)
    still = dataclasses.replace(TINY, learning_rate=1e-8, samples=4, seed=1)
    model.train(Toy(12), tmp_path / "second", still, pretrained=tmp_path / "first" / "model.safetensors")
    before, after = (safetensors.load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    name = "backbone.swin.encoder.layers.0.blocks.0.mlp.fc1.weight"
    torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


def test_a_training_begins_with_the_best_weights_of_another(tmp_path: Path) -> None:
    for name in ("first", "second", "other"):
        (tmp_path / name).mkdir()
    model.train(Toy(12), tmp_path / "first", TINY)
    still = dataclasses.replace(TINY, learning_rate=1e-8, samples=4, seed=1)
    model.train(Toy(12), tmp_path / "second", still, initial=tmp_path / "first")
    first, second = (safetensors.load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    learned = [name for name in first if "running" not in name and "num_batches" not in name]  # all but batch norm's
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in learned)
    with pytest.raises(DataError, match="its network is another one"):
        model.train(Toy(12), tmp_path / "other", dataclasses.replace(TINY, head_channels=8), initial=tmp_path / "first")


def test_a_step_needs_nothing_of_the_host() -> None:
    assert_step_needs_nothing_of_the_host(model.recipe, TINY)
