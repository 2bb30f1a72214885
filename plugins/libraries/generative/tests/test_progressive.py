# ruff: noqa: E402 (imports follow the check for torch)
"""Growing: the schedule, images on their way between resolutions, and the discriminator at each of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from hypothesis import given
from hypothesis import strategies as st
from synthkit_generative.adversarial import r1_penalty
from synthkit_generative.discriminator import Pyramid
from synthkit_generative.layers import Conv
from synthkit_generative.progressive import (
    GrowingDiscriminator,
    Schedule,
    downsampling_conv,
    downscale,
    upsampling_conv,
    upscale,
)

from synthkit.errors import UsageError

SMALL = Pyramid(size=16, channels=3, channel_base=64, channel_max=8)


@pytest.mark.parametrize(
    ("kimg", "level", "alpha"),
    [
        (0, 0, 1.0),
        (599.999, 0, 1.0),
        (600, 1, 0.0),
        (900, 1, 0.5),
        (1200, 1, 1.0),
        (1799, 1, 1.0),
        (1950, 2, 0.25),
        (2400, 2, 1.0),
        (15000, 2, 1.0),
    ],
)
def test_schedule_of_the_study(kimg: float, level: int, alpha: float) -> None:
    """600 kimg at the first level, then 600 of fading and 600 of training for each further one."""
    assert Schedule(0, 2, 600, 600).at(round(kimg * 1000)) == (level, pytest.approx(alpha))


@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.floats(0, 5).map(lambda x: round(x, 3)),
    st.floats(0, 5).map(lambda x: round(x, 3)),
)
def test_schedule_only_grows_and_arrives(first: int, further: int, fade: float, stable: float) -> None:
    schedule = Schedule(first, first + further, fade, stable)
    grown = [level + alpha for level, alpha in (schedule.at(n) for n in range(0, 40_000, 500))]
    assert grown == sorted(grown)
    # (Arrival is exact but for the rounding of kimg to images.)
    assert schedule.at(int(schedule.kimg * 1000) + 1)[0] == first + further
    assert schedule.at(int((schedule.kimg + 1) * 1000)) == (first + further, 1.0)


def test_a_training_too_short_to_grow_is_refused() -> None:
    Schedule(0, 6, 600, 600).require(7200)
    with pytest.raises(UsageError, match="7200 kimg"):
        Schedule(0, 6, 600, 600).require(5000)


def test_coarser_images_are_means_mixed_with_coarser_ones() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    means = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    torch.testing.assert_close(downscale(image, 2, 1.0)[0, 0], means)
    torch.testing.assert_close(downscale(image, 2, 0.25)[0, 0], 0.25 * means + 0.75 * 7.5)
    assert torch.equal(downscale(image, 4, 1.0), image)
    assert upscale(means[None, None], 4)[0, 0, 0].tolist() == [2.5, 2.5, 4.5, 4.5]


def test_convolutions_that_resample_are_what_they_stand_for() -> None:
    torch.manual_seed(0)
    conv, x = Conv(3, 5, 3), torch.randn(2, 3, 8, 8)
    torch.nn.init.normal_(conv.bias)
    halved = torch.nn.functional.avg_pool2d(conv(x, padding=1, gain=1.5), 2)
    torch.testing.assert_close(downsampling_conv(conv, x, gain=1.5), halved)
    bare = Conv(3, 5, 3, bias=False)
    torch.testing.assert_close(upsampling_conv(bare, x, gain=1.5), bare(upscale(x, 16), padding=1, gain=1.5))


@pytest.mark.parametrize("smooth", [False, True])
def test_a_level_that_is_not_faded_in_changes_nothing(smooth: bool) -> None:
    torch.manual_seed(0)
    network = GrowingDiscriminator(SMALL, smooth=smooth)
    image = torch.randn(4, 3, 16, 16)
    halved = torch.nn.functional.avg_pool2d(image, 2)
    torch.testing.assert_close(network(image, 2, 0.0), network(halved, 1, 1.0))
    whole, none, half = (network(image, 2, alpha) for alpha in (1.0, 0.0, 0.5))
    assert not torch.allclose(whole, none) and not torch.allclose(half, none)
    assert network(torch.randn(4, 3, 4, 4), 0, 1.0).shape == (4,)


def test_smooth_blocks_are_filtered() -> None:
    torch.manual_seed(0)
    smooth, plain = GrowingDiscriminator(SMALL, smooth=True), GrowingDiscriminator(SMALL, smooth=False)
    plain.load_state_dict(smooth.state_dict())
    image = torch.randn(4, 3, 16, 16)
    assert not torch.allclose(smooth(image, 2, 1.0), plain(image, 2, 1.0))


@pytest.mark.parametrize(("smooth", "alpha"), [(False, 1.0), (True, 0.5)])
def test_r1_is_the_gradient_by_finite_differences(smooth: bool, alpha: float) -> None:
    """Summed over directions: each pixel of each image is moved in turn."""
    torch.manual_seed(1)
    pyramid = Pyramid(size=8, channels=2, channel_base=64, channel_max=8)
    network = GrowingDiscriminator(pyramid, smooth=smooth)
    images = torch.randn(2, 2, 8, 8)
    moved = images.flatten()[None] + torch.eye(images.numel())[:, None] * torch.tensor([-1e-2, 1e-2])[:, None]
    with torch.no_grad():
        sums = torch.stack([network(image.view(2, 2, 8, 8), 1, alpha).sum() for image in moved.flatten(0, 1)]).view(
            -1, 2
        )
    numeric = ((sums[:, 1] - sums[:, 0]) / 2e-2).view(2, -1).square().sum(dim=1)
    shown = images.requires_grad_(True)
    torch.testing.assert_close(r1_penalty(network(shown, 1, alpha), shown), numeric, rtol=0.05, atol=0)


def test_reduced_precision_is_close() -> None:
    torch.manual_seed(0)
    network = GrowingDiscriminator(SMALL, smooth=True)
    image = torch.randn(4, 3, 16, 16)
    gap = (network(image, 2, 0.5) - network(image, 2, 0.5, torch.bfloat16)).abs().max()
    assert 0 < float(gap.detach()) < 0.1


def test_every_weight_of_the_discriminator_counts() -> None:
    torch.manual_seed(0)
    network = GrowingDiscriminator(SMALL, smooth=True)
    scores = sum(network(torch.randn(4, 3, side, side), level, 1.0).sum() for level, side in enumerate((4, 8, 16)))
    scores.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
