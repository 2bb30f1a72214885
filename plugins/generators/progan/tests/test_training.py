# ruff: noqa: E402 (imports follow the check for torch)
"""Losses against closed forms; steps that do not depend on parts; training that resumes exactly while it grows."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import load_file
from synthkit_generative.testing import (
    assert_begins_with,
    assert_is_made_longer_exactly,
    assert_keeps_frozen_layers,
    assert_like_discs,
    assert_microbatches_agree,
    assert_processes_agree,
    assert_resumes_exactly,
    assert_takes_a_step_at,
    killed_after,
    make_discs,
    stacked,
)
from synthkit_progan import Params, model
from synthkit_progan.networks import Architecture
from synthkit_torch.on_device import assert_stays_on_the_device

from synthkit.errors import DataError, UsageError

#: Growing from 4 to 32: 24 images, 16 + 24, 16 + 24, 16 and the rest.
SMALL = Params(
    kimg=0.16,
    fade_kimg=0.016,
    stable_kimg=0.024,
    batch_size=8,
    channel_base=256,
    channel_max=8,
    checkpoint_kimg=0.024,
)
CPU = torch.device("cpu")


def _training(params: Params = SMALL) -> model.Training:
    return model.Training(Architecture(32, 3, 256, 8), params, CPU, torch.float32)


def _gradients(network: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_a_step_at_512_pixels() -> None:
    training = model.Training(Architecture(512, 5, 512, 8), SMALL, CPU, torch.float32)
    training.step = 10**6  # grown
    assert_takes_a_step_at(512, training)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    assert_processes_agree(
        model.train, tmp_path, dataclasses.replace(SMALL, ema_kimg=0.0, kimg=0.056, fade_kimg=0.008, stable_kimg=0.008)
    )


def test_gradient_penalty_of_a_linear_discriminator() -> None:
    """D(x) = <a, x> has the slope |a| everywhere."""
    direction = torch.randn(3, 8, 8, dtype=torch.float64)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    penalty = model.gradient_penalty((images * direction).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, (direction.norm() - 1).square().expand(4))


def test_gradient_penalty_of_a_quadratic_discriminator_and_its_derivative() -> None:
    """D(x) = a |x|^2 / 2 has the slope a |x|: the penalty is (a |x| - 1)^2, its derivative by a 2 |x| (a |x| - 1)."""
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    norm = images.detach().flatten(1).norm(dim=1)
    penalty = model.gradient_penalty(scale / 2 * images.square().sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty.detach(), (3 * norm - 1).square())
    penalty.sum().backward()
    torch.testing.assert_close(scale.grad, (2 * norm * (3 * norm - 1)).sum())


def test_the_discriminator_learns_the_formula_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """D(fake) - D(real) + 10 (|dD/dx| - 1)^2 between them + 0.001 D(real)^2."""
    training = _training()
    random = torch.Generator().manual_seed(0)
    real, z, mix = (torch.rand(*shape, generator=random) for shape in ((4, 3, 16, 16), (4, 8), (4, 1, 1, 1)))
    monkeypatch.setattr(training.optimisers["discriminator"], "step", lambda: None)
    loss, mean_penalty = training._discriminator_step(real, z, mix, 2, 0.5)
    found = _gradients(training.discriminator)

    training.discriminator.zero_grad()
    fake = training.generator(z, 2, 0.5).detach()
    of_real, of_fake = training.discriminator(real, 2, 0.5), training.discriminator(fake, 2, 0.5)
    between = ((1 - mix) * real + mix * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(training.discriminator(between, 2, 0.5).sum(), between, create_graph=True)
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    wasserstein = of_fake.mean() - of_real.mean()
    (wasserstein + 10 * penalty + 0.001 * of_real.square().mean()).backward()
    torch.testing.assert_close(loss, wasserstein.detach())
    torch.testing.assert_close(mean_penalty, penalty.detach())
    for a, b in zip(found, _gradients(training.discriminator), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_generator_learns_to_raise_its_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _training()
    z = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    expected = -training.discriminator(training.generator(z, 2, 1.0), 2, 1.0).mean().detach()
    torch.testing.assert_close(training._generator_step(z, 2, 1.0), expected)
    for _ in range(10):
        training._generator_step(z, 2, 1.0)
    assert training.discriminator(training.generator(z, 2, 1.0), 2, 1.0).mean() > -expected


def test_microbatches_give_the_same_step() -> None:
    assert_microbatches_agree(
        lambda accumulate: _training(dataclasses.replace(SMALL, batch_size=16, accumulate=accumulate))
    )


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    # While 8 fades in, and while 32 does.
    assert_resumes_exactly(lambda data, folder: model.train(data, folder, SMALL), tmp_path, kills=(32, 112))


def test_a_training_is_made_longer_and_another_begins_with_it(tmp_path: Path) -> None:
    assert_is_made_longer_exactly(model.train, tmp_path, SMALL, shorter_kimg=0.128)
    assert_begins_with(model.train, tmp_path / "short", tmp_path, dataclasses.replace(SMALL, kimg=0.016))
    tuned = dataclasses.replace(SMALL, kimg=0.032, checkpoint_kimg=0.008, frozen_layers=2)
    unchanged = ("from_image.", "blocks.2.conv0.")  # idle: those of coarser images
    assert_keeps_frozen_layers(model.train, tmp_path / "short", tmp_path, tuned, unchanged)


def test_an_unfinished_training_draws_what_it_has_grown_to(tmp_path: Path) -> None:
    """Saved at 4 x 4: its samples are of full size, in blocks of 8 x 8 pixels."""
    params = dataclasses.replace(SMALL, background_zero=False)
    with killed_after(32):
        model.train(make_discs(20), tmp_path, params)
    images, _ = stacked(model.generate(tmp_path, range(2), params))
    blocks = images.reshape(2, 2, 4, 8, 4, 8)
    assert images.shape == (2, 2, 32, 32) and (blocks == blocks[:, :, :, :1, :, :1]).all()


def test_training_changes_every_weight(tmp_path: Path) -> None:
    """A layer that is not connected, or not trained, would keep its start."""
    model.train(make_discs(16), tmp_path, dataclasses.replace(SMALL, ema_kimg=0.0))
    start, end = _training().generator.state_dict(), load_file(tmp_path / "generator.safetensors")
    assert start.keys() == end.keys() - {"growth"}
    assert [name for name in start if torch.equal(start[name], end[name])] == []
    assert end["growth"].tolist() == [3, 1.0]


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="48 x 48"):
        model.train(make_discs(8, size=48), tmp_path, SMALL)
    with pytest.raises(UsageError, match="before the finest resolution"):
        model.train(make_discs(8), tmp_path, dataclasses.replace(SMALL, kimg=0.04))
    with pytest.raises(UsageError, match="multiple of 12"):
        model.train(make_discs(8), tmp_path, dataclasses.replace(SMALL, accumulate=3))


@pytest.mark.slow
def test_labels_follow_the_bright_disc(tmp_path: Path) -> None:
    params = Params(
        kimg=7,
        fade_kimg=0.25,
        stable_kimg=0.25,
        batch_size=16,
        channel_base=256,
        channel_max=32,
        ema_kimg=0.5,
        learning_rate=0.003,
    )
    model.train(make_discs(512), tmp_path, params)
    assert_like_discs(*stacked(model.generate(tmp_path, range(64), params)), overlap=0.8)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_needs_nothing_of_the_host(precision: torch.dtype) -> None:
    make = functools.partial(model.Training, Architecture(32, 3, 256, 8), SMALL, precision=precision)
    assert_stays_on_the_device(lambda device: make(device=device), (8, 3, 32, 32))
