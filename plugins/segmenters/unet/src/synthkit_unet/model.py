"""2-D nnU-Net-style segmentation of labelled MR slices on MONAI's DynUNet.

The recipe is that of Isensee et al. 2021 (nnU-Net) with the settings of Akbar et al. 2024. Differences on purpose:

- the learning rate decays with the images shown, not with epochs, so that equal budgets are equal whatever the data;
- shuffling is plain: nnU-Net oversamples foreground, the study's kept slices have no tumour criterion;
- supervised resolutions are compared at their own size, with labels sampled down, as in nnU-Net (DynUNet itself would
  enlarge its outputs instead).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from synthkit_segmentation import prediction
from synthkit_segmentation.recipe import Recipe, Task
from synthkit_segmentation.training import fit
from torch import nn

from synthkit.contract import Samples
from synthkit_unet.network import Architecture, build_network, training_loss, usable_depth

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array
    from synthkit_unet import UnetParams

_MOMENTUM, _WEIGHT_DECAY, _DECAY_POWER, _CLIP_NORM = 0.99, 3e-5, 0.9, 12.0
_SMALLEST_MAP = 4


def recipe(task: Task, params: UnetParams) -> Recipe:
    """The network and its training."""
    architecture = Architecture(task.contrasts, task.classes, usable_depth(params.depth, task.size), params.filters)
    return Recipe(
        name="unet",
        stride=architecture.stride,
        smallest=_SMALLEST_MAP * architecture.stride,
        build=functools.partial(build_network, architecture),
        loss=training_loss,
        optimiser=functools.partial(_optimiser, params.learning_rate),
        learning_rate=functools.partial(learning_rate, params.learning_rate),
        clip_norm=_CLIP_NORM,
        remedy="Lower batch_size (-p batch_size=16), then filters.",
    )


def _optimiser(rate: float, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=_MOMENTUM, nesterov=True, weight_decay=_WEIGHT_DECAY)


def learning_rate(start: float, done: int, total: int) -> float:
    """Polynomial decay: ``start * (1 - done / total) ** 0.9``."""
    return float(start * (1 - done / total) ** _DECAY_POWER)


def train(
    data: Samples,
    checkpoint: Path,
    params: UnetParams,
    *,
    validation: Samples | None = None,
    initial: Path | None = None,
    initial_state: Path | None = None,
) -> None:
    """Train as :func:`synthkit_segmentation.training.fit` says; a segmenter leaves no state."""
    fit(recipe, data, checkpoint, params, validation=validation, initial=initial)


def segment(checkpoint: Path, images: Iterable[UInt8Array], params: UnetParams) -> Iterator[UInt8Array]:
    """Labels as :func:`synthkit_segmentation.prediction.segment` says."""
    return prediction.segment(recipe, checkpoint, images, params)


def segment_with_probabilities(
    checkpoint: Path, images: Iterable[UInt8Array], params: UnetParams
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """As :func:`synthkit_segmentation.prediction.segment_with_probabilities` says."""
    return prediction.segment_with_probabilities(recipe, checkpoint, images, params)
