"""StyleGAN3: declaration only. The method is in :mod:`synthkit_stylegan3.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import synthkit


@dataclass(frozen=True)
class Params:
    """Parameters of training and of generation. Defaults are those of the study at 256x256 where it fixes them."""

    config: str = synthkit.param(
        "t",
        "t: details move with what they belong to; r: they also turn with it (slower, twice the feature maps)",
        choices=("t", "r"),
    )
    kimg: float = synthkit.param(25000.0, "length of training: real images shown, in thousands", minimum=0, unit="kimg")
    batch_size: int = synthkit.param(32, "images a training step", minimum=1)
    accumulate: int = synthkit.param(
        1, "parts that a batch is taken in, for less memory; the result is the same within rounding", minimum=1
    )
    learning_rate: float = synthkit.param(0.0025, "Adam learning rate of the generator", minimum=0)
    discriminator_learning_rate: float = synthkit.param(0.002, "Adam learning rate of the discriminator", minimum=0)
    gamma: float = synthkit.param(
        8.0, "weight of the R1 penalty; smaller images want less (0.05 to 0.5 at 64)", minimum=0
    )
    channel_base: int = synthkit.param(
        32768, "feature maps of the discriminator at side s: channel_base / s, at most channel_max", minimum=32
    )
    channel_max: int = synthkit.param(
        512, "most feature maps of a layer of config t and of the discriminator; config r has twice as many", minimum=4
    )
    latent: int = synthkit.param(512, "length of the latents z and w", minimum=4)
    mapping_layers: int = synthkit.param(2, "layers of the mapping network", minimum=1)
    blur_kimg: float = synthkit.param(
        200.0,
        "config r: the discriminator sees blurred images at first, sharp ones from here on; 0 for sharp ones only",
        minimum=0,
        unit="kimg",
    )
    ema_kimg: float = synthkit.param(
        10.0, "half-life of the averaged generator, at most 5 % of the images so far", minimum=0, unit="kimg"
    )
    label_order: str = synthkit.param(
        "",
        "labels from the lowest grey level to the highest, as 0,2,4,1, where neighbours in a tumour are neighbours; "
        "empty: by value, as the study",
    )
    checkpoint_kimg: float = synthkit.param(
        20.0, "training can be resumed from a state saved this often", minimum=0.001, unit="kimg"
    )
    snapshot_kimg: float = synthkit.param(
        200.0, "a grid of samples is kept in the run's outputs this often; 0 for none", minimum=0, unit="kimg"
    )
    precision: str = synthkit.param(
        "auto",
        "arithmetic of the finest layers in training; auto: bfloat16 on a GPU that has it",
        choices=("auto", "float32", "bfloat16"),
    )
    seed: int = synthkit.param(0, "seed of training: weights, order of images, latents", minimum=0)
    truncation_psi: float = synthkit.param(
        1.0,
        "generate: 1 draws from the whole distribution, less gives safer and less varied images",
        minimum=0,
        maximum=1,
    )
    background_zero: bool = synthkit.param(
        True,
        "generate: set the nearly black surroundings of the head to exactly 0, as they are in real images; nothing is "
        "labelled there",
    )
    settle_labels: bool = synthkit.param(
        False,
        "generate: unclear pixels, between the grey levels of two labels or in rims one pixel thin, take the label of "
        "the nearest clear one",
    )
    generate_batch_size: int = synthkit.param(16, "generate: images a batch on a GPU", minimum=1)


DECLARATION = synthkit.GeneratorDeclaration(
    name="stylegan3",
    summary="StyleGAN3 (configs t and r): images and labels drawn jointly, any number of contrasts, 32 to 512 pixels",
    module="synthkit_stylegan3.model",
    distribution="synthkit-stylegan3",
    params=Params,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Karras et al., Alias-Free Generative Adversarial Networks, NeurIPS 2021",
            url="https://arxiv.org/abs/2106.12423",
        ),
        synthkit.Citation(
            text="Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020",
            doi="10.1109/CVPR42600.2020.00813",
            url="https://arxiv.org/abs/1912.04958",
        ),
    ),
    gpu="optional",
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
    "latent": 8,
    "checkpoint_kimg": 0.008,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
