# ruff: noqa: E402 (imports follow the check for torch)
"""What augmentation does to images and labels, and how its probability follows the discriminator."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.augmentation import Augmentation, augment, draw_transforms

CPU = torch.device("cpu")


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_is_changed_with_probability_0() -> None:
    images = torch.rand(8, 3, 16, 16, generator=random()) * 2 - 1
    assert torch.allclose(augment(images, *draw_transforms(images.shape, 0.0, random())), images, atol=1e-6)


def test_labels_keep_their_grey_levels_and_go_with_the_image() -> None:
    """A disc in every channel: where the label is, the contrast is bright, wherever it went."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((y - 24) ** 2 + (x - 36) ** 2 < 100).float()
    images = torch.stack([disc * 2 - 1, disc - 1]).repeat(64, 1, 1, 1)
    changed = augment(images, *draw_transforms(images.shape, 1.0, random()))
    assert set(changed[:, 1].unique().tolist()) <= {-1.0, 0.0}
    assert not torch.equal(changed[:, 1], images[:, 1])
    for contrast, label in changed:
        if 0 < (inside := label == 0).sum() < 4000:
            assert contrast[inside].mean() > contrast[~inside].mean()


def test_a_shift_by_whole_pixels_is_one_and_black_comes_in() -> None:
    images = torch.zeros(1, 2, 16, 16)
    images[:, :, 4, 4] = 1.0
    places = torch.tensor([[[1.0, 0.0, 2 / 16 * 3], [0.0, 1.0, 0.0]]])  # from three pixels further right
    moved = augment(images, torch.tensor([True]), places, torch.ones(1, 2), torch.zeros(1, 2))
    expected = torch.cat([images[..., 3:], torch.full((1, 2, 16, 3), -1.0)], dim=3)
    assert torch.allclose(moved, expected, atol=1e-5)


def test_each_kind_comes_as_often_as_asked() -> None:
    moves, places, factor, offset = draw_transforms((4000, 3, 64, 64), 0.3, random())
    assert float((factor[:, 0] != 1).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float((offset[:, 0] != 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert (factor[:, -1] == 1).all() and (offset[:, -1] == 0).all()
    assert float((torch.linalg.det(places[:, :, :2]) < 0).float().mean()) == pytest.approx(0.15, abs=0.03)
    size = torch.linalg.det(places[:, :, :2]).abs().sqrt()
    assert float(((size - 1).abs() > 1e-5).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert not (places[~moves][:, :, :2] - torch.eye(2)).abs().max() > 1e-6


def test_gradients_pass_through() -> None:
    images = (torch.rand(4, 3, 16, 16, generator=random()) * 2 - 1).requires_grad_(True)
    augment(images, *draw_transforms(images.shape, 1.0, random(1))).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_the_probability_follows_the_sign_of_reals() -> None:
    augmentation = Augmentation(True, 1000, 1, CPU)
    for step in range(1, 41):
        noted = augmentation.watch(torch.tensor(0.9), step)
    assert float(augmentation.probability) == pytest.approx(40_000 / 500_000) and set(noted) == {
        "sign_real",
        "augment_probability",
    }
    again = Augmentation(True, 1000, 1, CPU)
    again.restore(augmentation.state())
    again.watch(torch.tensor(-0.5), 41)
    for step in (42, 43, 44):
        again.watch(torch.tensor(0.0), step)
    assert float(again.probability) < float(augmentation.probability)
    off = Augmentation(False, 1000, 1, CPU)
    assert set(off.watch(torch.tensor(0.9), 4)) == {"sign_real"} and not float(off.probability)


def test_contrast_and_brightness_are_changed_in_contrasts_alone() -> None:
    _, _, factor, offset = draw_transforms((64, 7, 32, 32), 1.0, random(), label_channels=3)
    assert (factor[:, 4:] == 1).all() and (factor[:, :4] != 1).all()
    assert (offset[:, 4:] == 0).all() and (offset[:, :4] != 0).all()
