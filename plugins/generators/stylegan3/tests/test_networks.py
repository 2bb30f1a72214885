# ruff: noqa: E402 (imports follow the check for torch)
"""The generator: its size, its input, and that images move and turn with it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_stylegan3 import Params, equivariance
from synthkit_stylegan3.model import make_architecture
from synthkit_stylegan3.networks import FourierFeatures, Generator
from synthkit_stylegan3.schedule import Architecture


@pytest.mark.parametrize(("config", "parameters"), [("t", 28_472_391), ("r", 18_816_901)])
def test_parameter_counts_are_those_of_the_published_networks(config: str, parameters: int) -> None:
    with torch.device("meta"):
        generator = Generator(make_architecture(256, 5, Params(config=config)))
    assert sum(p.numel() for p in generator.parameters()) == parameters


def _tiny(config: str, size: int = 32, channels: int = 3) -> Generator:
    torch.manual_seed(0)
    params = Params(config=config, channel_base=512, channel_max=16, latent=16)
    return Generator(make_architecture(size, channels, params)).requires_grad_(False)


@pytest.mark.parametrize(("config", "size", "channels"), [("t", 32, 2), ("r", 32, 5), ("t", 64, 5)])
def test_shapes(config: str, size: int, channels: int) -> None:
    image = _tiny(config, size, channels)(torch.randn(2, 16))
    assert image.shape == (2, channels, size, size) and image.dtype == torch.float32


def test_fourier_features_are_band_limited_waves() -> None:
    torch.manual_seed(0)
    maps = Architecture(64, 2, channel_max=64).maps[0]
    features = FourierFeatures(maps, 8)
    assert float(features.frequencies.norm(dim=1).max()) <= maps.cutoff
    # Uniform in a disc: half of them lie within 1 / sqrt(2) of its radius.
    assert 16 <= int((features.frequencies.norm(dim=1) < maps.cutoff / 2**0.5).sum()) <= 48
    with torch.no_grad():
        features.weight.copy_(torch.eye(64) / features.gain)
        waves = features(torch.randn(1, 8), torch.eye(2, 3))[0]
    # The wave of the first frequency at pixel (row 3, column 7), a rate of 16 samples a side, centre of 36 at 17.5.
    (fx, fy), phase = features.frequencies[0].tolist(), float(features.phases[0])
    expected = np.sin(2 * np.pi * (fx * (7 - 17.5) / 16 + fy * (3 - 17.5) / 16 + phase))
    assert float(waves[0, 3, 7]) == pytest.approx(expected, abs=1e-5)


def test_learned_motion_is_a_pose() -> None:
    """w that asks for a quarter turn and a shift gives what that pose gives to a w that asks for none."""
    torch.manual_seed(0)
    features = FourierFeatures(Architecture(64, 2, channel_max=16).maps[0], 8).requires_grad_(False)
    still = features(torch.zeros(1, 8), torch.tensor([[0.0, -1.0, -0.2], [1.0, 0.0, 0.1]]))
    # Twice the length, which does not matter; the position is R (p - t) with R t = (0.2, -0.1).
    features.motion.bias.copy_(2 * torch.tensor([0.0, 1.0, -0.1, -0.2]))
    torch.testing.assert_close(features(torch.zeros(1, 8), torch.eye(2, 3)), still, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", ["t", "r"])
def test_images_move_with_the_input_and_turn_with_it_in_config_r(config: str) -> None:
    generator = _tiny(config)
    w = generator.mapping(torch.randn(3, 16))
    # Unit variance, so that a decibel means the same for every network.
    generator.to_image.weight /= generator.synthesis(w).std()
    moved = equivariance.translation(generator, w, np.random.default_rng(0))
    turned = equivariance.rotation(generator, w, np.random.default_rng(0))
    assert (moved > 70 and turned > 50) if config == "r" else (moved > 40 and turned < 25), (moved, turned)


def test_without_filters_details_stick_to_pixels() -> None:
    """The measure sees aliasing: the same network with a plain non-linearity in its critically sampled layers."""
    generator = _tiny("t")
    w = generator.mapping(torch.randn(2, 16))
    exact = equivariance.translation(generator, w, np.random.default_rng(0))
    for layer in generator.layers[:-1]:
        activation = layer.activation
        activation.up = torch.eye(activation.up.shape[1]).repeat_interleave(2, dim=0)[: activation.down.shape[2]]
        activation.up = torch.nn.functional.pad(activation.up, (0, 0, 0, activation.down.shape[2] - len(activation.up)))
    assert equivariance.translation(generator, w, np.random.default_rng(0)) < exact - 10


def test_interpolation_at_pixels_and_of_a_wave() -> None:
    axis = np.arange(48) - 23.5
    x, y = np.meshgrid(axis, axis)

    def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * (0.12 * x + 0.2 * y))

    positions = np.random.default_rng(0).uniform(-12, 12, (50, 2))
    found = equivariance.interpolate(torch.tensor(wave(x, y)[None]), positions)[0].numpy()
    np.testing.assert_allclose(found, wave(*positions.T), atol=0.01)


def test_magnitudes_are_seen_and_followed() -> None:
    generator = _tiny("t")
    w = generator.mapping(torch.randn(2, 16))
    seen: list[torch.Tensor] = []
    generator.synthesis(w, magnitudes=seen)
    features = generator.features(w, torch.eye(2, 3))
    assert len(seen) == 15 and float(seen[0]) == pytest.approx(float(features.square().mean()), rel=1e-4)
    generator.update_magnitude_ema(torch.stack(seen), 0.75)
    assert float(generator.layers[0].magnitude) == pytest.approx(0.75 + 0.25 * float(seen[0]), rel=1e-4)
    # A layer's output before the bias is divided by the root of its magnitude: four times it halves the image.
    generator.to_image.bias.zero_()
    image = generator.synthesis(w)
    generator.to_image.magnitude *= 4
    torch.testing.assert_close(generator.synthesis(w), image / 2)


def test_truncation_shrinks_towards_the_mean() -> None:
    generator = _tiny("t")
    z = torch.randn(4, 16)
    mean = generator.mapping(torch.randn(1000, 16)).mean(dim=0)
    centre = generator.synthesis(mean[None])
    torch.testing.assert_close(generator(z, mean, psi=0.0), centre.expand(4, -1, -1, -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(generator(z, mean, psi=1.0), generator(z))
    halfway = generator.synthesis((mean + generator.mapping(z)) / 2)
    torch.testing.assert_close(generator(z, mean, psi=0.5), halfway, rtol=1e-4, atol=1e-5)


def test_reduced_precision_is_close() -> None:
    generator = _tiny("t")
    w = generator.mapping(torch.randn(2, 16))
    exact, reduced = generator.synthesis(w), generator.synthesis(w, torch.bfloat16)
    assert reduced.dtype == torch.float32
    assert float((exact - reduced).abs().mean() / exact.abs().mean()) < 0.05
