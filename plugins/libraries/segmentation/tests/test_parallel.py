"""Two processes on the CPU in place of two GPUs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from synthkit_segmentation.testing import Toy, ToyParams, toy_recipe  # noqa: E402
from synthkit_segmentation.training import fit  # noqa: E402
from synthkit_torch import devices  # noqa: E402

from synthkit import events  # noqa: E402
from synthkit.errors import DataError, UsageError  # noqa: E402

PARAMS = ToyParams(samples=46, batch_size=6, learning_rate=0.01, checkpoint_every=24)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_processes", lambda: 2)


def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, outputs = Toy(20, n_subjects=5), tmp_path / "outputs"
    for n, folder in ((1, tmp_path / "one"), (2, outputs)):
        folder.mkdir()
        monkeypatch.setattr(devices, "count_processes", lambda n=n: n)
        with events.logging_to(tmp_path / "events.jsonl"):
            fit(toy_recipe, data, folder, PARAMS)
    for name in ("model.safetensors", "last.safetensors"):
        one, other = (safetensors.load_file(folder / name) for folder in (tmp_path / "one", outputs))
        assert one.keys() == other.keys()
        for key, weights in one.items():
            torch.testing.assert_close(other[key], weights, atol=1e-4, rtol=1e-3)
    assert '"step": 46, "total": 46' in (tmp_path / "events.jsonl").read_text().splitlines()[-1]


def test_the_error_of_a_process_is_that_of_the_training(tmp_path: Path, two: None) -> None:
    data = Toy(12)
    data.labels[4, 0, 0] = 7  # is not declared, and one process reads it
    with pytest.raises(DataError, match=r"\[7\]"):
        fit(toy_recipe, data, tmp_path, PARAMS)


def test_a_step_needs_an_image_for_each_process(tmp_path: Path, two: None) -> None:
    with pytest.raises(UsageError, match="cannot share"):
        fit(toy_recipe, Toy(12), tmp_path, dataclasses.replace(PARAMS, samples=13))
