# ruff: noqa: E402 (imports follow the check for torch)
"""Which layers of a discriminator are kept, and where there are none; that they stay is tested with each method."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.discriminator import Discriminator, Pyramid
from synthkit_generative.freezing import freeze, require_discriminator, without_gradients
from synthkit_generative.initial import Initial
from synthkit_generative.progressive import GrowingDiscriminator
from torch import nn

from synthkit.errors import UsageError

PYRAMID = Pyramid(16, 3, channel_base=64, channel_max=8)


def kept(network: nn.Module) -> set[str]:
    return {name.rpartition(".")[0] for name, weight in network.named_parameters() if not weight.requires_grad}


def test_layers_are_counted_from_the_image() -> None:
    network, growing = Discriminator(PYRAMID), GrowingDiscriminator(PYRAMID, smooth=True)
    freeze(network.first_layers, 5)  # the official code counts alike: from RGB, then two convolutions and a skip
    assert kept(network) == {
        "from_image",
        *(f"blocks.0.{name}" for name in ("conv0", "conv1", "skip")),
        "blocks.1.conv0",
    }
    freeze(growing.first_layers, 4)
    assert kept(growing) == {"from_image.2", "blocks.1.conv0", "blocks.1.conv1", "blocks.0.conv0"}


def test_more_layers_than_there_are_are_refused() -> None:
    layers = Discriminator(PYRAMID).first_layers
    with pytest.raises(UsageError, match="more than there are") as caught:
        freeze(layers, 8)
    assert caught.value.fix == "Give frozen_layers=7 or less."
    freeze(layers, 7)


def test_a_step_of_the_generator_leaves_frozen_layers_frozen() -> None:
    network = Discriminator(PYRAMID)
    freeze(network.first_layers, 1)
    with pytest.raises(KeyError), without_gradients(network):
        assert not any(weight.requires_grad for weight in network.parameters())
        raise KeyError
    assert kept(network) == {"from_image"}


def test_without_a_discriminator_frozen_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"frozen_layers=2.*begins anew.*--from"):
        require_discriminator(2, None)
    with pytest.raises(UsageError, match=r"without the state.*folder `state`, or give frozen_layers=0"):
        require_discriminator(2, Initial(tmp_path, tmp_path / "state"))
    require_discriminator(0, None)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "training.safetensors").touch()
    require_discriminator(2, Initial(tmp_path, tmp_path / "state"))
