"""Augmentation: known turns and scales, nothing at zero strength, no label that was not there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_segmentation import augmentation  # noqa: E402
from synthkit_segmentation.augmentation import Ranges, augment, blur, change_gamma, lower_resolution, rotate_and_scale  # noqa: E402


def picture(n: int = 24, size: tuple[int, int] = (20, 16), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 2, *size, generator=generator)
    return images, torch.randint(0, 4, (n, *size), generator=generator).to(torch.uint8)


def streams(n: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


def test_zero_strength_is_identity() -> None:
    images, classes = picture()
    new_images, new_classes = augment(images, classes, streams(len(images)), Ranges.zero())
    torch.testing.assert_close(new_images, images, atol=1e-5, rtol=0)
    assert torch.equal(new_classes, classes)


def test_full_strength_changes_most_images_but_not_its_input() -> None:
    images, classes = picture(400, (64, 64))
    before = images.clone()
    new_images, new_classes = augment(images, classes, streams(len(images)))
    assert torch.equal(images, before)
    # Labels are left alone where there is neither rotation (0.8) nor scale (0.8). Images are where there is also no
    # noise (0.9), no blur of either channel (1 - 0.2 * 0.75), no low resolution (1 - 0.25 * 0.75) and no gamma (0.9
    # and 0.7): 0.25. A few turns and scales are too small to move any pixel's label.
    assert (new_images != images).flatten(1).any(1).float().mean() == pytest.approx(0.75, abs=0.07)
    assert (new_classes != classes).flatten(1).any(1).float().mean() == pytest.approx(0.34, abs=0.07)
    assert new_images.isfinite().all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(8, 40), width=st.integers(8, 40))
def test_labels_stay_in_the_set(seed: int, height: int, width: int) -> None:
    images, _ = picture(8, (height, width), seed)
    classes = torch.tensor([0, 3], dtype=torch.uint8)[torch.randint(0, 2, (8, height, width))]
    new_images, new_classes = augment(images, classes, streams(8, seed))
    assert new_images.shape == images.shape
    assert set(new_classes.unique().tolist()) <= {0, 3}
    assert new_classes.dtype == torch.uint8


def test_an_image_depends_on_its_own_stream_alone() -> None:
    images, classes = picture(40)
    together = augment(images, classes, streams(40))
    some = augment(images[5:30:5], classes[5:30:5], streams(40)[5:30:5])
    for whole, part in zip(together, some, strict=True):
        torch.testing.assert_close(part, whole[5:30:5])
    assert not torch.equal(together[0], augment(images, classes, streams(40, 1))[0])


def test_rotation_by_90_degrees_is_exact() -> None:
    images, classes = picture(3, (12, 12))
    turned, labels = rotate_and_scale(images, classes, np.full(3, np.pi / 2), np.ones(3))
    # From the x axis to the y axis is clockwise on a screen, where y runs down.
    torch.testing.assert_close(turned, torch.rot90(images, -1, (2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(labels, torch.rot90(classes, -1, (1, 2)))


def test_rotation_keeps_shapes_on_an_oblong_image() -> None:
    # A bar of 16 x 4 pixels in a 24 x 48 image becomes one of 4 x 16.
    classes = torch.zeros(1, 24, 48, dtype=torch.uint8)
    classes[:, 4:20, 22:26] = 1
    _, labels = rotate_and_scale(classes[:, None].float(), classes, np.array([np.pi / 2]), np.ones(1))
    expected = torch.zeros_like(classes)
    expected[:, 10:14, 16:32] = 1
    assert torch.equal(labels, expected)


def test_scale_two_enlarges() -> None:
    classes = torch.zeros(1, 16, 16, dtype=torch.uint8)
    classes[:, 6:10, 6:10] = 2
    _, labels = rotate_and_scale(classes[:, None].float(), classes, np.zeros(1), np.array([2.0]))
    assert torch.equal((labels[0] == 2).nonzero().aminmax(dim=0).min, torch.tensor([4, 4]))
    assert int((labels == 2).sum()) == 64


def test_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros(1, 2, 9, 9)
    point[:, :, 4, 4] = 1
    blurred = blur(point, torch.tensor([[1.0, 0.0]]))
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    kernel /= kernel.sum()
    np.testing.assert_allclose(blurred[0, 0, 1:8, 1:8].numpy(), np.outer(kernel, kernel), atol=1e-6)
    assert torch.equal(blurred[0, 1], point[0, 1])


def test_low_resolution_loses_the_finest_pattern() -> None:
    checkers = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    coarse = lower_resolution(checkers[None, None], 0.5)
    assert coarse.shape == (1, 1, 16, 16)
    assert (coarse - coarse.mean()).abs().max() < 1e-5  # every second pixel has one value
    assert torch.equal(lower_resolution(checkers[None, None], 1.0), checkers[None, None])


def test_gamma_keeps_mean_and_deviation_and_order() -> None:
    images, _ = picture(2)
    changed = change_gamma(images, torch.tensor([[0.7, 1.5], [1.0, 1.2]]))
    torch.testing.assert_close(changed.mean((2, 3)), images.mean((2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.std((2, 3)), images.std((2, 3)), atol=1e-4, rtol=0)
    assert torch.equal(changed[0, 0].flatten().argsort(), images[0, 0].flatten().argsort())
    assert not torch.allclose(changed[0], images[0], atol=0.05)
    torch.testing.assert_close(changed[1, 0], images[1, 0], atol=1e-5, rtol=0)


def test_exponents_are_within_bounds_on_both_sides_of_one() -> None:
    exponents = augmentation._draw_exponents(np.random.default_rng(0), (0.7, 1.5), 1000)
    assert 0.7 <= exponents.min() < 0.8
    assert 1.4 < exponents.max() <= 1.5
    assert 0.4 < (exponents < 1).mean() < 0.6
