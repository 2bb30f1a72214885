"""Residual networks (He et al., CVPR 2016) as three publishers trained them, for features that are averages over space.

=====================  ==================================  ===========================================================
architecture           whose weights                       differs from the others in
=====================  ==================================  ===========================================================
``resnet50``           RadImageNet for PyTorch             stride in the 3 x 3 convolution, as torchvision; tensors
                                                           numbered (``backbone.4.0.conv1.weight``)
``resnet50-keras``     RadImageNet's Keras model,          stride in the first 1 x 1 convolution, convolutions with
                       converted                           biases, another epsilon
``resnet10-3d``,       MedicalNet (Chen et al. 2019)       volumes of one channel; the last two stages dilated instead
``resnet50-3d``                                            of strided
=====================  ==================================  ===========================================================

MedicalNet sees volumes, and a slice is none. It is shown the volume that has this slice at every depth, endlessly:
there each 3-D convolution is the 2-D one with its weights summed over depth, and so the network is computed, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from synthkit_features.layers import FoldedConv, Layer, State


@dataclass(frozen=True)
class Recipe:
    """What tells one of these networks from the others; four numbers are of the four stages."""

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    stem: tuple[str, str] = ("conv1", "bn1")
    stages: tuple[str, str, str, str] = ("layer1", "layer2", "layer3", "layer4")
    bottleneck: bool = True
    strides: tuple[int, int, int, int] = (1, 2, 2, 2)
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1)
    stride_first: bool = False
    bias: bool = False
    epsilon: float = 1e-5
    volumes: bool = False


_MEDICALNET = Recipe(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), volumes=True)

RECIPES: Mapping[str, Recipe] = {
    "resnet50": Recipe(
        stem=("backbone.0", "backbone.1"), stages=("backbone.4", "backbone.5", "backbone.6", "backbone.7")
    ),
    "resnet50-keras": Recipe(stride_first=True, bias=True, epsilon=1.001e-5),
    "resnet10-3d": replace(_MEDICALNET, blocks=(1, 1, 1, 1), bottleneck=False),
    "resnet50-3d": _MEDICALNET,
}


@dataclass(frozen=True)
class Block:
    """Convolutions one after the other, and the one beside them where the shape changes."""

    convs: tuple[Layer, ...]
    shortcut: Layer | None


def stem_of(recipe: Recipe) -> Layer:
    """The first convolution, 7 x 7."""
    return _layer(recipe, *recipe.stem, 1 if recipe.volumes else 3, 64, 7, 2)


def blocks_of(recipe: Recipe) -> list[Block]:
    """All blocks in their order."""
    found: list[Block] = []
    inputs = 64
    for stage, number in enumerate(recipe.blocks):
        width, dilation = 64 * 2**stage, recipe.dilations[stage]
        outputs = width * (4 if recipe.bottleneck else 1)
        for k in range(number):
            name = f"{recipe.stages[stage]}.{k}"
            stride = recipe.strides[stage] if k == 0 else 1
            # (outputs, kernel, stride, dilation) of each convolution.
            if recipe.bottleneck:
                first, second = (stride, 1) if recipe.stride_first else (1, stride)
                rows = [(width, 1, first, 1), (width, 3, second, dilation), (outputs, 1, 1, 1)]
            else:
                rows = [(width, 3, stride, dilation), (outputs, 3, 1, dilation)]
            convs, previous = [], inputs
            for n, (wide, kernel, step, spread) in enumerate(rows, start=1):
                convs.append(_layer(recipe, f"{name}.conv{n}", f"{name}.bn{n}", previous, wide, kernel, step, spread))
                previous = wide
            changed = stride != 1 or inputs != outputs
            beside = (f"{name}.downsample.0", f"{name}.downsample.1", inputs, outputs, 1, stride)
            found.append(Block(tuple(convs), _layer(recipe, *beside) if changed else None))
            inputs = outputs
    return found


def _layer(
    recipe: Recipe, conv: str, norm: str, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1
) -> Layer:
    padding = (kernel // 2 * dilation, kernel // 2 * dilation)
    size = (kernel, kernel)
    return Layer(
        conv, norm, inputs, outputs, size, stride, padding, 1, dilation, bias=recipe.bias, epsilon=recipe.epsilon
    )


def shapes_of(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in the published file."""
    layers = [stem_of(recipe)]
    for block in blocks_of(recipe):
        layers += [*block.convs, *([block.shortcut] if block.shortcut else [])]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        shapes |= layer.shapes()
    return {n: (*s, s[-1]) if len(s) == 4 and recipe.volumes else s for n, s in shapes.items()}


class ResNet(nn.Module):
    """float32 ``(n, 3, y, x)``, of MedicalNet's and of equal channels ``(n, 1, y, x)`` -> features ``(n, d)``.

    ``d`` is 2048, of ``resnet10-3d`` 512. ``grey``: the input's three equal channels are given once.
    """

    def __init__(self, recipe: Recipe, state: State, *, grey: bool) -> None:
        super().__init__()
        if recipe.volumes:  # endlessly the same slice: weights are summed over depth
            state = {n: t.double().sum(dim=2) if t.ndim == 5 else t for n, t in state.items()}
        self.stem = FoldedConv(stem_of(recipe), state, grey=grey)
        blocks = blocks_of(recipe)
        self.blocks = nn.ModuleList(nn.ModuleList(FoldedConv(conv, state) for conv in b.convs) for b in blocks)
        self.shortcuts = nn.ModuleList(FoldedConv(b.shortcut, state) if b.shortcut else nn.Identity() for b in blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x), inplace=True), 3, 2, 1)
        for block, shortcut in zip(self.blocks, self.shortcuts, strict=True):
            beside = shortcut(x)
            *inner, last = cast("Iterable[FoldedConv]", block)
            for conv in inner:
                x = functional.relu(conv(x), inplace=True)
            x = functional.relu(last(x) + beside, inplace=True)
        return x.mean(dim=(2, 3))
