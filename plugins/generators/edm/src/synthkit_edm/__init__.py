"""EDM: declaration only. The method is in :mod:`synthkit_edm.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthkit_generative.params import FirstParams, LastParams
from synthkit_torch.params import changed

import synthkit


@dataclass(frozen=True)
class MethodParams(FirstParams):
    """What only EDM has in training. Defaults are for short trainings, minutes to hours."""

    # The learning rate follows from it, so it cannot be raised afterwards.
    kimg: float = synthkit.param(
        100.0, "length of training: real images shown, in thousands; fixed from the start", minimum=0, unit="kimg"
    )
    batch_size: int = changed(FirstParams, "batch_size", 16)
    learning_rate: float = changed(FirstParams, "learning_rate", 1.5e-3, "Adam learning rate, between rise and fall")
    warm_up: int = synthkit.param(30, "training steps in which the learning rate rises", minimum=0)
    decay: float = synthkit.param(
        0.5, "last share of the training, in which the learning rate falls to 0", minimum=0, maximum=1
    )
    ema: float = synthkit.param(
        0.08, "half-life of the averaged weights, as a share of the images so far", minimum=0, maximum=1
    )
    width: int = synthkit.param(32, "feature maps at the finest resolution; a multiple of heads", minimum=4)
    res_blocks: int = synthkit.param(1, "residual blocks a resolution", minimum=1)
    heads: int = synthkit.param(4, "heads of attention", minimum=1)
    patch: int = synthkit.param(
        1,
        "side of the squares of pixels that are one pixel to the network, behind which a small one adds details; 2 is "
        "for 64 pixels or more and short trainings: steps are quicker and heads take shape sooner",
        minimum=1,
    )
    noise_mean: float | None = synthkit.param(
        None,
        "mean of the logarithm of the noise levels that are learned; default: -0.6 at 32 pixels, and more by the "
        "logarithm of how many times as large a slice is",
    )
    noise_spread: float = synthkit.param(1.2, "standard deviation of that logarithm", minimum=0)
    augment: float = synthkit.param(
        0.0,
        "probability of each change of a training image (mirrored, turned, scaled, moved), which the network is told, "
        "so that samples are of unchanged ones",
        minimum=0,
        maximum=1,
    )
    labels_first: bool = synthkit.param(
        False,
        "two networks: labels are drawn first, by one of half the width, then the contrasts given labels; can be asked "
        "for label maps",
    )


@dataclass(frozen=True)
class Params(LastParams, MethodParams):
    """Parameters of training and of generation."""

    label_encoding: Literal["grey", "onehot", "nested", "distance"] = changed(LastParams, "label_encoding", "nested")
    gate_samples: int = changed(
        LastParams,
        "gate_samples",
        256,
        "samples drawn at the end of training: their labels are compared with real ones, and label_offsets fitted; 0 "
        "for none",
    )
    precision: str = changed(
        LastParams, "precision", "auto", "arithmetic of the network in training; auto: bfloat16 on a GPU that has it"
    )
    seed: int = changed(LastParams, "seed", 0, "seed of training: weights, order of images, noise")
    label_offsets: bool = synthkit.param(
        True,
        "generate: where the network is undecided, prefer labels so that each has its real number of pixels, as fitted "
        "at the end of training",
        resume="any",
    )
    guidance: float = synthkit.param(
        1.0,
        "generate: how strictly samples follow their label maps and what they are asked for: 1 as learned, more "
        "exaggerates it (classifier-free guidance; each sample takes twice as long)",
        minimum=0,
        resume="any",
    )
    sampler_steps: int = synthkit.param(
        9, "generate: Heun steps a sample, each but the last of two evaluations", minimum=1, resume="any"
    )
    sigma_max: float = synthkit.param(20.0, "generate: noise level to begin with", minimum=0.01, resume="any")
    sigma_min: float = synthkit.param(0.02, "generate: lowest noise level above 0", minimum=1e-4, resume="any")
    rho: float = synthkit.param(
        5.0, "generate: more puts more of the steps at low noise levels", minimum=1, resume="any"
    )


@dataclass(frozen=True)
class Conditions:
    """What a sample can be asked for besides a label map."""

    area_percent: float | None = synthkit.param(
        None, "labelled area, in percent of the slice's pixels", minimum=0, maximum=100, unit="percent"
    )
    parts: tuple[str, ...] | None = synthkit.param(None, "labels that the slice has, and no others", choices="labels")


DECLARATION = synthkit.GeneratorDeclaration(
    name="edm",
    summary="EDM diffusion (2022): images and labels drawn jointly or labels first, any number of contrasts, 32 to 512 "
    "pixels",
    module="synthkit_edm.model",
    distribution="synthkit-edm",
    params=Params,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Karras, Aittala, Aila, Laine, Elucidating the Design Space of Diffusion-Based Generative Models, "
            "NeurIPS 2022",
            url="https://arxiv.org/abs/2206.00364",
        ),
        synthkit.Citation(
            text="Dhariwal, Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021",
            url="https://arxiv.org/abs/2105.05233",
        ),
    ),
    gpu="optional",
    optional_roles=("initial",),
    reproducible="tolerance",
    dockerfile="Dockerfile",
    minimum_size=32,
    maximum_size=512,
    label_maps=True,
    label_maps_need="labels_first",
    conditions=Conditions,
)


#: A few training steps of a tiny network, for the conformance checks.
CONFORMANCE_PARAMS = {
    "kimg": 0.032,
    "batch_size": 4,
    "width": 4,
    "sampler_steps": 2,
    "gate_samples": 4,
    "labels_first": True,
    "warm_up": 0,
    "guidance": 8.0,  # so few steps teach little of what is asked: exaggerated
    "checkpoint_kimg": 0.008,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
