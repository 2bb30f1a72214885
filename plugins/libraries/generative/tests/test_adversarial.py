# ruff: noqa: E402 (imports follow the check for torch)
"""The steps of generator and discriminator, with networks of one weight, by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.adversarial import convince, penalise_slope, tell_apart
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
def test_telling_apart(count: int) -> None:
    """At weight 0 all scores are 0: both losses are ln 2, and their slope is half of mean fake minus mean real."""
    judge = Scale(0.0)
    optimiser = torch.optim.SGD(judge.parameters(), lr=1.0)
    reals, fakes = _images(1, 3, 5, 7).chunk(count), _images(-1, 1, 1, -1).chunk(count)
    loss, sign = tell_apart(judge, optimiser, reals, iter(fakes), count)
    assert float(loss) == pytest.approx(2 * math.log(2)) and float(sign) == 0
    assert float(judge.weight.detach()) == pytest.approx((4 - 0) / 2)
    _, sign = tell_apart(judge, optimiser, reals, fakes, count)
    assert float(sign) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_the_slope_is_penalised(count: int) -> None:
    """The gradient at each of 32 values is weight / 32, its squared norm weight^2 / 32; 8 times that has slope 1."""
    judge = Scale(2.0)
    penalise_slope(judge, torch.optim.SGD(judge.parameters(), lr=1.0), _images(1, 2, 3, 4).chunk(count), count, 8.0)
    assert float(judge.weight.detach()) == pytest.approx(2 - 8 * 2 * 2 / 32)


@pytest.mark.parametrize("count", [1, 2])
def test_convincing_moves_the_generator_alone(count: int) -> None:
    """softplus(-w m) at w m = 0 has the slope -w / 2 by the generated mean m."""
    judge, mean = Scale(3.0), nn.Parameter(torch.tensor(0.0))
    optimiser = torch.optim.SGD([mean], lr=1.0)
    fakes = (mean * _images(1, 1) for _ in range(count))
    loss = convince(judge, judge, optimiser, fakes, count)
    assert float(loss) == pytest.approx(math.log(2))
    assert float(mean.detach()) == pytest.approx(1.5)
    assert judge.weight.grad is None and judge.weight.requires_grad and float(judge.weight.detach()) == 3
