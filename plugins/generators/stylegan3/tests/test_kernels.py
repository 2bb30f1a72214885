# ruff: noqa: E402 (imports follow the check for torch)
"""The filtered non-linearity in one kernel against its reference, by Triton's interpreter, and compiled."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from synthkit_stylegan3.filters import FilteredActivation
from synthkit_stylegan3.schedule import Maps
from synthkit_torch.fused import fused_operators
from synthkit_torch.testing import interpreted_kernels  # noqa: F401 (a fixture)
from torch import Tensor

pytestmark = pytest.mark.usefixtures("interpreted_kernels")

COARSE, FINE = Maps(16, 18, 4.0, 4.5, 1), Maps(32, 30, 6.0, 10.0, 1)


def orders(activation: FilteredActivation, x: Tensor) -> list[Tensor]:
    """Result, gradient of its square, and gradient of the square of that."""
    x = x.detach().clone().requires_grad_(True)
    result = activation(x)
    (first,) = torch.autograd.grad(result.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    return [result.detach(), first.detach(), second]


@pytest.mark.parametrize("radial", [False, True], ids=["separable", "radial"])
@pytest.mark.parametrize(
    ("before", "after"), [(COARSE, COARSE), (COARSE, FINE), (FINE, FINE)], ids=["coarse", "finer", "fine"]
)
def test_filtered_activation(before: Maps, after: Maps, radial: bool) -> None:
    activation = FilteredActivation(before, after, before.side + 2, radial=radial)
    random = torch.Generator().manual_seed(before.side + after.side)
    x = torch.randn(1, 2, before.side + 2, before.side + 2, generator=random)
    x = x.contiguous(memory_format=torch.channels_last if radial else torch.contiguous_format)
    found = orders(activation, x)
    with fused_operators(False):
        expected = orders(activation, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


def test_a_gradient_that_is_the_input_itself() -> None:
    activation = FilteredActivation(COARSE, COARSE, COARSE.side, radial=False)
    x = torch.randn(1, 1, COARSE.side, COARSE.side, requires_grad=True)
    (found,) = torch.autograd.grad(activation(x), x, x.detach())
    with fused_operators(False):
        (expected,) = torch.autograd.grad(activation(x), x, x.detach())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_nothing_but_the_input_is_kept() -> None:
    activation = FilteredActivation(COARSE, COARSE, COARSE.side, radial=False)
    x = torch.randn(1, 1, COARSE.side, COARSE.side, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        activation(x)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]


COMPILING = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from synthkit_stylegan3 import kernels

kernel = kernels._filtered
# The smallest sizes in use and the largest, of a gradient where the rate doubles.
for kind, sizes, same in (("*bf16", (64, 32, 32), True), ("*fp32", (128, 64, 32), False)):
    constants = dict(SPREADS=1, GATHERS=1, SAME=same, TILE=16, SLOPE=0.2, PRECISION="ieee")
    constants |= dict(zip(("HIGH", "WIDE_V", "WIDE_X"), sizes))
    pointers = {name: kind for name in ("v", "x", "result", "spread", "rise", "gather")}
    pointers |= dict(signs="*fp32", starts="*i32")
    signature = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 8 if sizes[0] > 64 else 4})
    assert made.metadata.shared <= 99 * 1024, made.metadata.shared  # what the smallest GPUs from 8.0 on have
"""


def test_the_kernel_compiles_for_gpus() -> None:
    """To machine code, which needs no GPU; and its working memory is there."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILING], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
