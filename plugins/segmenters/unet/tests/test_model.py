"""The U-Net learns the toy and comes back from its checkpoint; how it is trained is tested with the shared library."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("monai", reason="monai is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from synthkit_segmentation.testing import Toy, assert_resumes_exactly, assert_step_needs_nothing_of_the_host  # noqa: E402
from synthkit_torch import devices  # noqa: E402
from synthkit_unet import UnetParams, model  # noqa: E402

from synthkit.errors import DataError  # noqa: E402

TINY = UnetParams(samples=32, batch_size=4, depth=3, filters=4, checkpoint_every=16)


def dice(found: np.ndarray, wanted: np.ndarray, label: int) -> float:
    return 2 * ((found == label) & (wanted == label)).sum() / ((found == label).sum() + (wanted == label).sum())


def test_learns_disc_and_ring(tmp_path: Path) -> None:
    params = UnetParams(samples=1600, batch_size=8, depth=3, filters=8, learning_rate=0.03, checkpoint_every=800)
    model.train(Toy(300), tmp_path, params)
    fresh = Toy(40, seed=1)
    # Other shapes of network at segmentation do not matter: those of the training are kept.
    found = np.stack(list(model.segment(tmp_path, iter(fresh.images), UnetParams())))
    assert dice(found, fresh.labels, 1) > 0.9
    assert dice(found, fresh.labels, 4) > 0.9
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["best_val_dice"] == max(entry["val_dice"] for entry in history["validations"]) > 0.9


def test_resumed_training_equals_uninterrupted_bitwise(tmp_path: Path) -> None:
    assert_resumes_exactly(lambda data, folder: model.train(data, folder, TINY), tmp_path, stop_at=24)


def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Toy(20, n_subjects=5)
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        monkeypatch.setattr(devices, "count_processes", lambda n=n: n)
        model.train(data, tmp_path / str(n), TINY)
    one, two = (safetensors.load_file(tmp_path / str(n) / "last.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, atol=1e-4, rtol=1e-3)


def test_a_training_begins_with_the_best_weights_of_another(tmp_path: Path) -> None:
    for name in ("first", "second", "other"):
        (tmp_path / name).mkdir()
    model.train(Toy(20), tmp_path / "first", TINY)
    slow = dataclasses.replace(TINY, samples=4, learning_rate=1e-8)
    model.train(Toy(12), tmp_path / "second", slow, initial=tmp_path / "first")
    first, second = (safetensors.load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    with pytest.raises(DataError, match="its network is another one"):
        model.train(Toy(12), tmp_path / "other", dataclasses.replace(TINY, filters=8), initial=tmp_path / "first")


def test_a_step_needs_nothing_of_the_host() -> None:
    assert_step_needs_nothing_of_the_host(model.recipe, TINY)
