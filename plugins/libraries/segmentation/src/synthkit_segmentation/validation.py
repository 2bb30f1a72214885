"""Dice of the validation samples, pooled: what decides which weights are the best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from synthkit_torch import parallel
from torch import nn

from synthkit_segmentation.feeding import Reader
from synthkit_segmentation.prediction import BATCH, predict
from synthkit_segmentation.recipe import Recipe


def validate(
    network: nn.Module, reader: Reader, rows: Sequence[int], recipe: Recipe, n_classes: int, batch_size: int
) -> tuple[float | None, list[float | None]]:
    """Mean Dice, and that of each foreground class, over ``rows`` pooled; None where there is nothing to find.

    A class that is in no reference and in no prediction is not counted; one that is only predicted has 0. With several
    processes ``rows`` are those of this process and the result is that of all.
    """
    device = next(network.parameters()).device
    classes = torch.arange(1, n_classes, device=device)[:, None, None, None]
    counts = torch.zeros(2, n_classes - 1, dtype=torch.int64, device=device)  # twice the overlap, and the sizes
    step = min(batch_size, BATCH)
    for start in range(0, len(rows), step):
        images, reference = reader.read(rows[start : start + step])
        found = predict(network, images.to(device), recipe).argmax(1)[None] == classes
        wanted = reference.to(device) == classes
        counts[0] += 2 * (found & wanted).sum((1, 2, 3))
        counts[1] += found.sum((1, 2, 3)) + wanted.sum((1, 2, 3))
    pooled = parallel.total([counts]).tolist()
    by_class = [overlap / size if size else None for overlap, size in zip(*pooled, strict=True)]
    counted = [dice for dice in by_class if dice is not None]
    return (sum(counted) / len(counted) if counted else None), by_class
