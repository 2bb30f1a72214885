"""2-D segmentation of labelled MR slices by a Swin transformer with a UPerNet head.

The recipe is that of Swin's authors for semantic segmentation (Liu et al. 2021) with the settings of Akbar et al. 2024:
AdamW, a linear warm-up, then linear decay; no weight decay on norms and position biases. The loss is soft Dice +
cross-entropy of the head, plus 0.4 times that of the auxiliary head. Differences on purpose: Dice is that of ``unet``,
pooled over the batch (there of each image, with squared probabilities), and the budget is counted in images.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from synthkit_segmentation import prediction
from synthkit_segmentation.losses import dice_and_cross_entropy
from synthkit_segmentation.recipe import Recipe, Task
from synthkit_segmentation.training import fit
from torch import Tensor, nn

from synthkit.contract import Samples
from synthkit_swin.network import STRIDE, build_network
from synthkit_swin.pretrained import load_backbone_weights

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array
    from synthkit_swin import SwinParams

_WEIGHT_DECAY, _AUXILIARY_WEIGHT = 0.01, 0.4


def recipe(task: Task, params: SwinParams) -> Recipe:
    """The network and its training."""
    return Recipe(
        name="swin",
        stride=STRIDE,
        smallest=STRIDE,
        build=functools.partial(
            build_network, task, params.backbone, head_channels=params.head_channels, drop_path=params.drop_path
        ),
        loss=training_loss,
        optimiser=functools.partial(make_optimiser, params.learning_rate),
        learning_rate=functools.partial(learning_rate, params),
        clip_norm=None,
        remedy="Lower batch_size (-p batch_size=4), or use a smaller backbone (-p backbone=tiny).",
        budget=functools.partial(budget, params),
        initialise=load_backbone_weights,
    )


def budget(params: SwinParams, n_training: int) -> int:
    """Training images shown, a multiple of the batch size: batch norm cannot do with a last batch of one image."""
    wanted = params.epochs * n_training if params.epochs else params.samples
    return -(-wanted // params.batch_size) * params.batch_size


def learning_rate(params: SwinParams, done: int, total: int) -> float:
    """Linear warm-up over ``warmup_steps``, then linear decay to 0 at the end of the training."""
    warmup = min(params.warmup_steps * params.batch_size, total // 2)
    if done < warmup:
        return params.learning_rate * (done + params.batch_size) / (warmup + params.batch_size)
    return params.learning_rate * (total - done) / (total - warmup)


def make_optimiser(rate: float, network: nn.Module) -> torch.optim.Optimizer:
    """AdamW; norms and tables of position biases do not decay."""
    no_decay: list[nn.Parameter] = []
    decay: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (no_decay if "norm" in name or "relative_position_bias" in name else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": _WEIGHT_DECAY}, {"params": no_decay, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate)


def training_loss(outputs: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Dice + cross-entropy of the head, and 0.4 times that of the auxiliary head."""
    logits, auxiliary = outputs
    return dice_and_cross_entropy(logits, classes) + _AUXILIARY_WEIGHT * dice_and_cross_entropy(auxiliary, classes)


def train(
    data: Samples,
    checkpoint: Path,
    params: SwinParams,
    *,
    validation: Samples | None = None,
    pretrained: Path | None = None,
    initial: Path | None = None,
    initial_state: Path | None = None,
) -> None:
    """Train as :func:`synthkit_segmentation.training.fit` says; a segmenter leaves no state."""
    fit(recipe, data, checkpoint, params, validation=validation, pretrained=pretrained, initial=initial)


def segment(checkpoint: Path, images: Iterable[UInt8Array], params: SwinParams) -> Iterator[UInt8Array]:
    """Labels as :func:`synthkit_segmentation.prediction.segment` says."""
    return prediction.segment(recipe, checkpoint, images, params)


def segment_with_probabilities(
    checkpoint: Path, images: Iterable[UInt8Array], params: SwinParams
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """As :func:`synthkit_segmentation.prediction.segment_with_probabilities` says."""
    return prediction.segment_with_probabilities(recipe, checkpoint, images, params)
