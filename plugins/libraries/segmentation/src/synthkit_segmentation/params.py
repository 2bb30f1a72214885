"""The parameters that all segmenters have. Needs the standard library and synthkit alone: declarations import it."""

from __future__ import annotations

from dataclasses import dataclass

import synthkit


@dataclass(frozen=True)
class TrainingParams:
    """What is trained on, for how long and from which seed; a segmenter's own parameters follow."""

    samples: int = synthkit.param(500_000, "budget: training images shown, with repeats", minimum=1, unit="samples")
    batch_size: int = synthkit.param(48, "images of one training step, over all GPUs", minimum=1, unit="samples")
    learning_rate: float = synthkit.param(0.01, "learning rate at the start; decays to 0", minimum=1e-8, maximum=10)
    augment: bool = synthkit.param(
        True, "augment the training images: rotation, scale, noise, blur, low resolution, gamma"
    )
    contrasts: tuple[str, ...] = synthkit.param((), "contrasts that the network sees; none means all of the dataset")
    validation_fraction: float = synthkit.param(
        0.2, "share of the subjects (of the samples, if synthetic) kept for validation", minimum=0, maximum=0.9
    )
    validation_samples: int = synthkit.param(
        2000, "at most this many validation slices are scored, drawn once", minimum=1, unit="samples"
    )
    checkpoint_every: int = synthkit.param(
        25_000, "training images between validations, each of which leaves a checkpoint", minimum=1, unit="samples"
    )
    precision: str = synthkit.param(
        "auto",
        "arithmetic of the network in training; auto: bfloat16 on a GPU that has it",
        choices=("auto", "float32", "tf32", "bfloat16"),
    )
    seed: int = synthkit.param(0, "seed of weights, order, augmentation and validation split", minimum=0)
