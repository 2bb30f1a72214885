"""Preconditioning, loss, noise levels and sampler, by the paper's equations."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_edm import augmentation, process  # noqa: E402
from synthkit_edm.process import Denoiser  # noqa: E402
from synthkit_generative.unet import Architecture, time_embedding  # noqa: E402


def denoiser(**options: int) -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(Architecture(32, 2, width=4, res_blocks=1, group=4), **options)
    made.sigma_data.copy_(torch.tensor([0.5, 0.25])[:, None, None])
    return made


def test_scales_are_those_of_table_1() -> None:
    """With sigma_data 0.5 and sigma 1.2: 0.25 / 1.69 and 1.2 x 0.5 / 1.3; and no network where there is no noise."""
    skip, out = denoiser().scales(torch.tensor([1.2, 1e-6]))
    assert float(skip[0, 0]) == pytest.approx(0.25 / 1.69) and float(out[0, 0]) == pytest.approx(0.6 / 1.3)
    assert float(skip[1, 1]) == pytest.approx(1) and float(out[1, 1]) == pytest.approx(0, abs=1e-5)


def test_what_the_network_sees_and_learns_has_unit_variance() -> None:
    """Of data with the standard deviations sigma_data, at any noise level ([1] appendix B.6)."""
    made, random = denoiser(), torch.Generator().manual_seed(0)
    seen = []
    made.unet.forward = lambda x, t, told: seen.append(x) or torch.zeros_like(x)  # type: ignore[method-assign]
    images = torch.randn(64, 2, 32, 32, generator=random) * made.sigma_data
    for level in (0.02, 0.5, 20.0):
        loss = made.loss(images, torch.randn(images.shape, generator=random), torch.full((64,), level))
        assert float(loss) == pytest.approx(1, abs=0.02)
        assert [float(each) for each in seen.pop().std(dim=(0, 2, 3))] == pytest.approx([1, 1], abs=0.02)


def test_a_network_that_says_nothing_shrinks_towards_the_mean() -> None:
    """An untrained UNet gives 0, so D is c_skip x, the best linear guess."""
    made = denoiser()
    x, sigma = torch.randn(3, 2, 32, 32), torch.tensor([0.1, 1.0, 9.0])
    torch.testing.assert_close(made(x, sigma), made.scales(sigma)[0] * x)


def test_given_labels_and_told_changes_reach_the_network() -> None:
    made = denoiser(given=3, told=2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, sigma = torch.randn(1, 2, 32, 32), torch.ones(1)
    given, told = torch.zeros(1, 3, 32, 32), torch.zeros(1, 2)
    plain = made(x, sigma, given, told)
    assert not torch.allclose(plain, made(x, sigma, given + 1, told), atol=1e-3)
    assert not torch.allclose(plain, made(x, sigma, given, told + 1), atol=1e-3)


def test_squares_of_pixels_are_one_to_the_network_and_come_back_in_place() -> None:
    """With patch=2 the UNet sees half of the side and four times the channels; a change stays where it was made."""
    made = Denoiser(Architecture(64, 2, width=4, res_blocks=1, group=4), given=1, patch=2)
    seen = []
    made.unet.forward = lambda x, t, told: seen.append(x) or x[:, :8]  # type: ignore[method-assign]
    x = torch.randn(1, 2, 64, 64)
    found = made.network(x, torch.ones(1), torch.zeros(1, 1, 64, 64), None)
    assert seen[0].shape == (1, 12, 32, 32)
    torch.testing.assert_close(found, x / math.sqrt(2))


def test_details_see_every_pixel_and_the_noise_level() -> None:
    """A change of one pixel, of the level and of what the UNet makes of it changes what is added; at first nothing."""
    architecture = Architecture(64, 2, width=4, res_blocks=1, group=4)
    made = Denoiser(architecture, given=1, patch=2, features=3)
    x, given = torch.randn(1, 2, 64, 64), torch.zeros(1, 1, 64, 64)
    assert not made.network(x, torch.ones(1), given, None).any()
    assert made.detail is not None
    for parameter in made.detail.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    plain = made.network(x, torch.ones(1), given, None)
    moved = x.clone()
    moved[0, 1, 20, 30] += 5
    changed = (made.network(moved, torch.ones(1), given, None) - plain).abs().amax(dim=1)[0]
    assert changed[20, 30] > 0.1 and changed[20, 30] > 20 * changed[:10].max()
    assert not torch.allclose(made.network(x, torch.full((1,), 3.0), given, None), plain, atol=1e-3)
    torch.nn.init.normal_(made.unet.out[2].weight, std=0.3)
    assert not torch.allclose(made.network(x, torch.ones(1), given, None), plain, atol=1e-3)


def test_noise_of_training_grows_with_the_slice() -> None:
    """Twice the side needs twice the noise to hide the same shape."""
    assert process.noise_mean(32) == pytest.approx(-0.6)
    assert process.noise_mean(128) - process.noise_mean(64) == pytest.approx(math.log(2))


def test_the_network_is_told_noise_levels_that_it_can_tell_apart() -> None:
    """Of noise levels that differ by a tenth the sines differ by more than bfloat16 rounds, 1 / 256."""
    made, told = denoiser(), []
    made.unet.forward = lambda x, t, _: told.append(time_embedding(t, 32)) or x  # type: ignore[method-assign]
    for level in (1.0, 1.1):
        made.network(torch.zeros(1, 2, 32, 32), torch.full((1,), level), None, None)
    assert float((told[0] - told[1]).abs().max()) > 0.5


def test_noise_levels_fall_from_the_highest_to_the_lowest_and_to_nothing() -> None:
    levels = process.schedule(5, 0.02, 20, 1)
    assert levels == pytest.approx([20, 15.005, 10.01, 5.015, 0.02, 0])
    levels = process.schedule(9, 0.02, 20, 5)
    assert levels[0] == pytest.approx(20) and levels[-2:] == [pytest.approx(0.02), 0.0]
    assert levels[4] == pytest.approx(((20**0.2 + 0.02**0.2) / 2) ** 5)
    assert process.schedule(1, 0.02, 20, 5) == [20, 0.0]
    drawn = process.noise_levels(torch.randn(20_000, generator=torch.Generator().manual_seed(0)), -0.6, 1.2).log()
    assert float(drawn.mean()) == pytest.approx(-0.6, abs=0.03) and float(drawn.std()) == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize(("steps", "wider"), [(9, 0.12), (18, 0.024), (100, 0.0)])
def test_few_steps_draw_a_normal_distribution_too_wide(steps: int, wider: float) -> None:
    """Of N(0, s^2) the exact denoiser is s^2 / (s^2 + sigma^2) x, and the exact way scales noise to s; 100 steps do."""
    s, noise = 0.5, torch.tensor([[[[1.0, -2.0]]]], dtype=torch.float64)
    end = process.heun(lambda x, sigma: s**2 / (s**2 + sigma**2) * x, noise, process.schedule(steps, 0.02, 20, 5))
    exact = noise * 20 * s / math.hypot(20, s)
    assert (end / exact - 1).flatten().tolist() == pytest.approx([wider] * 2, abs=2e-3)


def test_augmentation_tells_what_it_does() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 32, 32, generator=random) * 2 - 1
    told = augmentation.draw(64, 0.3, random)
    changed = augmentation.apply(images, told)
    same = ~told.any(dim=1)
    assert 0 < int(same.sum()) < 64
    assert torch.equal(changed[same], images[same]) and changed.abs().max() <= 1
    assert all(not torch.allclose(a, b, atol=0.01) for a, b in zip(changed[~same], images[~same], strict=True))
    assert not augmentation.draw(64, 0.0, random).any()


def test_a_mirrored_image_is_its_mirror_and_a_moved_one_is_moved() -> None:
    images = torch.rand(1, 2, 32, 32)
    told = torch.zeros(1, augmentation.TOLD)
    told[0, 0] = 1
    torch.testing.assert_close(augmentation.apply(images, told), images.flip(3), rtol=0, atol=1e-4)
    told = torch.zeros(1, augmentation.TOLD)
    told[0, 4], told[0, 5] = 4 / 32, -2 / 32
    moved = augmentation.apply(images, told)
    torch.testing.assert_close(moved[..., :-2, 4:], images[..., 2:, :-4], rtol=0, atol=1e-4)
    told = torch.zeros(1, augmentation.TOLD)
    told[0, 1], told[0, 2], told[0, 3] = 0.0, -1.0, 1.0  # a quarter turn
    turned = augmentation.apply(images, told)
    assert torch.allclose(turned, images.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        turned, images.rot90(-1, (2, 3)), atol=1e-4
    )
