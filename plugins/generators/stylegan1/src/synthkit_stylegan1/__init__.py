"""StyleGAN: declaration only. The method is in :mod:`synthkit_stylegan1.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from synthkit_generative.params import AdversarialParams, FirstParams, FusedParams
from synthkit_torch.params import changed

import synthkit


@dataclass(frozen=True)
class MethodParams(AdversarialParams):
    """What only StyleGAN has in training."""

    kimg: float = changed(FirstParams, "kimg", 16526.0)
    batch_size: int = changed(FirstParams, "batch_size", 32, "images a training step, at all resolutions")
    learning_rate: float = changed(
        FirstParams,
        "learning_rate",
        0.001,
        "Adam learning rate of both networks (a hundredth of it for the mapping network)",
    )
    fade_kimg: float = synthkit.param(
        600.0, "a finer resolution is faded in over so many images", minimum=0, unit="kimg"
    )
    stable_kimg: float = synthkit.param(
        600.0, "and is trained on so many before the next comes; the finest to the end", minimum=0, unit="kimg"
    )
    gamma: float | None = synthkit.param(
        None, "weight of the R1 penalty; none: 10 at 256 pixels, as the study, in proportion to their number", minimum=0
    )
    channel_base: int = synthkit.param(
        16384, "feature maps at side s: channel_base / s, at most channel_max", minimum=32
    )
    channel_max: int = synthkit.param(
        512, "most feature maps of a layer, and the size of the latents z and w", minimum=4
    )
    mapping_layers: int = synthkit.param(8, "layers of the mapping network", minimum=1)
    style_mixing: float = synthkit.param(0.9, "probability of mixing two latents in training", minimum=0, maximum=1)
    ema_kimg: float = synthkit.param(10.0, "half-life of the averaged generator", minimum=0, unit="kimg")


@dataclass(frozen=True)
class Params(FusedParams, MethodParams):
    """Parameters of training and of generation. Defaults are those of the study at 256x256 where it fixes them."""

    truncation_psi: float = synthkit.param(
        0.7,
        "generate: 1 draws from the whole distribution, less gives safer and less varied images",
        minimum=0,
        maximum=1,
        resume="any",
    )
    truncation_side: int = synthkit.param(
        32, "generate: styles of finer resolutions are not truncated", minimum=4, resume="any"
    )


DECLARATION = synthkit.GeneratorDeclaration(
    name="stylegan1",
    summary="StyleGAN (2019): images and labels drawn jointly, any number of contrasts, 32 to 512 pixels",
    module="synthkit_stylegan1.model",
    distribution="synthkit-stylegan1",
    params=Params,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Karras, Laine, Aila, A Style-Based Generator Architecture for Generative Adversarial Networks, "
            "CVPR 2019",
            doi="10.1109/CVPR.2019.00453",
            url="https://arxiv.org/abs/1812.04948",
        ),
        synthkit.Citation(
            text="Karras et al., Progressive Growing of GANs for Improved Quality, Stability, and Variation, ICLR 2018",
            url="https://arxiv.org/abs/1710.10196",
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


#: A few training steps of a tiny network through all resolutions, for the conformance checks.
CONFORMANCE_PARAMS = {
    "kimg": 0.048,
    "fade_kimg": 0.008,
    "stable_kimg": 0.008,
    "batch_size": 4,
    "channel_base": 128,
    "channel_max": 8,
    "mapping_layers": 2,
    "checkpoint_kimg": 0.016,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
