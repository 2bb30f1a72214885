# ruff: noqa: E402 (imports follow the check for torch)
"""Penalties against closed forms."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative.losses import r1_penalty


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
