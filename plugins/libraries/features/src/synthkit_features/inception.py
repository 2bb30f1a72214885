"""The Inception-v3 of the Frechet Inception distance, for the weights that pytorch-fid and torch-fidelity load.

Architecture: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016. The TensorFlow
graph of 2015-12-05 that FID is defined by (Heusel et al., NeurIPS 2017) differs from later implementations: average
pooling leaves the padding out of its mean, the pooling branch of the last block takes the maximum, and there are 1008
classes. Features are the 2048 averages over space after the last block.

Logits are without the bias of the last layer, as in the code of Salimans et al. 2016 that the Inception score is
quoted from.

NVlabs publish the same network as a program (TorchScript) that prepares its input by itself, as TensorFlow 1 did.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from synthkit_features.layers import FoldedConv, Layer, State, shapes

FEATURES, CLASSES = 2048, 1008

Kernel = int | tuple[int, int]


def _layer(name: str, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, same: bool = True) -> Layer:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (size[0] // 2, size[1] // 2) if same else (0, 0)
    return Layer(f"{name}.conv", f"{name}.bn", inputs, outputs, size, stride, padding)


def _block_a(name: str, inputs: int, pool: int) -> list[Layer]:
    return [
        _layer(f"{name}.branch1x1", inputs, 64, 1),
        _layer(f"{name}.branch5x5_1", inputs, 48, 1),
        _layer(f"{name}.branch5x5_2", 48, 64, 5),
        _layer(f"{name}.branch3x3dbl_1", inputs, 64, 1),
        _layer(f"{name}.branch3x3dbl_2", 64, 96, 3),
        _layer(f"{name}.branch3x3dbl_3", 96, 96, 3),
        _layer(f"{name}.branch_pool", inputs, pool, 1),
    ]


def _block_b(name: str) -> list[Layer]:
    return [
        _layer(f"{name}.branch3x3", 288, 384, 3, 2, same=False),
        _layer(f"{name}.branch3x3dbl_1", 288, 64, 1),
        _layer(f"{name}.branch3x3dbl_2", 64, 96, 3),
        _layer(f"{name}.branch3x3dbl_3", 96, 96, 3, 2, same=False),
    ]


def _block_c(name: str, width: int) -> list[Layer]:
    across, along = (1, 7), (7, 1)
    return [
        _layer(f"{name}.branch1x1", 768, 192, 1),
        _layer(f"{name}.branch7x7_1", 768, width, 1),
        _layer(f"{name}.branch7x7_2", width, width, across),
        _layer(f"{name}.branch7x7_3", width, 192, along),
        _layer(f"{name}.branch7x7dbl_1", 768, width, 1),
        _layer(f"{name}.branch7x7dbl_2", width, width, along),
        _layer(f"{name}.branch7x7dbl_3", width, width, across),
        _layer(f"{name}.branch7x7dbl_4", width, width, along),
        _layer(f"{name}.branch7x7dbl_5", width, 192, across),
        _layer(f"{name}.branch_pool", 768, 192, 1),
    ]


def _block_d(name: str) -> list[Layer]:
    return [
        _layer(f"{name}.branch3x3_1", 768, 192, 1),
        _layer(f"{name}.branch3x3_2", 192, 320, 3, 2, same=False),
        _layer(f"{name}.branch7x7x3_1", 768, 192, 1),
        _layer(f"{name}.branch7x7x3_2", 192, 192, (1, 7)),
        _layer(f"{name}.branch7x7x3_3", 192, 192, (7, 1)),
        _layer(f"{name}.branch7x7x3_4", 192, 192, 3, 2, same=False),
    ]


def _block_e(name: str, inputs: int) -> list[Layer]:
    return [
        _layer(f"{name}.branch1x1", inputs, 320, 1),
        _layer(f"{name}.branch3x3_1", inputs, 384, 1),
        _layer(f"{name}.branch3x3_2a", 384, 384, (1, 3)),
        _layer(f"{name}.branch3x3_2b", 384, 384, (3, 1)),
        _layer(f"{name}.branch3x3dbl_1", inputs, 448, 1),
        _layer(f"{name}.branch3x3dbl_2", 448, 384, 3),
        _layer(f"{name}.branch3x3dbl_3a", 384, 384, (1, 3)),
        _layer(f"{name}.branch3x3dbl_3b", 384, 384, (3, 1)),
        _layer(f"{name}.branch_pool", inputs, 192, 1),
    ]


_STEM = "Conv2d_1a_3x3"
_LAYERS = [
    _layer(_STEM, 3, 32, 3, 2, same=False),
    _layer("Conv2d_2a_3x3", 32, 32, 3, same=False),
    _layer("Conv2d_2b_3x3", 32, 64, 3),
    _layer("Conv2d_3b_1x1", 64, 80, 1),
    _layer("Conv2d_4a_3x3", 80, 192, 3, same=False),
    *_block_a("Mixed_5b", 192, 32),
    *_block_a("Mixed_5c", 256, 64),
    *_block_a("Mixed_5d", 288, 64),
    *_block_b("Mixed_6a"),
    *_block_c("Mixed_6b", 128),
    *_block_c("Mixed_6c", 160),
    *_block_c("Mixed_6d", 160),
    *_block_c("Mixed_6e", 192),
    *_block_d("Mixed_7a"),
    *_block_e("Mixed_7b", 1280),
    *_block_e("Mixed_7c", 2048),
]

SHAPES = shapes(_LAYERS, "fc", FEATURES, CLASSES)


class FidInception(nn.Module):
    """float32 ``(n, 1, 299, 299)`` -> features ``(n, 2048)`` and logits ``(n, 1008)``."""

    weight: torch.Tensor

    def __init__(self, state: State) -> None:
        super().__init__()
        convs = {}
        for layer in _LAYERS:
            name = layer.conv.removesuffix(".conv")
            convs[name.replace(".", "/")] = FoldedConv(layer, state, grey=name == _STEM)
        self.convs = nn.ModuleDict(convs)
        self.register_buffer("weight", state["fc.weight"].float())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self._chain(x, _STEM, "Conv2d_2a_3x3", "Conv2d_2b_3x3")
        x = functional.max_pool2d(x, 3, 2)
        x = self._chain(x, "Conv2d_3b_1x1", "Conv2d_4a_3x3")
        x = functional.max_pool2d(x, 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self._block_a(name, x)
        x = self._block_b("Mixed_6a", x)
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self._block_c(name, x)
        x = self._block_d("Mixed_7a", x)
        x = self._block_e("Mixed_7b", x, _average(x))
        x = self._block_e("Mixed_7c", x, functional.max_pool2d(x, 3, 1, 1))
        features = x.mean(dim=(2, 3))
        return features, functional.linear(features, self.weight)

    def _chain(self, x: torch.Tensor, *names: str) -> torch.Tensor:
        for name in names:
            x = functional.relu(self.convs[name.replace(".", "/")](x), inplace=True)
        return x

    def _branch(self, block: str, x: torch.Tensor, branch: str, *steps: int) -> torch.Tensor:
        return self._chain(x, *(f"{block}.{branch}_{step}" for step in steps))

    def _block_a(self, block: str, x: torch.Tensor) -> torch.Tensor:
        parts = [
            self._chain(x, f"{block}.branch1x1"),
            self._branch(block, x, "branch5x5", 1, 2),
            self._branch(block, x, "branch3x3dbl", 1, 2, 3),
            self._chain(_average(x), f"{block}.branch_pool"),
        ]
        return torch.cat(parts, dim=1)

    def _block_b(self, block: str, x: torch.Tensor) -> torch.Tensor:
        parts = [
            self._chain(x, f"{block}.branch3x3"),
            self._branch(block, x, "branch3x3dbl", 1, 2, 3),
            functional.max_pool2d(x, 3, 2),
        ]
        return torch.cat(parts, dim=1)

    def _block_c(self, block: str, x: torch.Tensor) -> torch.Tensor:
        parts = [
            self._chain(x, f"{block}.branch1x1"),
            self._branch(block, x, "branch7x7", 1, 2, 3),
            self._branch(block, x, "branch7x7dbl", 1, 2, 3, 4, 5),
            self._chain(_average(x), f"{block}.branch_pool"),
        ]
        return torch.cat(parts, dim=1)

    def _block_d(self, block: str, x: torch.Tensor) -> torch.Tensor:
        parts = [
            self._branch(block, x, "branch3x3", 1, 2),
            self._branch(block, x, "branch7x7x3", 1, 2, 3, 4),
            functional.max_pool2d(x, 3, 2),
        ]
        return torch.cat(parts, dim=1)

    def _block_e(self, block: str, x: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        single = self._branch(block, x, "branch3x3", 1)
        double = self._branch(block, x, "branch3x3dbl", 1, 2)
        parts = [
            self._chain(x, f"{block}.branch1x1"),
            self._chain(single, f"{block}.branch3x3_2a"),
            self._chain(single, f"{block}.branch3x3_2b"),
            self._chain(double, f"{block}.branch3x3dbl_3a"),
            self._chain(double, f"{block}.branch3x3dbl_3b"),
            self._chain(pooled, f"{block}.branch_pool"),
        ]
        return torch.cat(parts, dim=1)


class NvlabsInception(nn.Module):
    """NVlabs' program: uint8 ``(n, y, x)`` -> features ``(n, 2048)``, and logits up to a constant of each image.

    The program gives features or probabilities, so each image goes through it twice.
    """

    def __init__(self, program: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.program = program

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        coloured = images[:, None].expand(-1, 3, -1, -1)
        shares = self.program(coloured, no_output_bias=True)
        return self.program(coloured, return_features=True), shares.clamp_min(torch.finfo(torch.float32).tiny).log()


def _average(x: torch.Tensor) -> torch.Tensor:
    """3 x 3 average of the pixels that exist: TensorFlow leaves the padding out."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
