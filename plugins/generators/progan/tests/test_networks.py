# ruff: noqa: E402 (imports follow the check for torch)
"""The networks against the definitions in the paper."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.progressive import GrowingDiscriminator, upscale
from synthkit_progan.networks import Architecture, Generator, pixel_norm
from torch import nn

SMALL = Architecture(32, 3, channel_base=256, channel_max=8)
#: Feature maps of the paper's table 2 at 4, 8, ... 1024.
FEATURES = (512, 512, 512, 512, 256, 128, 64, 32, 16)


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _by_hand(levels: int, channels: int) -> tuple[int, int]:
    """Generator and discriminator, layer by layer."""
    generator = (16 * 512 + 1) * 512 + (9 * 512 + 1) * 512
    discriminator = (9 * 513 + 1) * 512 + (16 * 512 + 1) * 512 + (512 + 1)
    for coarse, fine in itertools.pairwise(FEATURES[:levels]):
        generator += (9 * coarse + 1) * fine + (9 * fine + 1) * fine
        discriminator += (9 * fine + 1) * fine + (9 * fine + 1) * coarse
    images = sum((f + 1) * channels for f in FEATURES[:levels]), sum((channels + 1) * f for f in FEATURES[:levels])
    return generator + images[0], discriminator + images[1]


@pytest.mark.parametrize(
    ("size", "channels", "generator", "discriminator"),
    [(1024, 3, 23_079_115, 23_087_249), (512, 5, 23_077_192, 23_085_281), (256, 5, 23_049_315, 23_057_345)],
)
def test_parameter_counts_are_those_of_the_paper(size: int, channels: int, generator: int, discriminator: int) -> None:
    """23.1 million each at 1024 (table 2; the generator's image layers of all resolutions included)."""
    architecture = Architecture(size, channels)
    assert _by_hand(len(architecture.resolutions), channels) == (generator, discriminator)
    with torch.device("meta"):
        assert _count(Generator(architecture)) == generator
        assert _count(GrowingDiscriminator(architecture, smooth=False)) == discriminator


def test_pixel_norm_by_hand() -> None:
    """(3, 4) has mean square 12.5."""
    x = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(pixel_norm(x).flatten(), torch.tensor([3.0, 4.0]) / 12.5**0.5)
    torch.testing.assert_close(pixel_norm(x * 7), pixel_norm(x))


def test_the_first_layer_is_a_convolution_of_the_padded_latent() -> None:
    torch.manual_seed(0)
    layer = Generator(SMALL).first
    nn.init.normal_(layer.bias)
    z = torch.randn(2, 8)
    kernel = (layer.weight * (2 / (8 * 16)) ** 0.5).transpose(0, 1).flip(2, 3)
    expected = nn.functional.conv2d(z[:, :, None, None], kernel, layer.bias, padding=3)
    torch.testing.assert_close(layer(z), pixel_norm(nn.functional.leaky_relu(expected, 0.2)))


def test_the_generator_grows() -> None:
    torch.manual_seed(0)
    generator, z = Generator(SMALL), torch.randn(2, 8)
    for level, side in enumerate(SMALL.resolutions):
        assert generator(z, level, 1.0).shape == (2, 3, side, side)
    coarse, fine, half = (generator(z, *at) for at in ((2, 1.0), (3, 1.0), (3, 0.5)))
    torch.testing.assert_close(generator(z, 3, 0.0), upscale(coarse, 32))
    torch.testing.assert_close(half, (upscale(coarse, 32) + fine) / 2)
    torch.testing.assert_close(generator(z * 5, 3, 1.0), fine, rtol=1e-3, atol=1e-3)


def test_reduced_precision_is_close() -> None:
    torch.manual_seed(0)
    generator, z = Generator(SMALL), torch.randn(2, 8)
    exact, reduced = generator(z, 3, 0.5), generator(z, 3, 0.5, torch.bfloat16)
    assert reduced.dtype == torch.float32
    assert 0 < float(((exact - reduced).abs().mean() / exact.abs().mean()).detach()) < 0.05
