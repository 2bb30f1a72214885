"""What the network is shown, and its loss, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_segmentation.inputs import normalise, pad  # noqa: E402
from synthkit_segmentation.losses import cross_entropy, dice_loss  # noqa: E402


def test_padding_to_the_stride_and_to_the_smallest_side() -> None:
    assert pad(torch.zeros(1, 2, 30, 33), 8, 32).shape == (1, 2, 32, 40)
    assert pad(torch.zeros(3, 5, 16), 8, 32).shape == (3, 32, 32)
    assert pad(torch.zeros(3, 5, 16), 8, 20).shape == (3, 24, 24)
    assert pad(torch.ones(1, 32, 32), 8, 32).sum() == 32 * 32


def test_normalise_known_answer() -> None:
    image = torch.tensor([[[[0, 10], [20, 30]], [[4, 100], [100, 200]]]], dtype=torch.uint8)
    # Pixel (0, 0) is background: 0 and 4 are not above 4. Channel 1: mean 20, deviation sqrt(200 / 3).
    # Channel 2: mean 400 / 3, deviation sqrt((2 * (100/3)**2 + (200/3)**2) / 3) = sqrt(20000 / 9).
    a, b = 10 / math.sqrt(200 / 3), 1 / math.sqrt(20000 / 9)
    expected = torch.tensor([[[[0, -a], [0, a]], [[0, -100 / 3 * b], [-100 / 3 * b, 200 / 3 * b]]]])
    torch.testing.assert_close(normalise(image), expected)


def test_normalise_ignores_a_background_that_is_not_quite_zero() -> None:
    rng = np.random.default_rng(0)
    clean = np.zeros((1, 2, 16, 16), np.uint8)
    clean[:, :, 4:12, 4:12] = rng.integers(50, 200, (1, 2, 8, 8))
    noisy = clean + (clean == 0) * rng.integers(0, 5, clean.shape).astype(np.uint8)
    assert (noisy != clean).any()
    torch.testing.assert_close(normalise(torch.from_numpy(noisy)), normalise(torch.from_numpy(clean)))


@pytest.mark.parametrize("value", [0, 3, 120])
def test_normalise_constant_image_is_zero(value: int) -> None:
    assert (normalise(torch.full((2, 3, 8, 8), value, dtype=torch.uint8)) == 0).all()


def test_normalise_does_not_depend_on_the_batch() -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (7, 4, 20, 20)).astype(np.uint8))
    together = normalise(images)
    for i in range(7):
        assert torch.equal(normalise(images[i : i + 1])[0], together[i])


def test_dice_loss_by_hand() -> None:
    # Two pixels, classes 1 and 2 of 3, probabilities (1/4, 1/2, 1/4) at both.
    logits = torch.log(torch.tensor([1.0, 2.0, 1.0]))[None, :, None, None].expand(1, 3, 1, 2)
    classes = torch.tensor([[[1, 2]]], dtype=torch.uint8)
    # Class 1: 2 * 0.5 / (1 + 1) = 0.5. Class 2: 2 * 0.25 / (0.5 + 1) = 1/3.
    assert float(dice_loss(logits, classes)) == pytest.approx(1 - (0.5 + 1 / 3) / 2, abs=1e-4)
    # -(log 1/2 + log 1/4) / 2
    assert float(cross_entropy(logits, classes)) == pytest.approx(1.5 * math.log(2))


def test_dice_loss_of_a_perfect_answer_is_zero_and_of_a_wrong_one_is_one() -> None:
    classes = torch.tensor([[[0, 1], [2, 1]]])
    right = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2) * 100.0
    assert float(dice_loss(right, classes)) == pytest.approx(0, abs=1e-5)
    assert float(dice_loss(right, (classes + 1) % 3)) == pytest.approx(1, abs=1e-5)
