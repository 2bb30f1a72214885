# ruff: noqa: E402 (imports follow the check for torch)
"""The discriminator of StyleGAN2 and StyleGAN3: its minibatch deviation by hand, its shapes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.discriminator import Discriminator, Pyramid, minibatch_stddev


def test_minibatch_deviation_by_hand() -> None:
    # One group of two: values 0 and 2 at each pixel, so the deviation is 1 everywhere.
    x = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 2.0)])
    result = minibatch_stddev(x)
    assert result.shape == (2, 4, 4, 4)
    torch.testing.assert_close(result[:, :3], x)
    torch.testing.assert_close(result[:, 3], torch.ones(2, 4, 4))


def test_minibatch_deviation_groups_do_not_mix() -> None:
    # Eight samples make two groups of four: the even and the odd rows. Only the odd ones vary.
    x = torch.zeros(8, 1, 4, 4)
    x[1::2] = torch.tensor([-1.0, 1.0, -1.0, 1.0])[:, None, None, None]
    deviation = minibatch_stddev(x)[:, 1, 0, 0]
    torch.testing.assert_close(deviation, torch.tensor([0.0, 1.0] * 4), atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [32, 64])
def test_scores_know_the_other_images_of_their_group_only(size: int) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(Pyramid(size, 3, channel_base=512, channel_max=8))
    images = torch.randn(8, 3, size, size)
    scores = discriminator(images)
    assert scores.shape == (8,)
    images[1::2] = torch.randn(4, 3, size, size)  # the other group of four
    torch.testing.assert_close(discriminator(images)[::2], scores[::2])
    assert not torch.allclose(discriminator(images)[1::2], scores[1::2])
