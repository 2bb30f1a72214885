"""The network of nnU-Net on MONAI's DynUNet, what it is shown, and its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

#: A pixel is background where no contrast exceeds this grey level (of 255). Padding of real slices is exactly 0;
#: generated background is not, and counting its few grey levels as brain would shift mean and deviation.
BACKGROUND_LEVEL = 4

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


def build_network(architecture: Architecture, device: torch.device, seed: int = 0) -> DynUNet:
    """The network on ``device``; its first weights come from ``seed``, and no global generator is touched for good."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _make_network(architecture)
    if device.type == "cpu":
        _use_group_norm(network)
    return network.to(device)


def _make_network(architecture: Architecture) -> DynUNet:
    """DynUNet with two 3x3 convolutions a level, instance norm, leaky ReLU 0.01 and its outputs for supervision."""
    depth = architecture.depth
    strides = [1] + [2] * (depth - 1)
    supervised = len(deep_supervision_weights(depth - 1)) - 1
    return DynUNet(
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


def outputs_of(network: DynUNet, images: Tensor) -> list[Tensor]:
    """Logits (n, class, y, x) at full resolution, then at 1/2, 1/4, ... for each supervised level."""
    full = network.output_block(network.skip_layers(images))
    return [full, *network.heads] if network.deep_supervision else [full]


def normalise(images: Tensor) -> Tensor:
    """Z-score of each channel of each slice over its non-background pixels; background becomes 0.

    Parameters
    ----------
    images : uint8 (n, contrast, y, x). A pixel is background where no contrast exceeds ``BACKGROUND_LEVEL``.

    Returns
    -------
    float32, same shape. A channel that is constant over its foreground, and an empty slice, become 0 throughout.
    """
    foreground = (images > BACKGROUND_LEVEL).any(1, keepdim=True)
    values = images.to(torch.int32) * foreground
    # Integer sums are exact, so that a slice's result does not depend on its neighbours in the batch.
    count = foreground.sum((2, 3), keepdim=True).clamp(min=1)
    total, squares = values.sum((2, 3), keepdim=True), (values * values).sum((2, 3), keepdim=True)
    variance = (count * squares - total * total).double() / (count * count).double()
    scale = torch.where(variance > 0, variance.clamp(min=1e-12).rsqrt(), torch.zeros_like(variance))
    mean = total.double() / count.double()
    return (images.float() - mean.float()) * scale.float() * foreground


def pad_to_stride(images: Tensor, stride: int) -> Tensor:
    """Zeros at the bottom and right of (..., y, x) up to multiples of ``stride``, at least 4 times ``stride``."""
    height, width = (max(_SMALLEST_MAP, -(-side // stride)) * stride for side in images.shape[-2:])
    return F.pad(images, (0, width - images.shape[-1], 0, height - images.shape[-2]))


def deep_supervision_weights(n_outputs: int) -> list[float]:
    """Weights 1, 1/2, 1/4, ... of the outputs from full resolution down, the lowest of several left out (weight 0).

    Divided by their sum, as in nnU-Net: the size of the loss, and with it what a learning rate means, does not depend
    on the depth. Outputs of weight 0 are not returned, and never computed.
    """
    weights = [0.5**level for level in range(max(1, n_outputs - 1))]
    return [weight / sum(weights) for weight in weights]


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """One minus the soft Dice, pooled over the batch (nnU-Net's batch Dice), mean over the foreground classes.

    ``logits`` (n, class, y, x), ``classes`` (n, y, x). ``(2 I + s) / (P + R + s)`` with s = 1e-5: a class that is
    neither there nor predicted has Dice 1.
    """
    probabilities = logits.float().softmax(1)[:, 1:]
    foreground = torch.arange(1, logits.shape[1], device=logits.device)
    reference = (classes[:, None] == foreground[:, None, None]).float()
    overlap = (probabilities * reference).sum((0, 2, 3))
    sizes = probabilities.sum((0, 2, 3)) + reference.sum((0, 2, 3))
    return 1 - ((2 * overlap + 1e-5) / (sizes + 1e-5)).mean()


def training_loss(outputs: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Soft Dice + cross-entropy of each output against the labels at its resolution, weighted for deep supervision."""
    weights = deep_supervision_weights(len(outputs) + 1)
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for level, (weight, logits) in enumerate(zip(weights, outputs, strict=True)):
        there = classes[:, :: 2**level, :: 2**level]
        total = total + weight * (F.cross_entropy(logits.float(), there.long()) + dice_loss(logits, there))
    return total
