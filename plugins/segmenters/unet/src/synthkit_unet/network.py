"""The network of nnU-Net on MONAI's DynUNet, and its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.networks.nets.dynunet import DynUNet
from synthkit_segmentation.losses import dice_and_cross_entropy
from torch import Tensor, nn

_MOST_FILTERS = 2048
_SMALLEST_MAP = 4


@dataclass(frozen=True)
class Architecture:
    """What is needed to build the network again."""

    contrasts: int
    classes: int
    depth: int
    filters: int

    @property
    def stride(self) -> int:
        """Image sides must be multiples of this, in pixels."""
        return int(2 ** (self.depth - 1))

    @property
    def widths(self) -> list[int]:
        return [min(self.filters * 2**level, _MOST_FILTERS) for level in range(self.depth)]


def usable_depth(depth: int, size: tuple[int, int]) -> int:
    """``depth``, or as many levels (at least 3) as leave a smallest map of 4 pixels in an image of ``size`` (y, x)."""
    return max(3, min(depth, int(math.log2(max(min(size), _SMALLEST_MAP) / _SMALLEST_MAP)) + 1))


def build_network(architecture: Architecture, device: torch.device, seed: int = 0) -> SupervisedUNet:
    """The network on ``device``; its first weights come from ``seed``, and no global generator is touched for good."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _make_network(architecture)
    if device.type == "cpu":
        _use_group_norm(network)
    return network.to(device)


class SupervisedUNet(DynUNet):  # type: ignore[misc] # monai has no types
    """In training a list of logits (n, class, y, x): at full resolution, then at 1/2, 1/4, ... as supervised."""

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        full: Tensor = self.output_block(self.skip_layers(images))
        if not self.training:
            return full
        return [full, *self.heads] if self.deep_supervision else [full]


def _make_network(architecture: Architecture) -> SupervisedUNet:
    """DynUNet with two 3x3 convolutions a level, instance norm, leaky ReLU 0.01 and its outputs for supervision."""
    depth = architecture.depth
    strides = [1] + [2] * (depth - 1)
    supervised = len(deep_supervision_weights(depth - 1)) - 1
    return SupervisedUNet(
        spatial_dims=2,
        in_channels=architecture.contrasts,
        out_channels=architecture.classes,
        kernel_size=[3] * depth,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=architecture.widths,
        norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=supervised > 0,
        deep_supr_num=max(1, supervised),
    )


def _use_group_norm(module: nn.Module) -> None:
    """Instance norm as group norm of one channel a group: the same function, about 1.2 times faster steps on a CPU."""
    for name, child in module.named_children():
        if isinstance(child, nn.InstanceNorm2d):
            setattr(module, name, nn.GroupNorm(child.num_features, child.num_features, eps=child.eps))
        else:
            _use_group_norm(child)


def deep_supervision_weights(n_outputs: int) -> list[float]:
    """Weights 1, 1/2, 1/4, ... of the outputs from full resolution down, the lowest of several left out (weight 0).

    Divided by their sum, as in nnU-Net: the size of the loss, and with it what a learning rate means, does not depend
    on the depth. Outputs of weight 0 are not returned, and never computed.
    """
    weights = [0.5**level for level in range(max(1, n_outputs - 1))]
    return [weight / sum(weights) for weight in weights]


def training_loss(outputs: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Soft Dice + cross-entropy of each output against the labels at its resolution, weighted for deep supervision."""
    weights = deep_supervision_weights(len(outputs) + 1)
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for level, (weight, logits) in enumerate(zip(weights, outputs, strict=True)):
        there = classes[:, :: 2**level, :: 2**level]
        total = total + weight * dice_and_cross_entropy(logits, there)
    return total
