"""What tests of segmenters need: a task that is learned in seconds, and a training that is interrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from synthkit_torch.on_device import assert_stays_on_the_device
from torch import Tensor, nn

from synthkit.testing import InMemorySamples
from synthkit_segmentation import training
from synthkit_segmentation.checkpoints import BEST, LAST
from synthkit_segmentation.losses import dice_and_cross_entropy
from synthkit_segmentation.params import TrainingParams
from synthkit_segmentation.recipe import Recipe, RecipeOf, Task


@dataclass(frozen=True)
class ToyParams(TrainingParams):
    """The parameters that every segmenter has, for a training of a second."""

    samples: int = 48
    batch_size: int = 4
    checkpoint_every: int = 16
    seed: int = 3


class Toy(InMemorySamples):
    """``n`` discs (label 1) in rings (label 4) of any place and radius; synthetic ones, unless there are subjects."""

    def __init__(self, n: int, size: tuple[int, int] = (32, 32), *, n_subjects: int = 0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[: size[0], : size[1]]
        labels = np.zeros((n, *size), np.uint8)
        images = rng.normal(60, 12, (n, 3, *size))
        for i in range(n):
            radius = rng.uniform(3, 5)
            distance = np.hypot(y - rng.uniform(8, size[0] - 8), x - rng.uniform(8, size[1] - 8))
            labels[i][distance < radius + 3] = 4
            labels[i][distance < radius] = 1
            images[i, 0][labels[i] == 1] += 90
            images[i, 1][labels[i] == 4] += 70
        subjects = [f"s{i % n_subjects}" if n_subjects else None for i in range(n)]
        pixels = images.clip(5, 255).astype(np.uint8)
        super().__init__(pixels, labels, subjects=subjects, contrasts=("t1", "t1ce", "t2"), label_values=(0, 1, 4))


class ToyNetwork(nn.Module):
    """Three convolutions."""

    def __init__(self, task: Task, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(task.contrasts, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(8, task.classes, 1)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        logits: Tensor = self.head(self.dropout(self.layers(images)))
        return [logits] if self.training else logits


def toy_recipe(task: Task, params: ToyParams, dropout: float = 0.0) -> Recipe:
    """A network of a few hundred weights, trained by Adam."""
    return Recipe(
        name="toy",
        stride=4,
        smallest=8,
        build=lambda device, seed: _build(task, dropout, device, seed),
        loss=lambda outputs, classes: dice_and_cross_entropy(outputs[0], classes),
        optimiser=lambda network: torch.optim.AdamW(network.parameters(), lr=params.learning_rate),
        learning_rate=lambda done, total: params.learning_rate * (1 - done / total),
        clip_norm=12.0,
        remedy="Lower batch_size.",
    )


def _build(task: Task, dropout: float, device: torch.device, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ToyNetwork(task, dropout).to(device)


def assert_resumes_exactly(train: Callable[[Toy, Path], None], folder: Path, stop_at: int) -> None:
    """A training interrupted where image ``stop_at`` comes next ends with the bytes of one that was not interrupted."""
    data, whole, broken = Toy(20, n_subjects=5), folder / "whole", folder / "broken"
    whole.mkdir()
    broken.mkdir()
    train(data, whole)
    real_step = training._step

    def failing_step(*arguments: Any) -> Tensor:
        if arguments[-1][0] == stop_at:
            raise KeyboardInterrupt
        return real_step(*arguments)

    with mock.patch.object(training, "_step", failing_step), pytest.raises(KeyboardInterrupt):
        train(data, broken)
    train(data, broken)
    for name in (BEST, LAST):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def assert_step_needs_nothing_of_the_host(recipe_of: RecipeOf, params: TrainingParams, side: int = 64) -> None:
    """A step of the training, without augmentation, whose numbers are drawn by image on the CPU, stays on the GPU."""

    class OneStep:
        def __init__(self, device: torch.device) -> None:
            self.recipe = recipe_of(Task(3, 3, (side, side)), params)
            self.network = self.recipe.build(device, 0)
            self.optimisers = {"network": self.recipe.optimiser(self.network)}

        def training_step(self, real: Tensor) -> dict[str, Tensor]:
            images, classes = real.to(torch.uint8), real[:, 0].to(torch.uint8)
            unaugmented = dataclasses.replace(params, augment=False)
            optimiser, numbers = self.optimisers["network"], range(len(real))
            precision = torch.float32  # the meta device has no autocast
            loss = training._step(
                self.network, optimiser, images, classes, self.recipe, unaugmented, precision, numbers
            )
            return {"loss": loss}

    assert_stays_on_the_device(OneStep, (2, 3, side, side))
