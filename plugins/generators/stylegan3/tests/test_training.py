# ruff: noqa: E402 (imports follow the check for torch)
"""Training that resumes exactly, in parts or at once; samples that belong to their seed."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file
from synthkit_generative import testing
from synthkit_stylegan3 import Params, model
from synthkit_torch.on_device import assert_stays_on_the_device

SMALL = Params(kimg=0.032, batch_size=4, channel_base=128, channel_max=8, latent=8, gamma=0.1, checkpoint_kimg=0.012)


@pytest.fixture(scope="module", params=["t", "r"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    folder, params = tmp_path_factory.mktemp("checkpoint"), dataclasses.replace(SMALL, config=request.param)
    model.train(testing.make_discs(12), folder, params)
    return folder, params


@pytest.mark.parametrize("config", ["t", "r"])
def test_a_step_at_512_pixels(config: str) -> None:
    params = dataclasses.replace(SMALL, config=config, channel_base=512, channel_max=4)
    architecture = model.make_architecture(512, 5, params)
    training = model.Training(architecture, params, torch.device("cpu"), torch.float32)
    testing.assert_takes_a_step_at(512, training)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    testing.assert_processes_agree(model.train, tmp_path, dataclasses.replace(SMALL, kimg=0.016, batch_size=8))


def test_a_resumed_training_ends_with_the_same_weights(trained: tuple[Path, Params], tmp_path: Path) -> None:
    whole, params = trained
    with testing.killed_after(20):
        model.train(testing.make_discs(12), tmp_path, params)
    assert (tmp_path / "state" / "training.safetensors").exists()
    model.train(testing.make_discs(12), tmp_path, params)
    expected, resumed = (load_file(folder / "generator.safetensors") for folder in (whole, tmp_path))
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())


def test_training_changes_every_weight_and_magnitude(trained: tuple[Path, Params]) -> None:
    folder, params = trained
    architecture = model.Architecture(**json.loads((folder / "config.json").read_text())["architecture"])
    start = model.Training(architecture, params, torch.device("cpu"), torch.float32).generator.state_dict()
    end = load_file(folder / "generator.safetensors")
    assert start.keys() == end.keys() - {"w_mean"}
    fixed = {"features.frequencies", "features.phases"}
    assert {name for name in start if torch.equal(start[name], end[name])} == fixed


@pytest.mark.parametrize("config", ["t", "r"])
def test_parts_of_a_batch_add_up(config: str) -> None:
    params = dataclasses.replace(SMALL, config=config, batch_size=8)
    architecture = model.make_architecture(32, 2, params)
    images = torch.rand(8, 2, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ends = []
    for accumulate in (1, 2):
        parted = dataclasses.replace(params, accumulate=accumulate)
        training = model.Training(architecture, parted, torch.device("cpu"), torch.float32)
        losses = [training.training_step(images) for _ in range(2)]
        ends.append((losses, training.generator.layers[5].magnitude.clone()))
    for name in ends[0][0][1]:
        torch.testing.assert_close(ends[0][0][1][name], ends[1][0][1][name], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=1e-4, atol=0.0)


def test_the_blur_of_config_r_fades() -> None:
    params = Params(config="r", batch_size=10, blur_kimg=0.2, channel_base=64, channel_max=4, latent=4)
    training = model.Training(model.make_architecture(32, 2, params), params, torch.device("cpu"), torch.float32)
    sigmas = []
    for training.step in (0, 10, 20, 30):
        sigmas.append(training.sigma)
    assert sigmas == [1.25, 0.625, 0.0, 0.0]  # 10 pixels at 256
    training.params = dataclasses.replace(params, config="t")
    training.step = 0
    assert training.sigma == 0


def test_blur_of_a_point_is_a_gaussian() -> None:
    image = torch.zeros(1, 1, 33, 33)
    image[0, 0, 16, 16] = 1
    blurred = model.blur(image, 2.0)[0, 0]
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-4)
    distances = torch.arange(33) - 16.0
    assert float((blurred.sum(dim=0) * distances.square()).sum()) == pytest.approx(4, rel=1e-3)
    torch.testing.assert_close(model.blur(torch.ones(1, 1, 32, 32), 5.0), torch.ones(1, 1, 32, 32))


def test_samples_belong_to_their_seed(trained: tuple[Path, Params]) -> None:
    folder, params = trained
    images, labels = testing.stacked(model.generate(folder, [7, 1, 2**40], params))
    assert images.shape == (3, 2, 32, 32) and set(np.unique(labels)) <= {0, 4}
    again, _ = testing.stacked(model.generate(folder, [2**40, 7], params))
    np.testing.assert_array_equal(again, images[[2, 0]])
    generator, w_mean, _ = model._load(folder, torch.device("cpu"))
    drawn = [model.sample(generator, w_mean, [seed], 1.0) for seed in (0, 1, 2**32, 2**40, 2**64)]
    assert len({image.numpy().tobytes() for image in drawn}) == 5  # all bits of a seed count


def test_generation_leaves_the_callers_random_state_alone(trained: tuple[Path, Params]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(model.generate(trained[0], [1], trained[1]))
    assert torch.equal(before, torch.get_rng_state())


def test_a_training_is_made_longer_and_another_begins_with_it(tmp_path: Path) -> None:
    testing.assert_is_made_longer_exactly(model.train, tmp_path, SMALL, shorter_kimg=0.02)
    testing.assert_begins_with(model.train, tmp_path / "short", tmp_path, dataclasses.replace(SMALL, kimg=0.008))
    tuned = dataclasses.replace(SMALL, kimg=0.016, checkpoint_kimg=0.004, frozen_layers=2)
    unchanged = ("from_image.", "blocks.0.conv0.")
    testing.assert_keeps_frozen_layers(model.train, tmp_path / "short", tmp_path, tuned, unchanged)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("radial", [False, True])
def test_a_step_needs_nothing_of_the_host(precision: torch.dtype, radial: bool) -> None:
    architecture = model.Architecture(32, 3, 256, 16, 16, 2, kernel=1 if radial else 3, radial=radial)
    make = functools.partial(model.Training, architecture, Params(batch_size=8), precision=precision)
    assert_stays_on_the_device(lambda device: make(device=device), (8, 3, 32, 32))
