"""Labels of a stream of images; a few images are held at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from synthkit_torch.devices import find_device, memory_errors
from torch import Tensor, nn

from synthkit.errors import DataError
from synthkit_segmentation.checkpoints import BEST, load_weights, read_config
from synthkit_segmentation.inputs import BACKGROUND_LEVEL, normalise, pad
from synthkit_segmentation.recipe import Recipe, RecipeOf, Task

if TYPE_CHECKING:
    from synthkit.contract import UInt8Array
    from synthkit_segmentation.params import TrainingParams

#: Images of one forward pass outside training.
BATCH = 16


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, recipe: Recipe) -> Tensor:
    """Logits (n, class, y, x) of images uint8 (n, contrast, y, x)."""
    network.eval()
    logits: Tensor = network(pad(normalise(images), recipe.stride, recipe.smallest))
    return logits[..., : images.shape[-2], : images.shape[-1]]


def segment(
    recipe_of: RecipeOf, checkpoint: Path, images: Iterable[UInt8Array], params: TrainingParams
) -> Iterator[UInt8Array]:
    """Labels uint8 (y, x) for each image uint8 (contrast, y, x), in order.

    Images have all the contrasts of the training data, in its order; sides of any length. An image without
    foreground (all 0, say) is background throughout. Raises :class:`DataError` for an image with other contrasts.
    """
    for labels, _ in _segmented(recipe_of, checkpoint, images, params):
        yield from labels.cpu().numpy()


def segment_with_probabilities(
    recipe_of: RecipeOf, checkpoint: Path, images: Iterable[UInt8Array], params: TrainingParams
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """As :func:`segment`, with probabilities uint8 (class, y, x) beside the labels; 255 is 1.

    Classes are in the order of the label values, background first. An image without foreground is background for sure.
    """
    for labels, logits in _segmented(recipe_of, checkpoint, images, params):
        probabilities = (logits.float().softmax(1) * 255).round().to(torch.uint8)
        yield from zip(labels.cpu().numpy(), probabilities.cpu().numpy(), strict=True)


def _segmented(
    recipe_of: RecipeOf, checkpoint: Path, images: Iterable[UInt8Array], params: TrainingParams
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels uint8 (n, y, x) and logits (n, class, y, x) of batches."""
    config = read_config(checkpoint)
    recipe = recipe_of(task_of(config), params_of(config, params))
    device = find_device()
    network = recipe.build(device, 0)
    load_weights(network, checkpoint / BEST)
    values = torch.tensor(config["label_values"], dtype=torch.uint8, device=device)
    batch_size = min(params.batch_size, BATCH)
    with memory_errors(recipe.name, recipe.remedy, f"batch_size {batch_size} in segmentation"):
        for batch in _grouped(images, batch_size, config["contrasts"]):
            pixels = torch.from_numpy(np.stack(batch)).to(device)
            logits = predict(network, pixels[:, config["channels"]], recipe)
            # A slice without foreground tells the network nothing; its answer would be whatever its biases say.
            empty = ~(pixels > BACKGROUND_LEVEL).flatten(1).any(1)
            logits[empty] = -torch.inf
            logits[empty, 0] = 0.0
            yield values[logits.argmax(1)], logits


def task_of(config: dict[str, Any]) -> Task:
    return Task(len(config["channels"]), len(config["label_values"]), tuple(config["size"]))


def params_of(config: dict[str, Any], params: TrainingParams) -> TrainingParams:
    """The parameters of the training, whatever those of the segmentation are: the network's shape follows from them."""
    trained: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in config["params"].items()}
    return dataclasses.replace(params, **trained)


def _grouped(images: Iterable[UInt8Array], batch_size: int, contrasts: Sequence[str]) -> Iterator[list[UInt8Array]]:
    """Consecutive images of one shape, at most ``batch_size`` of them; each is checked."""
    batch: list[UInt8Array] = []
    for number, given in enumerate(images):
        image = np.asarray(given)
        if image.ndim != 3 or image.shape[0] != len(contrasts) or image.dtype != np.uint8:
            raise DataError(
                f"Image {number} does not fit the segmenter.",
                f"It is {image.dtype} {image.shape}; the training data were uint8 ({len(contrasts)}, y, x), "
                f"with the contrasts {', '.join(contrasts)}.",
                "Give the contrasts of the training data, in their order.",
            )
        if batch and (batch[0].shape != image.shape or len(batch) == batch_size):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch
