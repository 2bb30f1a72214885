"""Progressive GAN: declaration only. The method is in :mod:`synthkit_progan.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from synthkit_generative.params import AdversarialParams, FirstParams, FusedParams
from synthkit_torch.params import changed

import synthkit


@dataclass(frozen=True)
class MethodParams(AdversarialParams):
    """What only Progressive GAN has in training."""

    kimg: float = changed(FirstParams, "kimg", 15000.0)
    batch_size: int = changed(FirstParams, "batch_size", 16, "images a training step, at all resolutions")
    learning_rate: float = changed(FirstParams, "learning_rate", 0.001, "Adam learning rate of both networks")
    fade_kimg: float = synthkit.param(
        600.0, "a finer resolution is faded in over so many images", minimum=0, unit="kimg"
    )
    stable_kimg: float = synthkit.param(
        600.0, "and is trained on so many before the next comes; the finest to the end", minimum=0, unit="kimg"
    )
    gradient_penalty: float = synthkit.param(10.0, "weight of the gradient penalty (WGAN-GP)", minimum=0)
    drift_penalty: float = synthkit.param(0.001, "weight that keeps the scores of real images near zero", minimum=0)
    channel_base: int = synthkit.param(
        16384, "feature maps at side s: channel_base / s, at most channel_max", minimum=32
    )
    channel_max: int = synthkit.param(512, "most feature maps of a layer, and the size of the latent z", minimum=4)
    ema_kimg: float = synthkit.param(10.0, "half-life of the averaged generator", minimum=0, unit="kimg")


@dataclass(frozen=True)
class Params(FusedParams, MethodParams):
    """Parameters of training and of generation. Defaults are those of the study at 256x256 where it fixes them."""


DECLARATION = synthkit.GeneratorDeclaration(
    name="progan",
    summary="Progressive GAN: images and labels drawn jointly, any number of contrasts, 32 to 512 pixels",
    module="synthkit_progan.model",
    distribution="synthkit-progan",
    params=Params,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, ICLR 2018",
            url="https://arxiv.org/abs/1710.10196",
        ),
        synthkit.Citation(
            text="Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017",
            url="https://arxiv.org/abs/1704.00028",
        ),
    ),
    gpu="optional",
    optional_roles=("initial",),
    reproducible="tolerance",
    dockerfile="Dockerfile",
    minimum_size=32,
    maximum_size=512,
    imports=("network-*.pkl of the official TensorFlow code",),
)


#: A few training steps of a tiny network through all resolutions, one of them full-grown, for the conformance checks.
CONFORMANCE_PARAMS = {
    "kimg": 0.052,
    "fade_kimg": 0.008,
    "stable_kimg": 0.008,
    "batch_size": 4,
    "channel_base": 128,
    "channel_max": 8,
    "checkpoint_kimg": 0.016,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
