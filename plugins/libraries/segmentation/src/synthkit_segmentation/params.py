"""The parameters that the shared training reads; every segmenter declares these among its own."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol


class TrainingParams(Protocol):
    """What is trained on, for how long and from which seed. A frozen dataclass.

    Attributes
    ----------
    samples : budget, training images shown with repeats.
    batch_size : images of one training step, over all GPUs.
    learning_rate : the largest.
    augment : whether the training images are augmented.
    contrasts : those that the network sees; none means all of the dataset.
    validation_fraction : share of the subjects (of the samples, if synthetic) kept for validation.
    validation_samples : at most this many validation slices are scored.
    checkpoint_every : training images between validations, each of which leaves a checkpoint.
    seed : of weights, order, augmentation and validation split.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def samples(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def augment(self) -> bool: ...
    @property
    def contrasts(self) -> tuple[str, ...]: ...
    @property
    def validation_fraction(self) -> float: ...
    @property
    def validation_samples(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def seed(self) -> int: ...
