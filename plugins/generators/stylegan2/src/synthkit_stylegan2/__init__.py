"""StyleGAN2: declaration only. The method is in :mod:`synthkit_stylegan2.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from synthkit_generative.params import AdversarialParams, FirstParams, FusedParams
from synthkit_torch.params import changed

import synthkit


@dataclass(frozen=True)
class MethodParams(AdversarialParams):
    """What only StyleGAN2 has in training."""

    learning_rate: float = changed(FirstParams, "learning_rate", 0.0025, "Adam learning rate of both networks")
    gamma: float | None = synthkit.param(
        None, "weight of the R1 penalty; none: 8 at 256 pixels, as the study, in proportion to their number", minimum=0
    )
    channel_base: int = synthkit.param(
        16384, "feature maps at side s: channel_base / s, at most channel_max", minimum=32
    )
    channel_max: int = synthkit.param(
        512, "most feature maps of a layer, and the size of the latents z and w", minimum=4
    )
    mapping_layers: int = synthkit.param(8, "layers of the mapping network", minimum=1)
    style_mixing: float = synthkit.param(0.9, "probability of mixing two latents in training", minimum=0, maximum=1)
    noise: bool = synthkit.param(
        True, "noise inputs for stochastic detail; a short training has cleaner labels without them"
    )
    path_length_weight: float = synthkit.param(2.0, "weight of path-length regularisation; 0 skips it", minimum=0)
    ema_kimg: float = synthkit.param(
        10.0, "half-life of the averaged generator, at most 5 % of the images so far", minimum=0, unit="kimg"
    )
    augment: bool | None = synthkit.param(
        None,
        "adaptive augmentation of what the discriminator sees; none: where there are fewer than 30,000 training images",
    )


@dataclass(frozen=True)
class Params(FusedParams, MethodParams):
    """Parameters of training and of generation. Defaults are those of the study at 256x256 where it fixes them."""

    truncation_psi: float = synthkit.param(
        1.0,
        "generate: 1 draws from the whole distribution, less gives safer and less varied images",
        minimum=0,
        maximum=1,
        resume="any",
    )


DECLARATION = synthkit.GeneratorDeclaration(
    name="stylegan2",
    summary="StyleGAN2: images and labels drawn jointly, any number of contrasts, 32 to 512 pixels",
    module="synthkit_stylegan2.model",
    distribution="synthkit-stylegan2",
    params=Params,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020",
            doi="10.1109/CVPR42600.2020.00813",
            url="https://arxiv.org/abs/1912.04958",
        ),
        synthkit.Citation(
            text="Karras, Laine, Aila, A Style-Based Generator Architecture for Generative Adversarial Networks, "
            "CVPR 2019",
            doi="10.1109/CVPR.2019.00453",
            url="https://arxiv.org/abs/1812.04948",
        ),
        synthkit.Citation(
            text="Karras et al., Training Generative Adversarial Networks with Limited Data, NeurIPS 2020",
            url="https://arxiv.org/abs/2006.06676",
        ),
    ),
    gpu="optional",
    optional_roles=("initial",),
    reproducible="tolerance",
    dockerfile="Dockerfile",
    minimum_size=32,
    maximum_size=512,
    imports=("network-snapshot-*.pkl of NVlabs' PyTorch code",),
)


#: A few training steps of a tiny network, for the conformance checks.
CONFORMANCE_PARAMS = {
    "kimg": 0.032,
    "batch_size": 4,
    "channel_base": 128,
    "channel_max": 8,
    "mapping_layers": 2,
    "checkpoint_kimg": 0.008,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
