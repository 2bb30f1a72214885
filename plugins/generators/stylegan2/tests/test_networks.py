# ruff: noqa: E402 (imports follow the check for torch)
"""The networks against their definitions in the papers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import torch.nn.functional as F
from synthkit_generative.resampling import upsample
from synthkit_stylegan2 import networks
from synthkit_stylegan2.networks import Architecture, Discriminator, Generator


@pytest.mark.parametrize(
    ("channel_base", "generator", "discriminator"),
    [(16384, 24_772_464, 24_001_217), (32768, 30_040_240, 28_864_385)],
)
def test_parameter_counts_are_those_of_the_published_networks(
    channel_base: int, generator: int, discriminator: int
) -> None:
    architecture = Architecture(size=256, channels=5, channel_base=channel_base, channel_max=512, mapping_layers=8)
    with torch.device("meta"):
        assert sum(p.numel() for p in Generator(architecture).parameters()) == generator
        assert sum(p.numel() for p in Discriminator(architecture).parameters()) == discriminator


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_convolution_is_the_weight_definition(demodulate: bool) -> None:
    """[2] equations 1 to 3, one weight tensor a sample."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=random)
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64, generator=random)
    style = torch.randn(3, 4, dtype=torch.float64, generator=random)
    result = networks.modulated_conv(x, weight, style)
    if demodulate:
        result = result * networks.demodulation(weight, style)[:, :, None, None]
    for n in range(3):
        modulated = style[n][None, :, None, None] * weight  # eq. 1
        if demodulate:
            modulated = modulated / (modulated.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()  # eq. 3
        expected = F.conv2d(x[n : n + 1], modulated, padding=1)
        torch.testing.assert_close(result[n : n + 1], expected, rtol=1e-10, atol=1e-10)


def test_upsampling_convolution_is_upsampling_then_convolution_inside() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=random)
    weight = torch.randn(5, 4, 3, 3, dtype=torch.float64, generator=random)
    style = torch.randn(2, 4, dtype=torch.float64, generator=random)
    result = networks.modulated_conv(x, weight, style, up=True)
    expected = networks.modulated_conv(upsample(x), weight, style)
    assert result.shape == expected.shape == (2, 5, 16, 16)
    torch.testing.assert_close(result[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("channels", [2, 5])
def test_shapes(size: int, channels: int) -> None:
    architecture = Architecture(size, channels, channel_base=512, channel_max=8, mapping_layers=2)
    generator, discriminator = Generator(architecture), Discriminator(architecture)
    noise = [torch.randn(2, 1, side, side) for side in architecture.noise_sizes]
    assert len(noise) == len(generator.convs)
    image = generator(torch.randn(2, 8), noise)
    assert image.shape == (2, channels, size, size)
    assert discriminator(image).shape == (2,)


def test_activations_keep_their_variance_at_the_start() -> None:
    """Equalised learning rate and demodulation keep signals of order one through all layers."""
    torch.manual_seed(0)
    architecture = Architecture(64, 5, channel_base=2048, channel_max=64, mapping_layers=4)
    generator = Generator(architecture)
    deviations = []
    for conv in generator.convs:
        conv.register_forward_hook(lambda _m, _i, output: deviations.append(float(output.detach().std())))
    generator(torch.randn(8, 64), [torch.zeros(8, 1, side, side) for side in architecture.noise_sizes])
    assert all(0.3 < deviation < 3 for deviation in deviations), deviations


def test_truncation_shrinks_towards_the_mean() -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(32, 2, channel_base=512, channel_max=8, mapping_layers=2))
    noise = [torch.zeros(4, 1, side, side) for side in generator.architecture.noise_sizes]
    z = torch.randn(4, 8)
    mean = generator.mapping(torch.randn(1000, 8)).mean(dim=0)
    centre = generator.synthesis(mean.expand(1, generator.architecture.styles, -1), [n[:1] for n in noise])
    torch.testing.assert_close(generator(z, noise, mean, psi=0.0), centre.expand(4, -1, -1, -1))
    torch.testing.assert_close(generator(z, noise, mean, psi=1.0), generator(z, noise))
    spread = [float(generator(z, noise, mean, psi=psi).detach().std(dim=0).mean()) for psi in (0.25, 0.5, 1.0)]
    assert spread[0] < spread[1] < spread[2]


def test_reduced_precision_is_close() -> None:
    torch.manual_seed(0)
    architecture = Architecture(64, 3, channel_base=1024, channel_max=16, mapping_layers=2)
    generator, discriminator = Generator(architecture), Discriminator(architecture)
    noise = [torch.randn(2, 1, side, side) for side in architecture.noise_sizes]
    w = generator.mapping(torch.randn(2, 16))[:, None].expand(-1, architecture.styles, -1)
    exact = generator.synthesis(w, noise)
    reduced = generator.synthesis(w, noise, torch.bfloat16)
    assert reduced.dtype == torch.float32
    assert float(((exact - reduced).abs().mean() / exact.abs().mean()).detach()) < 0.05
    assert float((discriminator(exact) - discriminator(exact, torch.bfloat16)).abs().max().detach()) < 0.2
