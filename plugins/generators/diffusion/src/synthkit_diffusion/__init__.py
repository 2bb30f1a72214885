"""Diffusion: declaration only. The method is in :mod:`synthkit_diffusion.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthkit_generative.params import FirstParams, LastParams
from synthkit_torch.params import changed

import synthkit


@dataclass(frozen=True)
class MethodParams(FirstParams):
    """What only diffusion has in training."""

    kimg: float = changed(FirstParams, "kimg", 10000.0)
    learning_rate: float = changed(FirstParams, "learning_rate", 1e-4)
    width: int = synthkit.param(64, "feature maps at the finest resolution; a multiple of heads", minimum=4)
    res_blocks: int = synthkit.param(3, "residual blocks a resolution", minimum=1)
    heads: int = synthkit.param(4, "heads of attention, where head_channels is 0", minimum=1)
    head_channels: int = synthkit.param(
        0,
        "feature maps of a head of attention (num_head_channels of the official code); 0: as many as heads leave",
        minimum=0,
    )
    diffusion_steps: int = synthkit.param(4000, "steps T of the diffusion that is learned", minimum=2)
    schedule: str = synthkit.param(
        "linear", "how noise grows over the steps: linear, as the study; cosine", choices=("linear", "cosine")
    )
    prediction: Literal["noise", "velocity"] = synthkit.param(
        "noise",
        "what the network learns to tell: the noise, as the study; velocity, which gets the brightness of images right "
        "in far shorter trainings",
    )
    learn_sigma: bool = synthkit.param(
        False, "learn the variance of each step too; for ancestral sampling in few steps"
    )
    ema: float = synthkit.param(
        0.9999, "share that the averaged weights keep in a step; less in the first steps", minimum=0, maximum=1
    )


@dataclass(frozen=True)
class Params(LastParams, MethodParams):
    """Parameters of training and of generation. Defaults of training are those of the study at 256x256."""

    precision: str = changed(
        LastParams, "precision", "auto", "arithmetic of the network in training; auto: bfloat16 on a GPU that has it"
    )
    seed: int = changed(LastParams, "seed", 0, "seed of training: weights, order of images, noise")
    sampler: str = synthkit.param(
        "dpm++",
        "generate: dpm++ (DPM-Solver++, second order) and ddim follow the flow in few steps; ancestral draws noise in "
        "every step, as the study",
        choices=("dpm++", "ddim", "ancestral"),
        resume="any",
    )
    sampler_steps: int = synthkit.param(
        25,
        "generate: evaluations of the network a sample; 0 for all of diffusion_steps, as the study",
        minimum=0,
        resume="any",
    )


DECLARATION = synthkit.GeneratorDeclaration(
    name="diffusion",
    summary="guided-diffusion UNet: images and labels drawn jointly, any number of contrasts, 32 to 512 pixels",
    module="synthkit_diffusion.model",
    distribution="synthkit-diffusion",
    params=Params,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Nichol, Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021",
            url="https://arxiv.org/abs/2102.09672",
        ),
        synthkit.Citation(
            text="Dhariwal, Nichol, Diffusion Models Beat GANs on Image Synthesis, NeurIPS 2021",
            url="https://arxiv.org/abs/2105.05233",
        ),
        synthkit.Citation(
            text="Lu et al., DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models, 2022",
            url="https://arxiv.org/abs/2211.01095",
        ),
        synthkit.Citation(
            text="Song, Meng, Ermon, Denoising Diffusion Implicit Models, ICLR 2021",
            url="https://arxiv.org/abs/2010.02502",
        ),
    ),
    gpu="optional",
    optional_roles=("initial",),
    reproducible="tolerance",
    dockerfile="Dockerfile",
    minimum_size=32,
    maximum_size=512,
    imports=("state dict (.pt) of guided-diffusion",),
)


#: A few training steps of a tiny network, for the conformance checks.
CONFORMANCE_PARAMS = {
    "kimg": 0.032,
    "batch_size": 4,
    "width": 4,
    "res_blocks": 1,
    "diffusion_steps": 50,
    "sampler_steps": 3,
    "checkpoint_kimg": 0.008,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
