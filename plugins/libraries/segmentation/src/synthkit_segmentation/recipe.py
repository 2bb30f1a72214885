"""What a segmenter brings to the shared training and segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Separate random streams of one seed.
SPLIT, ORDER, AUGMENTATION, VALIDATION, NETWORK = range(5)


@dataclass(frozen=True)
class Task:
    """What the data ask of a network: input channels, classes (background among them) and (y, x) in training."""

    contrasts: int
    classes: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    Attributes
    ----------
    name : of the plugin, for messages.
    stride : images are padded to multiples of this on either side, in pixels.
    smallest : images are padded to at least this side, in pixels.
    build : the network on a device, its first weights from a seed. Given float32 (n, contrast, y, x) it returns logits:
        in evaluation a tensor (n, class, y, x) of the size of its input; in training a list whose first entry is that
        tensor and whose others (deep supervision, auxiliary heads) are whatever ``loss`` knows.
    loss : of what the network returns in training, against classes uint8 (n, y, x). Use the sums of
        :mod:`synthkit_segmentation.losses`, which several processes share.
    optimiser : for the network.
    learning_rate : from the images shown so far and in all, before each step.
    clip_norm : largest norm of the gradients; None leaves them alone.
    remedy : what to lower when memory runs out, a sentence.
    budget : training images shown in all, from the number of different ones; None means the parameter ``samples``.
    initialise : loads pretrained weights from a file into the network, for the first step only; None where there
        are none to load.
    """

    name: str
    stride: int
    smallest: int
    build: Callable[[torch.device, int], nn.Module]
    loss: Callable[[Sequence[Tensor], Tensor], Tensor]
    optimiser: Callable[[nn.Module], torch.optim.Optimizer]
    learning_rate: Callable[[int, int], float]
    clip_norm: float | None
    remedy: str
    budget: Callable[[int], int] | None = None
    initialise: Callable[[nn.Module, Path], None] | None = None


#: Makes the recipe for a task from the segmenter's parameters. A function of a module, which other processes import.
RecipeOf = Callable[[Task, Any], Recipe]
