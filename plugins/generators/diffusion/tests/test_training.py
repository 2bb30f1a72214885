# ruff: noqa: E402 (imports follow the check for torch)
"""Training that resumes exactly, in parts or at once; samples that belong to their seed; official weights."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file
from synthkit_diffusion import Params, model
from synthkit_generative import testing
from synthkit_generative.unet import Architecture, UNet
from synthkit_torch.on_device import assert_stays_on_the_device

from synthkit import events
from synthkit.data.dataset import Dataset
from synthkit.errors import DataError, ExitCode, UsageError

SMALL = Params(
    kimg=0.032, batch_size=4, width=8, res_blocks=1, diffusion_steps=100, sampler_steps=4, checkpoint_kimg=0.012
)


@pytest.fixture(scope="module", params=[False, True])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    folder, params = tmp_path_factory.mktemp("checkpoint"), dataclasses.replace(SMALL, learn_sigma=request.param)
    model.train(testing.make_discs(12), folder, params)
    return folder, params


def test_a_resumed_training_ends_with_the_same_weights(trained: tuple[Path, Params], tmp_path: Path) -> None:
    whole, params = trained
    with testing.killed_after(20):
        model.train(testing.make_discs(12), tmp_path, params)
    assert (tmp_path / "state" / "training.safetensors").exists()
    model.train(testing.make_discs(12), tmp_path, params)
    expected, resumed = (load_file(folder / "generator.safetensors") for folder in (whole, tmp_path))
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())


def _training(params: Params) -> model.Training:
    architecture = Architecture(32, 2, params.width, params.res_blocks, params.learn_sigma)
    return model.Training(architecture, params, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("learn_sigma", [False, True])
def test_parts_of_a_batch_add_up(learn_sigma: bool) -> None:
    images = torch.rand(8, 2, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ends = []
    for accumulate in (1, 4):
        training = _training(dataclasses.replace(SMALL, batch_size=8, accumulate=accumulate, learn_sigma=learn_sigma))
        ends.append(
            ([training.training_step(images) for _ in range(3)], training.network.out[2].weight.detach().clone())
        )
    for whole, parted in zip(ends[0][0], ends[1][0], strict=True):
        for name in whole:
            torch.testing.assert_close(whole[name], parted[name], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ends[0][1], ends[1][1], rtol=1e-2, atol=1e-5)


def test_a_step_at_512_pixels() -> None:
    training = model.Training(Architecture(512, 5, width=8, res_blocks=1), SMALL, torch.device("cpu"), torch.float32)
    testing.assert_takes_a_step_at(512, training)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    params = dataclasses.replace(SMALL, learn_sigma=True, kimg=0.012)
    testing.assert_processes_agree(model.train, tmp_path, params)


def test_an_error_of_one_process_ends_the_training(tmp_path: Path) -> None:
    data = testing.SpoiltSamples(testing.make_discs(12), 3, DataError("A shard is corrupt."))
    with testing.on_processes(2), pytest.raises(DataError, match="shard"):
        model.train(data, tmp_path, SMALL)


def test_shares_are_equal(tmp_path: Path) -> None:
    with testing.on_processes(2), pytest.raises(UsageError, match=r"2 GPUs cannot share a batch of 5.*multiple of 8"):
        model.train(testing.make_discs(12), tmp_path, dataclasses.replace(SMALL, batch_size=5))


def test_the_first_losses_are_those_of_a_network_that_finds_no_noise() -> None:
    """E |noise|^2 = 1; and with the variance half-way between its bounds, which are nearly one, next to no bits."""
    training = _training(dataclasses.replace(SMALL, learn_sigma=True, diffusion_steps=1000))
    losses = training.training_step(torch.rand(32, 2, 32, 32) * 2 - 1)
    assert float(losses["loss_noise"]) == pytest.approx(1, abs=0.02)
    assert float(losses["loss_variance"]) > 0


def test_the_loss_of_the_variance_trains_the_variance_alone() -> None:
    training = _training(dataclasses.replace(SMALL, learn_sigma=True))
    images, noise = torch.rand(4, 2, 32, 32) * 2 - 1, torch.randn(4, 2, 32, 32)
    training.losses(images, noise, torch.tensor([0, 1, 50, 99]))[1].backward()
    gradient = training.network.out[2].bias.grad
    assert not gradient[:2].any() and gradient[2:].all()


def test_the_averaged_network_follows_soon_and_remembers_long() -> None:
    training = _training(SMALL)
    before = training.ema.out[2].bias.clone()
    training.training_step(torch.rand(4, 2, 32, 32))
    now = training.network.out[2].bias
    torch.testing.assert_close(training.ema.out[2].bias, before + (now - before) * 9 / 11)


def test_samples_belong_to_their_seed(trained: tuple[Path, Params]) -> None:
    folder, params = trained
    for sampler in ("dpm++", "ddim", "ancestral"):
        params = dataclasses.replace(params, sampler=sampler)
        images, labels = testing.stacked(model.generate(folder, [7, 1, 2**40], params))
        assert images.shape == (3, 2, 32, 32) and set(np.unique(labels)) <= {0, 4}
        again, _ = testing.stacked(model.generate(folder, [2**40, 7], params))
        np.testing.assert_array_equal(again, images[[2, 0]])


def test_samples_in_a_batch_are_those_drawn_alone() -> None:
    network = UNet(Architecture(32, 2, 8, 1)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    alpha_bar = model.process.alphas_cumprod("linear", 100)
    for sampler in ("dpm++", "ancestral"):
        with torch.inference_mode():
            both = model.sample(network, "noise", alpha_bar, [3, 4], sampler, 5)
            alone = torch.cat([model.sample(network, "noise", alpha_bar, [seed], sampler, 5) for seed in (3, 4)])
        torch.testing.assert_close(both, alone, rtol=0, atol=1 / 255)


def test_a_network_of_velocity_is_drawn_as_one(tmp_path: Path) -> None:
    """What it predicts is kept in the checkpoint, whatever the parameters of generation say."""
    params = dataclasses.replace(SMALL, prediction="velocity", learn_sigma=True, sampler_steps=3)
    model.train(testing.make_discs(12), tmp_path, params)
    images, _ = testing.stacked(model.generate(tmp_path, [1], dataclasses.replace(params, background_zero=False)))
    other = dataclasses.replace(params, prediction="noise", background_zero=False)
    np.testing.assert_array_equal(testing.stacked(model.generate(tmp_path, [1], other))[0], images)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"]["prediction"] == "velocity"
    config["architecture"]["prediction"] = "image"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="predicts 'image'"):
        next(iter(model.generate(tmp_path, [1], params)))


def test_widths_that_attention_cannot_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 4"):
        model.train(testing.make_discs(4), tmp_path, dataclasses.replace(SMALL, width=5))


def test_official_weights_are_imported_and_draw(tmp_path: Path) -> None:
    network = UNet(Architecture(32, 3, width=8, res_blocks=1))
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    file = tmp_path / "ema_0.9999_030000.pt"
    torch.save(network.state_dict(), file)
    command = [sys.executable, "-m", "synthkit"]
    done = subprocess.run(
        [*command, "import-checkpoint", "diffusion", str(file), "-o", str(tmp_path / "run"), "--contrasts", "t1,t2",
         "--backend", "local"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [*command, "generate", str(tmp_path / "run"), "--seeds", "5", "-o", str(tmp_path / "syn"), "--backend", "local",
         "-p", "sampler_steps=2", "-p", "background_zero=false"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        alpha_bar = model.process.alphas_cumprod("linear", 4000)
        expected = model.sample(network, "noise", alpha_bar, [5], "dpm++", 2)
    image, _ = Dataset(tmp_path / "syn").read([0])
    grey = ((expected[0, :2] + 1) * 127.5).round().clamp(0, 255).numpy().astype(np.uint8)
    np.testing.assert_array_equal(image[0], grey)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"heads": 2},
        {"head_channels": 8},
        {"schedule": "cosine", "diffusion_steps": 1000},
        {"prediction": "velocity"},
    ],
    ids=str,
)
def test_what_a_file_does_not_tell_is_said_by_parameters(said: dict[str, Any], tmp_path: Path) -> None:
    heads = {name: value for name, value in said.items() if name.startswith("head")}
    network = UNet(Architecture(32, 2, width=16, res_blocks=1, **heads))
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    params = Params(**{"sampler_steps": 2, "background_zero": False, **said})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    with events.logging_to(tmp_path / "events.jsonl"):
        model.import_checkpoint(tmp_path / "model.pt", folder, contrasts=("t1",), label_values=(0, 4), params=params)
    text = (tmp_path / "events.jsonl").read_text()
    assert f"{params.diffusion_steps} steps of the {params.schedule} schedule" in text and params.prediction in text
    ((image, _),) = model.generate(folder, [5], params)
    with torch.inference_mode():
        alpha_bar = model.process.alphas_cumprod(params.schedule, params.diffusion_steps)
        expected = model.sample(network, params.prediction, alpha_bar, [5], "dpm++", 2)
    np.testing.assert_array_equal(image[0], ((expected[0, 0] + 1) * 127.5).round().clamp(0, 255).numpy().astype("u1"))


def test_heads_that_feature_maps_cannot_be_shared_among_are_refused(tmp_path: Path) -> None:
    torch.save(UNet(Architecture(32, 2, width=16, res_blocks=1)).state_dict(), tmp_path / "model.pt")
    with pytest.raises(DataError, match="32 feature maps are not shared out among heads of 24"):
        model.import_checkpoint(
            tmp_path / "model.pt", tmp_path, contrasts=("t1",), label_values=(0, 4), params=Params(head_channels=24)
        )


def test_other_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, file)
    with pytest.raises(DataError, match="does not hold a generator") as refused:
        model.import_checkpoint(file, tmp_path / "checkpoint", contrasts=("t1",), label_values=(0, 4))
    assert refused.value.exit_code == ExitCode.INVALID_DATA


def test_a_training_is_made_longer_and_another_begins_with_it(tmp_path: Path) -> None:
    testing.assert_is_made_longer_exactly(model.train, tmp_path, SMALL, shorter_kimg=0.02)
    testing.assert_begins_with(model.train, tmp_path / "short", tmp_path, dataclasses.replace(SMALL, kimg=0.008))


@pytest.mark.parametrize("learn_sigma", [False, True])
def test_a_step_needs_nothing_of_the_host(learn_sigma: bool) -> None:
    params = dataclasses.replace(SMALL, learn_sigma=learn_sigma)
    architecture = Architecture(32, 3, width=8, res_blocks=1, learn_sigma=learn_sigma)
    make = functools.partial(model.Training, architecture, params, precision=torch.float32)
    assert_stays_on_the_device(lambda device: make(device=device), (4, 3, 32, 32))
