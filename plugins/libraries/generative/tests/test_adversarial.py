# ruff: noqa: E402 (imports follow the check for torch)
"""The steps of generator and discriminator, with networks of one weight, by hand; R1 against closed forms."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.adversarial import discriminator_step, generator_step, r1_penalty, r1_step
from torch import Tensor, nn


class Scale(nn.Module):
    """Scores: a weight times the mean of an image."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * images.mean(dim=(1, 2, 3))


def _images(*means: float) -> Tensor:
    return torch.tensor(means, dtype=torch.float32)[:, None, None, None].expand(-1, 2, 4, 4).contiguous()


@pytest.mark.parametrize("count", [1, 2])
def test_discriminator_step(count: int) -> None:
    """At weight 0 all scores are 0: both losses are ln 2, and their slope is half of mean fake minus mean real."""
    discriminator = Scale(0.0)
    optimiser = torch.optim.SGD(discriminator.parameters(), lr=1.0)
    reals, fakes = _images(1, 3, 5, 7).chunk(count), _images(-1, 1, 1, -1).chunk(count)
    loss, sign = discriminator_step(discriminator, optimiser, reals, iter(fakes), count)
    assert float(loss) == pytest.approx(2 * math.log(2)) and float(sign) == 0
    assert float(discriminator.weight.detach()) == pytest.approx((4 - 0) / 2)
    _, sign = discriminator_step(discriminator, optimiser, reals, fakes, count)
    assert float(sign) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_r1_step(count: int) -> None:
    """The gradient at each of 32 values is weight / 32, its squared norm weight^2 / 32; 8 times that has slope 1."""
    discriminator = Scale(2.0)
    r1_step(
        discriminator, torch.optim.SGD(discriminator.parameters(), lr=1.0), _images(1, 2, 3, 4).chunk(count), count, 8.0
    )
    assert float(discriminator.weight.detach()) == pytest.approx(2 - 8 * 2 * 2 / 32)


@pytest.mark.parametrize("count", [1, 2])
def test_generator_step_moves_the_generator_alone(count: int) -> None:
    """softplus(-w m) at w m = 0 has the slope -w / 2 by the generated mean m."""
    discriminator, mean = Scale(3.0), nn.Parameter(torch.tensor(0.0))
    optimiser = torch.optim.SGD([mean], lr=1.0)
    fakes = (mean * _images(1, 1) for _ in range(count))
    loss = generator_step(discriminator, discriminator, optimiser, fakes, count)
    assert float(loss) == pytest.approx(math.log(2))
    assert float(mean.detach()) == pytest.approx(1.5)
    assert (
        discriminator.weight.grad is None
        and discriminator.weight.requires_grad
        and float(discriminator.weight.detach()) == 3
    )


def test_r1_of_a_linear_discriminator() -> None:
    """D(x) = <a, x> has gradient a everywhere: the penalty is |a|^2."""
    direction = torch.randn(3, 8, 8, dtype=torch.float64)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty((images * direction).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, direction.square().sum().expand(4))


def test_r1_of_a_quadratic_discriminator_and_its_derivative() -> None:
    """D(x) = a |x|^2 / 2 has gradient a x: the penalty is a^2 |x|^2, its derivative by a is 2 a |x|^2."""
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    norm = images.detach().square().sum(dim=(1, 2, 3))
    penalty = r1_penalty(scale / 2 * images.square().sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty.detach(), 9 * norm)
    penalty.sum().backward()
    torch.testing.assert_close(scale.grad, 6 * norm.sum())
