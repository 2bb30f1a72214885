# ruff: noqa: E402 (imports follow the check for torch)
"""Fused operators against their references, by Triton's interpreter: values, derivatives, second derivatives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_generative import resampling
from synthkit_generative.discriminator import Discriminator, Pyramid
from synthkit_generative.layers import activate
from synthkit_torch.fused import fused_operators, is_fused
from synthkit_torch.testing import interpreted_kernels  # noqa: F401 (a fixture)
from torch import Tensor

pytestmark = pytest.mark.usefixtures("interpreted_kernels")


def orders(operator: Callable[..., Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Result, gradients of its square, and gradients of the square of these."""
    given = [one.detach().clone().requires_grad_(True) for one in given]
    result = operator(*given)
    first = torch.autograd.grad(result.square().sum(), given, create_graph=True)
    second = torch.autograd.grad(sum(one.square().sum() for one in first), given)
    return [result, *first, *second]


def assert_as_reference(operator: Callable[..., Tensor], given: Sequence[Tensor]) -> None:
    found = orders(operator, given)
    with fused_operators(False):
        assert not is_fused(given[0])
        expected = orders(operator, given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))
        assert one.dtype == other.dtype


def normal(*shape: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return drawn.contiguous(memory_format=layout) if len(shape) == 4 else drawn


RESAMPLINGS = {
    "up": resampling.upsample,
    "down": resampling.downsample,
    "smooth1": lambda x: resampling.smooth(x, 1),
    "smooth2": lambda x: resampling.smooth(x, 2),
    "binomial": resampling.binomial,
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", RESAMPLINGS)
def test_resampling(name: str, layout: torch.memory_format) -> None:
    assert_as_reference(RESAMPLINGS[name], [normal(2, 3, 6, 10, layout=layout)])


def test_resampling_of_more_than_a_block() -> None:
    assert_as_reference(resampling.upsample, [normal(1, 40, 4, 24, layout=torch.channels_last)])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("names", ["bias", "scale noise bias", "noise", "scale"])
def test_activation(names: str, layout: torch.memory_format) -> None:
    beside = {"scale": normal(2, 5), "noise": normal(2, 1, 16, 9), "bias": normal(5)}
    given = [normal(2, 5, 16, 9, layout=layout), *(beside[name] for name in names.split())]
    assert_as_reference(lambda x, *others: activate(x, **dict(zip(names.split(), others, strict=True))), given)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(precision: torch.dtype) -> None:
    x, bias = normal(2, 8, 6, 6), normal(8)
    exact = activate(resampling.smooth(x.to(precision).float(), 2), bias=bias)
    found = activate(resampling.smooth(x.to(precision), 2), bias=bias)
    assert found.dtype == precision
    # Two operators, each rounded: half of the last place of their results.
    error = 2 * torch.finfo(precision).eps
    torch.testing.assert_close(found.float(), exact, rtol=error, atol=error * float(x.abs().max()))


def test_a_discriminator_and_its_r1_penalty() -> None:
    """All of it together: scores, gradients of the images, and of all weights by the penalty."""
    torch.manual_seed(0)
    network = Discriminator(Pyramid(8, 3, 64, 8))

    def penalty(images: Tensor) -> list[Tensor]:
        images = images.requires_grad_(True)
        scores = network(images)
        (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        weights = torch.autograd.grad(gradient.square().sum(), list(network.parameters()), allow_unused=True)
        return [scores, gradient, *(one for one in weights if one is not None)]

    found = penalty(normal(4, 3, 8, 8))
    with fused_operators(False):
        expected = penalty(normal(4, 3, 8, 8))
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))


COMPILING = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from synthkit_generative import kernels

def compiled(kernel, constants, kinds):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in names}
    for capability in (80, 90):
        made = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", capability, 32))
        assert made.asm["ptx"]

taps = (0.125, 0.375, 0.375, 0.125)
pointer = "*bf16"
compiled(kernels._resample, dict(UP=2, DOWN=1, BEFORE=2, TAPS=taps, BLOCK=1024), dict(x=pointer, result=pointer))
compiled(
    kernels._activate,
    dict(scale=None, SLOPE=0.2, LAST=True, BLOCK=1024),
    dict(x=pointer, noise="*fp32", bias="*fp32", result=pointer),
)
kinds = dict(gradient=pointer, activated=pointer, result=pointer)
compiled(kernels._slopes, dict(SLOPE=0.2, BLOCK=1024), kinds)
"""


def test_kernels_compile_for_gpus() -> None:
    """To machine code, for Ampere and Hopper: that needs no GPU."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILING], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
