"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6 (Tan & Le, ICML 2019; Liu 2020).

Seven stages of inverted residual blocks: 1x1 expansion, depthwise convolution, 1x1 projection, and the input added
where the shape stays the same. Padding is TensorFlow's "same": at stride 2 the extra row is below and the extra
column on the right. Features are the 1280 averages over space after the last 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from synthkit_features.layers import FoldedConv, Layer, State, shapes

FEATURES, CLASSES = 1280, 1000

# (blocks, kernel, stride of the first block, expansion, outputs), Table 1 of Tan & Le.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

_STEM = Layer("_conv_stem", "_bn0", 3, 32, (3, 3), 2)
_HEAD = Layer("_conv_head", "_bn1", 320, FEATURES, (1, 1))


def _block(index: int, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> list[Layer]:
    name, width = f"_blocks.{index}", inputs * expansion
    padding = (kernel // 2, kernel // 2) if stride == 1 else (0, 0)  # at stride 2 by _pad_same
    layers = [Layer(f"{name}._expand_conv", f"{name}._bn0", inputs, width, (1, 1))] if expansion > 1 else []
    layers.append(
        Layer(f"{name}._depthwise_conv", f"{name}._bn1", width, width, (kernel, kernel), stride, padding, groups=width)
    )
    return [*layers, Layer(f"{name}._project_conv", f"{name}._bn2", width, outputs, (1, 1))]


def _blocks() -> list[list[Layer]]:
    blocks: list[list[Layer]] = []
    inputs = _STEM.outputs
    for repeats, kernel, stride, expansion, outputs in _STAGES:
        for repeat in range(repeats):
            blocks.append(_block(len(blocks), inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
            inputs = outputs
    return blocks


SHAPES = shapes([_STEM, *(layer for block in _blocks() for layer in block), _HEAD], "_fc", FEATURES, CLASSES)


class EfficientNetLite0(nn.Module):
    """float32 ``(n, 1, 224, 224)`` -> features ``(n, 1280)`` and logits ``(n, 1000)`` of the ImageNet classes."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, state: State) -> None:
        super().__init__()
        self.stem = FoldedConv(_STEM, state, grey=True)
        self.blocks = nn.ModuleList(nn.ModuleList(FoldedConv(layer, state) for layer in block) for block in _blocks())
        self.head = FoldedConv(_HEAD, state)
        self.register_buffer("weight", state["_fc.weight"].float())
        self.register_buffer("bias", state["_fc.bias"].float())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu6(self.stem(_pad_same(x, 3)))
        for block in self.blocks:
            shortcut = x
            *inner, project = cast("Iterable[FoldedConv]", block)
            for conv in inner:
                if conv.layer.stride == 2:
                    x = _pad_same(x, conv.layer.kernel[0])
                x = functional.relu6(conv(x), inplace=True)
            x = project(x)
            if x.shape == shortcut.shape:
                x = x + shortcut
        features = functional.relu6(self.head(x), inplace=True).mean(dim=(2, 3))
        return features, functional.linear(features, self.weight, self.bias)


def _pad_same(x: torch.Tensor, kernel: int) -> torch.Tensor:
    """Zeros around maps of even sides before a convolution of stride 2."""
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    return functional.pad(x, (before, after, before, after))
