"""Convolutions with the batch normalisation that follows folded into them, made from a table and a state dictionary.

In inference ``norm(conv(x)) = g (w * x - m) / sqrt(v + eps) + b`` is one convolution with weights ``w g / sqrt(v +
eps)`` and bias ``b - m g / sqrt(v + eps)`` (computed in float64): the same numbers for less work. A bias of the
convolution's own is taken off m.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

State = Mapping[str, torch.Tensor]

#: Added to the variance by Inception and EfficientNet.
EPSILON = 1e-3
_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Layer:
    """A convolution and its batch normalisation.

    ``conv`` and ``norm`` are the names of the two in the state dictionary; sizes are (y, x); ``groups`` is 1, or
    ``inputs`` for a depthwise convolution. ``bias``: the convolution has one of its own. ``epsilon``: added to the
    variance.
    """

    conv: str
    norm: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    dilation: int = 1
    bias: bool = False
    epsilon: float = EPSILON

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor of this layer in the state dictionary."""
        weight = (self.outputs, self.inputs // self.groups, *self.kernel)
        bias = {f"{self.conv}.bias": (self.outputs,)} if self.bias else {}
        return {f"{self.conv}.weight": weight, **bias, **{f"{self.norm}.{name}": (self.outputs,) for name in _NORM}}


def shapes(layers: Iterable[Layer], classifier: str, features: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a network: by them its weights are recognised."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        found |= layer.shapes()
    return {**found, f"{classifier}.weight": (classes, features), f"{classifier}.bias": (classes,)}


class FoldedConv(nn.Module):
    """One :class:`Layer`. ``grey``: the input's three equal channels are given once."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, layer: Layer, state: State, *, grey: bool = False) -> None:
        super().__init__()
        self.layer = layer
        scale, shift, mean, variance = (state[f"{layer.norm}.{name}"].double() for name in _NORM)
        gain = scale / torch.sqrt(variance + layer.epsilon)
        weight = state[f"{layer.conv}.weight"].double() * gain[:, None, None, None]
        if grey:
            weight = weight.sum(dim=1, keepdim=True)
        # Buffers rather than parameters: nothing draws initial values from the global random generator.
        self.register_buffer("weight", weight.float().contiguous(memory_format=torch.channels_last))
        if layer.bias:
            mean = mean - state[f"{layer.conv}.bias"].double()
        self.register_buffer("bias", (shift - mean * gain).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        return functional.conv2d(x, self.weight, self.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
