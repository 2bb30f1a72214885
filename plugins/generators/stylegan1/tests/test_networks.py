# ruff: noqa: E402 (imports follow the check for torch)
"""The networks against the definitions in the papers."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.progressive import GrowingDiscriminator, upscale
from synthkit_stylegan1.networks import Architecture, Generator, adaptive_instance_norm
from torch import nn

SMALL = Architecture(32, 3, channel_base=256, channel_max=8, mapping_layers=2)
#: Feature maps of the paper's table ([4] table 2) at 4, 8, ... 1024.
FEATURES = (512, 512, 512, 512, 256, 128, 64, 32, 16)


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _styled(features: int) -> int:
    """Noise strengths, biases, and the affine layer from w to scale and bias."""
    return features + features + (512 + 1) * 2 * features


def _by_hand(levels: int, channels: int) -> tuple[int, int]:
    """Generator and discriminator, layer by layer."""
    mapping = 8 * (512 + 1) * 512
    synthesis = 512 * 4 * 4 + _styled(512) + 9 * 512 * 512 + _styled(512)
    discriminator = (9 * 513 + 1) * 512 + (16 * 512 + 1) * 512 + (512 + 1)
    for coarse, fine in itertools.pairwise(FEATURES[:levels]):
        synthesis += 9 * coarse * fine + 9 * fine * fine + 2 * _styled(fine)
        discriminator += (9 * fine + 1) * fine + (9 * fine + 1) * coarse
    images = sum((f + 1) * channels for f in FEATURES[:levels]), sum((channels + 1) * f for f in FEATURES[:levels])
    return mapping + synthesis + images[0], discriminator + images[1]


@pytest.mark.parametrize(
    ("size", "channels", "generator", "discriminator"),
    [(1024, 3, 26_219_627, 23_087_249), (512, 5, 26_184_840, 23_085_281), (256, 5, 26_091_235, 23_057_345)],
)
def test_parameter_counts_are_those_of_the_paper(size: int, channels: int, generator: int, discriminator: int) -> None:
    """26.2 and 23.1 million at 1024 ([1] section 2 and appendix C)."""
    architecture = Architecture(size, channels)
    assert _by_hand(len(architecture.resolutions), channels) == (generator, discriminator)
    with torch.device("meta"):
        assert _count(Generator(architecture)) == generator
        assert _count(GrowingDiscriminator(architecture, smooth=True)) == discriminator


def test_adaptive_instance_norm_by_hand() -> None:
    """Values 1 and 3 have mean 2 and deviation 1: they become bias - scale and bias + scale."""
    x = torch.tensor([1.0, 3.0, 1.0, 3.0]).view(1, 1, 2, 2)
    result = adaptive_instance_norm(x, torch.tensor([[5.0]]), torch.tensor([[0.5]]))
    torch.testing.assert_close(result.flatten(), torch.tensor([-4.5, 5.5, -4.5, 5.5]))
    assert not adaptive_instance_norm(torch.ones(1, 1, 2, 2), torch.ones(1, 1), torch.zeros(1, 1)).any()


def test_styles_alone_set_the_statistics_of_a_layer() -> None:
    torch.manual_seed(0)
    layer = Generator(SMALL).layer1
    w = torch.randn(2, 8)
    scale, bias = layer.style(w).chunk(2, dim=1)
    result = layer(torch.randn(2, 8, 4, 4) * 7 + 3, w, torch.randn(2, 1, 4, 4))
    torch.testing.assert_close(result.mean(dim=(2, 3)), bias, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.std(dim=(2, 3), unbiased=False), scale.abs(), rtol=1e-3, atol=1e-3)


def _synthesised(generator: Generator, w: torch.Tensor, level: int, alpha: float, dtype=torch.float32) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    noise = [torch.randn(len(w), 1, side, side, generator=random) for side in SMALL.noise_sizes]
    return generator.synthesis(w, noise, level, alpha, dtype)


def test_the_synthesis_grows() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL)
    for parameter in generator.parameters():  # noise strengths too
        nn.init.normal_(parameter)
    w = torch.randn(2, SMALL.styles, 8)
    for level, side in enumerate(SMALL.resolutions):
        assert _synthesised(generator, w, level, 1.0).shape == (2, 3, side, side)
    coarse, fine, half = (_synthesised(generator, w, *at) for at in ((2, 1.0), (3, 1.0), (3, 0.5)))
    torch.testing.assert_close(_synthesised(generator, w, 3, 0.0), upscale(coarse, 32))
    torch.testing.assert_close(half, (upscale(coarse, 32) + fine) / 2)


def test_each_style_acts_from_its_layer_on() -> None:
    """A style beyond a level's does not change its image; each of the others does."""
    torch.manual_seed(0)
    generator = Generator(SMALL)
    w = torch.randn(1, SMALL.styles, 8)
    before = _synthesised(generator, w, 2, 1.0)
    for style in range(SMALL.styles):
        changed = w.clone()
        changed[:, style] += 1
        assert torch.equal(_synthesised(generator, changed, 2, 1.0), before) == (style >= 6), style


def test_truncation_shrinks_coarse_styles_towards_the_mean() -> None:
    torch.manual_seed(0)
    generator, z, mean = Generator(SMALL), torch.randn(3, 8), torch.randn(8)
    w = generator.mapping(z)
    styles = generator.styles(z, mean, 0.7, 8)  # sides 4 and 8: four styles
    torch.testing.assert_close(styles[:, 3], mean + 0.7 * (w - mean))
    assert torch.equal(styles[:, 4], w) and styles.shape == (3, 8, 8)


def test_reduced_precision_is_close() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL)
    w = torch.randn(2, SMALL.styles, 8)
    exact, reduced = _synthesised(generator, w, 3, 0.5), _synthesised(generator, w, 3, 0.5, torch.bfloat16)
    assert reduced.dtype == torch.float32
    assert 0 < float(((exact - reduced).abs().mean() / exact.abs().mean()).detach()) < 0.05
