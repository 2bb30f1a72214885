# ruff: noqa: E402 (imports follow the check for torch)
"""Losses against their formulas; steps that do not depend on parts; training that resumes exactly while it grows."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
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
from synthkit_stylegan1 import Params, model
from synthkit_stylegan1.networks import Architecture
from synthkit_torch.on_device import assert_stays_on_the_device

from synthkit.errors import DataError, UsageError

#: Growing from 8 to 32: 40 images, 24 + 40, 24 and the rest.
SMALL = Params(
    kimg=0.16,
    fade_kimg=0.024,
    stable_kimg=0.04,
    batch_size=8,
    channel_base=256,
    channel_max=8,
    mapping_layers=2,
    gamma=1.0,
    checkpoint_kimg=0.024,
)
CPU = torch.device("cpu")


def _training(params: Params = SMALL) -> model.Training:
    return model.Training(Architecture(32, 3, 256, 8, 2), params, CPU, torch.float32)


def _gradients(network: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_a_step_at_512_pixels() -> None:
    training = model.Training(Architecture(512, 5, 512, 8, 2), SMALL, CPU, torch.float32)
    training.step = 10**6  # grown
    assert_takes_a_step_at(512, training)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    assert_processes_agree(
        model.train, tmp_path, dataclasses.replace(SMALL, ema_kimg=0.0, kimg=0.024, fade_kimg=0.004, stable_kimg=0.004)
    )


def test_the_discriminator_learns_the_formula_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """-log(1 - s(D(fake))) - log s(D(real)) + gamma / 2 |dD/dx|^2, where s is the sigmoid."""
    training = _training()
    random = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(4, 3, 16, 16, generator=random) for _ in range(2))
    monkeypatch.setattr(training.optimisers["discriminator"], "step", lambda: None)
    loss, penalty = training._discriminator_step([real], iter([fake]), 2, 0.5)
    found = _gradients(training.discriminator)

    training.discriminator.zero_grad()
    shown = real.clone().requires_grad_(True)
    of_real, of_fake = training.discriminator(shown, 2, 0.5), training.discriminator(fake, 2, 0.5)
    (slope,) = torch.autograd.grad(of_real.sum(), shown, create_graph=True)
    logistic = (-torch.log(torch.sigmoid(of_real)) - torch.log(1 - torch.sigmoid(of_fake))).mean()
    squared = slope.square().sum() / 4
    (logistic + SMALL.gamma / 2 * squared).backward()
    torch.testing.assert_close(loss, logistic.detach())
    torch.testing.assert_close(penalty, squared.detach())
    for a, b in zip(found, _gradients(training.discriminator), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_generator_loss_is_non_saturating(monkeypatch: pytest.MonkeyPatch) -> None:
    """A discriminator that scores 0 gives log 2, and one that is certain of a fake (-20) still gives a loss of 20."""
    training = _training()
    monkeypatch.setattr(training, "_discriminator_step", lambda *_: (torch.zeros(()), torch.zeros(())))
    for score, loss in ((0.0, np.log(2)), (-20.0, 20.0)):
        monkeypatch.setattr(
            training.discriminator, "forward", lambda images, *_, score=score: images.mean(dim=(1, 2, 3)) * 0 + score
        )
        values = training.update(torch.zeros(8, 3, 8, 8), 1, 1.0, torch.Generator().manual_seed(0))
        assert float(values["loss_g"]) == pytest.approx(loss, rel=1e-4)


def test_microbatches_give_the_same_step() -> None:
    assert_microbatches_agree(
        lambda accumulate: _training(dataclasses.replace(SMALL, batch_size=16, accumulate=accumulate)), tolerance=0
    )


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    # While 16 fades in, and while 32 does.
    assert_resumes_exactly(lambda data, folder: model.train(data, folder, SMALL), tmp_path, kills=(56, 112))


def test_a_training_is_made_longer_and_another_begins_with_it(tmp_path: Path) -> None:
    assert_is_made_longer_exactly(model.train, tmp_path, SMALL, shorter_kimg=0.136)
    assert_begins_with(model.train, tmp_path / "short", tmp_path, dataclasses.replace(SMALL, kimg=0.016))
    tuned = dataclasses.replace(SMALL, kimg=0.032, checkpoint_kimg=0.008, frozen_layers=2)
    unchanged = ("from_image.", "blocks.2.conv0.")  # idle: those of coarser images
    assert_keeps_frozen_layers(model.train, tmp_path / "short", tmp_path, tuned, unchanged)


def test_an_unfinished_training_draws_what_it_has_grown_to(tmp_path: Path) -> None:
    """Saved at 8 x 8: its samples are of full size, in blocks of 4 x 4 pixels."""
    params = dataclasses.replace(SMALL, background_zero=False)
    with killed_after(40):
        model.train(make_discs(20), tmp_path, params)
    images, _ = stacked(model.generate(tmp_path, range(2), params))
    blocks = images.reshape(2, 2, 8, 4, 8, 4)
    assert images.shape == (2, 2, 32, 32) and (blocks == blocks[:, :, :, :1, :, :1]).all()


def test_training_changes_every_weight_of_the_finest_level(tmp_path: Path) -> None:
    """A layer that is not connected, or not trained, would keep its start; only the images of 4 x 4 are never drawn."""
    model.train(make_discs(16), tmp_path, dataclasses.replace(SMALL, ema_kimg=0.0))
    start, end = _training().generator.state_dict(), load_file(tmp_path / "generator.safetensors")
    assert start.keys() == end.keys() - {"w_mean", "growth"}
    unchanged = {name for name in start if torch.equal(start[name], end[name])}
    assert unchanged == {"to_image.0.weight", "to_image.0.bias"}
    assert end["growth"].tolist() == [3, 1.0]


def test_latents_are_mixed_from_a_layer_on() -> None:
    training = _training(dataclasses.replace(SMALL, style_mixing=1.0))
    ((z, mixed, start, *noise),) = training._inputs(8, 2, torch.Generator().manual_seed(0))
    assert mixed.all() and len(noise) == 6 and int(start.min()) >= 1 and int(start.max()) <= 5
    first, second = training.generator.mapping(z[:, 0]), training.generator.mapping(z[:, 1])
    seen = []
    training.generator.synthesis = lambda w, *_: seen.append(w)
    training._generate((z, mixed, start, *noise), 2, 1.0)
    for row in range(8):
        for style in range(6):
            expected = (second if style >= int(start[row]) else first)[row]
            assert torch.allclose(seen[0][row, style], expected)


def test_truncation_pulls_samples_together(tmp_path: Path) -> None:
    model.train(make_discs(8), tmp_path, SMALL)
    spreads = []
    for psi in (0.0, 1.0):
        params = dataclasses.replace(SMALL, truncation_psi=psi)
        images, _ = stacked(model.generate(tmp_path, range(4), params))
        spreads.append(images.astype(float).std(axis=0).mean())
    assert spreads[0] < spreads[1]


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
        kimg=8,
        fade_kimg=0.3,
        stable_kimg=0.3,
        batch_size=16,
        channel_base=256,
        channel_max=32,
        ema_kimg=0.5,
        learning_rate=0.004,
        mapping_layers=2,
        gamma=0.5,
        truncation_psi=1.0,
        style_mixing=0.0,
    )
    model.train(make_discs(512), tmp_path, params)
    assert_like_discs(*stacked(model.generate(tmp_path, range(64), params)), overlap=0.6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_a_step_needs_nothing_of_the_host(precision: torch.dtype) -> None:
    make = functools.partial(model.Training, Architecture(32, 3, 256, 8, 2), SMALL, precision=precision)
    assert_stays_on_the_device(lambda device: make(device=device), (8, 3, 32, 32))


def test_the_weight_of_r1_follows_the_size() -> None:
    for side, weight in ((256, 10.0), (64, 0.625)):
        params = dataclasses.replace(SMALL, gamma=None)
        training = model.Training(Architecture(side, 3, 256, 8, 2), params, CPU, torch.float32)
        assert training.gamma == weight
