"""The parameters that all generators have. Needs the standard library and synthkit alone: declarations import it.

They are two classes, so that those of the method come in between: the fields of a dataclass come in the order of its
bases from the last to the first. ::

    @dataclass(frozen=True)
    class MethodParams(FirstParams):
        kimg: float = changed(FirstParams, "kimg", 10000.0)
        gamma: float = synthkit.param(8.0, "weight of the R1 penalty", minimum=0)


    @dataclass(frozen=True)
    class Params(LastParams, MethodParams):
        truncation_psi: float = synthkit.param(1.0, "generate: less gives safer images", minimum=0)

What the method changes of the :class:`FirstParams` belongs into the first class, of the :class:`LastParams` into the
second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import synthkit


@dataclass(frozen=True)
class FirstParams:
    """Length, size and images of a training, as the study has it at 256x256."""

    kimg: float = synthkit.param(
        25000.0, "length of training: real images shown, in thousands", minimum=0, unit="kimg", resume="more"
    )
    batch_size: int = synthkit.param(32, "images a training step", minimum=1)
    accumulate: int = synthkit.param(
        1,
        "parts that a batch is taken in, for less memory; the result is the same within rounding",
        minimum=1,
        resume="any",
    )
    learning_rate: float = synthkit.param(0.001, "Adam learning rate", minimum=0)
    mirror: bool = synthkit.param(
        False, "show each training image also mirrored left to right, with its labels: samples are of both kinds"
    )


@dataclass(frozen=True)
class AdversarialParams(FirstParams):
    """The same, of a training with a discriminator."""

    frozen_layers: int = synthkit.param(
        0,
        "fine-tuning (--from): so many first layers of the discriminator stay as they are (FreezeD)",
        minimum=0,
    )


@dataclass(frozen=True)
class LastParams:
    """How labels are coded, what is kept of a training and how precise it is, and how samples are generated."""

    label_encoding: Literal["grey", "onehot", "nested", "distance"] = synthkit.param(
        "grey",
        "channels of the labels: grey, one of grey levels, as the study; onehot, one a label; nested, one a region of "
        "the label scheme; distance, one a label with the distance to its border",
    )
    label_order: str = synthkit.param(
        "",
        "labels from the lowest grey level to the highest, as 0,2,4,1, where neighbours in a tumour are neighbours; "
        "empty: by value, as the study",
    )
    checkpoint_kimg: float = synthkit.param(
        20.0, "training can be resumed from a state saved this often", minimum=0.001, unit="kimg", resume="any"
    )
    snapshot_kimg: float = synthkit.param(
        200.0,
        "a grid of samples is kept in the run's outputs this often; 0 for none",
        minimum=0,
        unit="kimg",
        resume="any",
    )
    keep_kimg: float = synthkit.param(
        1000.0,
        "the generator is kept in the run's outputs this often, for `generate --snapshot`; 0 for never",
        minimum=0,
        unit="kimg",
        resume="any",
    )
    gate_samples: int = synthkit.param(
        0,
        "samples drawn at the end of training, whose labels are compared with real ones; 0 for none",
        minimum=0,
        resume="any",
    )
    precision: str = synthkit.param(
        "auto",
        "arithmetic of the four finest resolutions in training; auto: bfloat16 on a GPU that has it",
        choices=("auto", "float32", "tf32", "bfloat16"),
    )
    seed: int = synthkit.param(0, "seed of training: weights, order of images, latents", minimum=0)
    background_zero: bool = synthkit.param(
        True,
        "generate: set the nearly black surroundings of the head to exactly 0, as they are in real images; nothing is "
        "labelled there",
        resume="any",
    )
    settle_labels: bool = synthkit.param(
        False,
        "generate: unclear pixels, between the grey levels of two labels or in rims one pixel thin, take the label of "
        "the nearest clear one",
        resume="any",
    )
    generate_precision: str = synthkit.param(
        "float32",
        "generate: arithmetic on a GPU; tf32 is faster from compute capability 8.0 on, its factors have 10 bits",
        choices=("float32", "tf32"),
        resume="any",
    )
    generate_batch_size: int = synthkit.param(16, "generate: images a batch on a GPU", minimum=1, resume="any")


@dataclass(frozen=True)
class FusedParams(LastParams):
    """Those of a method that has fused operators, in place of the :class:`LastParams`."""

    fused: bool = synthkit.param(
        True,
        "on a GPU with Triton, filters and activations are one kernel each; the result is the same within rounding",
        resume="any",
    )


def wants_fused(params: object) -> bool:
    """Whether fused operators are wanted where there are some."""
    return params.fused if isinstance(params, FusedParams) else True
