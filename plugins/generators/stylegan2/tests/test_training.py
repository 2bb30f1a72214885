# ruff: noqa: E402 (imports follow the check for torch)
"""Losses against closed forms; steps that do not depend on parts; training that resumes exactly."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file
from synthkit_generative.testing import (
    SpoiltSamples,
    assert_begins_with,
    assert_is_made_longer_exactly,
    assert_keeps_frozen_layers,
    assert_processes_agree,
    assert_resumes_exactly,
    assert_takes_a_step_at,
    make_discs,
    on_processes,
)
from synthkit_stylegan2 import Params, model
from synthkit_stylegan2.networks import Architecture
from synthkit_torch.on_device import assert_stays_on_the_device

from synthkit.errors import PluginError, UsageError

SMALL = Params(
    kimg=0.16,
    batch_size=8,
    channel_base=256,
    channel_max=8,
    mapping_layers=2,
    gamma=0.1,
    checkpoint_kimg=0.04,
)
CPU = torch.device("cpu")


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


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    params = dataclasses.replace(SMALL, augment=True)
    assert_resumes_exactly(lambda data, folder: model.train(data, folder, params), tmp_path, kills=(72,))


def test_a_training_is_made_longer_and_another_begins_with_it(tmp_path: Path) -> None:
    assert_is_made_longer_exactly(model.train, tmp_path, SMALL, shorter_kimg=0.072)
    assert_begins_with(model.train, tmp_path / "short", tmp_path, dataclasses.replace(SMALL, kimg=0.016))
    tuned = dataclasses.replace(SMALL, kimg=0.032, checkpoint_kimg=0.008, frozen_layers=2)
    unchanged = ("from_image.", "blocks.0.conv0.")
    assert_keeps_frozen_layers(model.train, tmp_path / "short", tmp_path, tuned, unchanged)


def test_a_batch_in_parts_gives_the_same_step() -> None:
    """Losses, regularised steps included, differ by rounding: the first steps hold R1 and path length."""
    params = dataclasses.replace(SMALL, batch_size=16, augment=True, learning_rate=0.001)
    real = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = []
    for accumulate in (1, 4):
        changed = dataclasses.replace(params, accumulate=accumulate)
        training = model.Training(Architecture(32, 3, 256, 8, 2), changed, CPU, torch.float32)
        training.augmentation.probability = torch.tensor(0.5)
        losses = [training.training_step(real) for _ in range(3)]
        seen.append(([float(value) for loss in losses for value in loss.values()], training.state()))
    assert seen[0][0] == pytest.approx(seen[1][0], rel=1e-3)
    moments = [name for name in seen[0][1] if name.startswith("optimiser.") and name.endswith(".exp_avg_sq")]
    for name in (*moments, "path_mean", "sign"):
        torch.testing.assert_close(seen[0][1][name], seen[1][1][name], rtol=2e-2, atol=1e-6, msg=name)


def test_a_step_at_512_pixels() -> None:
    """The first, which has R1 and path length."""
    assert_takes_a_step_at(512, model.Training(Architecture(512, 5, 512, 8, 2), SMALL, CPU, torch.float32))


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """R1, path length and augmentation included; each process has a whole group of minibatch standard deviation."""
    assert_processes_agree(model.train, tmp_path, dataclasses.replace(SMALL, kimg=0.04, augment=True))


@pytest.mark.slow
def test_a_training_resumes_when_one_of_its_processes_was_killed(tmp_path: Path) -> None:
    params, data = dataclasses.replace(SMALL, checkpoint_kimg=0.008), make_discs(20)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    with on_processes(2):
        model.train(data, whole, params)
        with pytest.raises(PluginError, match=r"exit code is -9.*--resume"):
            model.train(SpoiltSamples(data, 14), broken, params)
        assert (broken / "state" / "training.safetensors").exists()
        model.train(data, broken, params)
    expected, resumed = (load_file(folder / "generator.safetensors") for folder in (whole, broken))
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []


def test_parts_that_would_cut_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size a multiple of 12"):
        model.train(make_discs(8), tmp_path, dataclasses.replace(SMALL, accumulate=3))


def test_training_changes_every_weight(tmp_path: Path) -> None:
    """A layer that is not connected, or not trained, would keep its start."""
    model.train(make_discs(16), tmp_path, dataclasses.replace(SMALL, kimg=0.04, ema_kimg=0.0))
    architecture = Architecture(**json.loads((tmp_path / "config.json").read_text())["architecture"])
    start = model.Training(architecture, SMALL, CPU, torch.float32).generator.state_dict()
    end = load_file(tmp_path / "generator.safetensors")
    assert start.keys() == end.keys() - {"w_mean"}
    assert [name for name in start if torch.equal(start[name], end[name])] == []


def test_without_noise_its_strengths_stay_zero(tmp_path: Path) -> None:
    model.train(make_discs(8), tmp_path, dataclasses.replace(SMALL, kimg=0.04, noise=False))
    end = load_file(tmp_path / "generator.safetensors")
    strengths = [tensor for name, tensor in end.items() if name.endswith("noise_strength")]
    assert len(strengths) == 7 and not any(strengths)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_needs_nothing_of_the_host(precision: torch.dtype) -> None:
    # The first step has every part: R1, path length, augmentation.
    params = dataclasses.replace(SMALL, augment=True, path_length_weight=2.0)
    make = functools.partial(model.Training, Architecture(32, 3, 256, 8, 2), params, precision=precision)
    assert_stays_on_the_device(lambda device: make(device=device), (8, 3, 32, 32))


def test_few_images_are_augmented_and_many_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(model, "fit", lambda *given, encoding: seen.append(given[4].args[1].augment))
    monkeypatch.setattr(model, "FEW_IMAGES", 9)
    for n, given in ((8, None), (9, None), (9, True), (8, False)):
        model.train(make_discs(n), tmp_path, dataclasses.replace(SMALL, augment=given))
    assert seen == [True, False, True, False]


def test_the_weight_of_r1_follows_the_size() -> None:
    for side, weight in ((256, 8.0), (64, 0.5)):
        params = dataclasses.replace(SMALL, gamma=None)
        training = model.Training(Architecture(side, 3, 256, 8, 2), params, CPU, torch.float32)
        assert training.gamma == weight
