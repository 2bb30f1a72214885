# ruff: noqa: E402 (imports follow the check for torch)
"""Losses against closed forms; training that resumes exactly and fails with reasons."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from synthkit_stylegan2 import Params, model, storage

import synthkit
from synthkit.errors import DataError, OutOfMemoryError, PluginError

SMALL = Params(
    kimg=0.16,
    batch_size=8,
    channel_base=256,
    channel_max=8,
    mapping_layers=2,
    gamma=0.1,
    checkpoint_kimg=0.04,
)


class KilledError(Exception):
    """Stands for a killed process."""


def _interrupt_after(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    def progress(step: int, total: int | None = None, **_: object) -> None:
        if step >= images:
            raise KilledError

    monkeypatch.setattr(synthkit, "progress", progress)


def test_r1_of_a_linear_discriminator() -> None:
    """D(x) = <a, x> has gradient a everywhere: the penalty is |a|^2."""
    direction = torch.randn(3, 8, 8, dtype=torch.float64)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    penalty = model.r1_penalty((images * direction).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, direction.square().sum().expand(4))


def test_r1_of_a_quadratic_discriminator_and_its_derivative() -> None:
    """D(x) = a |x|^2 / 2 has gradient a x: the penalty is a^2 |x|^2, its derivative by a is 2 a |x|^2."""
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    norm = images.detach().square().sum(dim=(1, 2, 3))
    penalty = model.r1_penalty(scale / 2 * images.square().sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty.detach(), 9 * norm)
    penalty.sum().backward()
    torch.testing.assert_close(scale.grad, 6 * norm.sum())


def test_path_length_of_a_linear_generator() -> None:
    """Image = A w gives J^T y = A^T y; with all of w in one style the length is |A^T y| / side."""
    matrix = torch.randn(2 * 8 * 8, 5, dtype=torch.float64)
    w = torch.randn(3, 1, 5, dtype=torch.float64, requires_grad=True)
    images = (w[:, 0] @ matrix.T).view(3, 2, 8, 8)
    y = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    expected = (y.flatten(1) @ matrix).norm(dim=1) / 8
    torch.testing.assert_close(model.path_lengths(images, w, y), expected)


def test_path_length_averages_over_styles() -> None:
    """Two styles of which one does nothing: the mean square halves."""
    matrix = torch.randn(64, 5, dtype=torch.float64)
    w = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    lengths = model.path_lengths((w[:, 0] @ matrix.T).view(3, 1, 8, 8), w, y)
    torch.testing.assert_close(lengths, (y.flatten(1) @ matrix).norm(dim=1) / 8 / 2**0.5)


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path, discs, monkeypatch: pytest.MonkeyPatch) -> None:
    params = dataclasses.replace(SMALL, augment=True)
    data = discs(20)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    model.train(data, whole, params)

    for images in (72, 112):  # between two saved states, twice
        with monkeypatch.context() as patch:
            _interrupt_after(patch, images)
            with pytest.raises(KilledError):
                model.train(data, broken, params)
        assert (broken / "state.safetensors").exists()
        assert json.loads((broken / "config.json").read_text())["finished"] is False
    model.train(data, broken, params)

    expected, resumed = (load_file(folder / "generator.safetensors") for folder in (whole, broken))
    assert expected.keys() == resumed.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name
    assert not (broken / "state.safetensors").exists()
    assert {path.name for path in broken.iterdir()} == {"config.json", "generator.safetensors"}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in broken.iterdir())


def test_what_an_interrupted_write_left_goes_at_the_end(tmp_path: Path, discs) -> None:
    """The state has seen the real images, and half of it still has."""
    left, params = tmp_path / ".state.safetensors.partial", dataclasses.replace(SMALL, kimg=0.008)
    for _ in range(2):  # by the training, and by the call that finds it finished
        left.write_bytes(b"half a state")
        model.train(discs(8), tmp_path, params)
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", "generator.safetensors"}


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("bfloat16", True)])
def test_float32_is_not_tf32(
    tmp_path: Path, discs, monkeypatch: pytest.MonkeyPatch, precision: str, allowed: bool
) -> None:
    seen = set()
    forward = model.Discriminator.forward

    def spy(self, *args, **kwargs):
        seen.add(torch.backends.cudnn.allow_tf32)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(model.Discriminator, "forward", spy)
    model.train(discs(8), tmp_path, dataclasses.replace(SMALL, kimg=0.008, precision=precision))
    assert seen == {allowed}
    assert torch.backends.cudnn.allow_tf32


def test_training_changes_every_weight(tmp_path: Path, discs) -> None:
    """A layer that is not connected, or not trained, would keep its start."""
    data = discs(16)
    model.train(data, tmp_path, dataclasses.replace(SMALL, kimg=0.04, ema_kimg=0.0))
    architecture = model.Architecture(**json.loads((tmp_path / "config.json").read_text())["architecture"])
    start = model.Training(architecture, SMALL, torch.device("cpu")).generator.state_dict()
    end = load_file(tmp_path / "generator.safetensors")
    assert start.keys() == end.keys() - {"w_mean"}
    assert [name for name in start if torch.equal(start[name], end[name])] == []


def test_without_noise_its_strengths_stay_zero(tmp_path: Path, discs) -> None:
    model.train(discs(8), tmp_path, dataclasses.replace(SMALL, kimg=0.04, noise=False))
    end = load_file(tmp_path / "generator.safetensors")
    strengths = [tensor for name, tensor in end.items() if name.endswith("noise_strength")]
    assert len(strengths) == 7 and not any(strengths)


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path, discs) -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model.train(discs(8), tmp_path, dataclasses.replace(SMALL, kimg=0.008))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_a_finished_training_is_not_repeated(tmp_path: Path, discs) -> None:
    data, params = discs(8), dataclasses.replace(SMALL, kimg=0.008)
    model.train(data, tmp_path, params)
    reads = data.reads
    model.train(data, tmp_path, params)
    assert data.reads == reads


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 0.001}, {"channel_base": 512}])
def test_another_job_does_not_resume(tmp_path: Path, discs, monkeypatch: pytest.MonkeyPatch, change: dict) -> None:
    params = dataclasses.replace(SMALL, checkpoint_kimg=0.008)
    with monkeypatch.context() as patch:
        _interrupt_after(patch, 16)
        with pytest.raises(KilledError):
            model.train(discs(8), tmp_path, params)
    with pytest.raises(DataError, match="another training"):
        model.train(discs(8), tmp_path, dataclasses.replace(params, **change))


def test_other_data_does_not_resume(tmp_path: Path, discs) -> None:
    model.train(discs(8), tmp_path, dataclasses.replace(SMALL, kimg=0.008))
    with pytest.raises(DataError, match="another training"):
        model.train(discs(9), tmp_path, dataclasses.replace(SMALL, kimg=0.008))


def test_divergence_names_the_last_good_state(tmp_path: Path, discs, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = model.Training.advance

    def spoilt(training: model.Training, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss_g, loss_d = advance(training, real)
        return (loss_g * float("nan") if training.step == 12 else loss_g), loss_d

    monkeypatch.setattr(model.Training, "advance", spoilt)
    with pytest.raises(PluginError, match=r"diverged by image 96.*state\.safetensors, after 80 images"):
        model.train(discs(8), tmp_path, SMALL)


def test_a_state_with_nan_is_never_saved(tmp_path: Path, discs, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = model.Training.advance

    def spoilt(training: model.Training, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        losses = advance(training, real)
        if training.step == 5:
            with torch.no_grad():
                training.generator.constant[0, 0, 0] = float("nan")
        return losses

    monkeypatch.setattr(model.Training, "advance", spoilt)
    with pytest.raises(PluginError, match="No state had been saved yet"):
        model.train(discs(8), tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), RuntimeError("[enforce] not enough memory: you")],
)
def test_memory_errors_say_to_lower_the_batch_size(
    tmp_path: Path, discs, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def advance(*_: object) -> None:
        raise error

    monkeypatch.setattr(model.Training, "advance", advance)
    with pytest.raises(OutOfMemoryError, match="Lower batch_size"):
        model.train(discs(8), tmp_path, SMALL)


def test_errors_of_the_reading_thread_reach_the_caller(tmp_path: Path, discs) -> None:
    data = discs(8)

    def broken(_: object) -> None:
        raise DataError("A shard is corrupt.")

    data.read = broken
    with pytest.raises(DataError, match="shard"):
        model.train(data, tmp_path, SMALL)


def test_wrong_sizes_are_refused(tmp_path: Path, discs) -> None:
    with pytest.raises(DataError, match="48 x 48"):
        model.train(discs(8, size=48), tmp_path, SMALL)
    with pytest.raises(DataError, match="no samples"):
        model.train(discs(0), tmp_path, SMALL)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    storage.save_tensors(path, {"a": torch.ones(3)}, {"step": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(synthkit.errors.NotWritableError, match="disk space"):
        storage.save_tensors(path, {"a": torch.zeros(3)}, {"step": 2})
    tensors, facts = storage.load_tensors(path)
    assert facts == {"step": 1} and torch.equal(tensors["a"], torch.ones(3))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), batch_size=st.integers(1, 7), start=st.integers(0, 20))
def test_real_images_follow_from_seed_and_step(n: int, batch_size: int, start: int) -> None:
    class Rows:
        label_values = (0, 4)

        def __len__(self) -> int:
            return n

        def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = np.asarray(indices, dtype=np.uint8)[:, None, None]
            return np.broadcast_to(rows[:, None], (len(rows), 1, 2, 2)), np.full((len(rows), 2, 2), 4, dtype=np.uint8)

    with storage.RealImages(Rows(), batch_size, 3, 0, 25) as stream:
        batches = list(stream)
    with storage.RealImages(Rows(), batch_size, 3, start, 25) as stream:
        resumed = list(stream)
    assert all(np.array_equal(a, b) for a, b in zip(batches[start:], resumed, strict=True))
    seen = np.concatenate(batches)[:, 0, 0, 0]
    for epoch in range(len(seen) // n):  # every epoch shows every row once
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert (batches[0][:, 1] == 204).all()  # labels are the last channel, as grey levels


def test_augmentation_treats_labels_and_contrasts_alike() -> None:
    random = torch.Generator().manual_seed(0)
    base = torch.rand(64, 1, 16, 16, generator=random)
    images = torch.cat([base, base, base], dim=1) * 2 - 1
    result = model.augment(images, 1.0, random)
    for image in result:
        for contrast in image[:2]:
            # Geometry is shared, so a contrast is the label channel times one factor about black.
            inside = image[2] > -0.5
            factor = (contrast[inside] + 1) / (image[2][inside] + 1)
            assert float(factor.std()) < 1e-4
    assert not torch.equal(result[:, 2], images[:, 2])
    assert torch.equal(model.augment(images, 0.0, random), images)
