"""Progressive GAN: declaration only. The method is in :mod:`synthkit_progan.model`, which imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import synthkit


@dataclass(frozen=True)
class Params:
    """Parameters of training and of generation. Defaults are those of the study at 256x256 where it fixes them."""

    kimg: float = synthkit.param(15000.0, "length of training: real images shown, in thousands", minimum=0, unit="kimg")
    fade_kimg: float = synthkit.param(
        600.0, "a finer resolution is faded in over so many images", minimum=0, unit="kimg"
    )
    stable_kimg: float = synthkit.param(
        600.0, "and is trained on so many before the next comes; the finest to the end", minimum=0, unit="kimg"
    )
    batch_size: int = synthkit.param(16, "images a training step, at all resolutions", minimum=1)
    accumulate: int = synthkit.param(
        1, "parts that a batch is taken in, for less memory; the result is the same within rounding", minimum=1
    )
    learning_rate: float = synthkit.param(0.001, "Adam learning rate of both networks", minimum=0)
    gradient_penalty: float = synthkit.param(10.0, "weight of the gradient penalty (WGAN-GP)", minimum=0)
    drift_penalty: float = synthkit.param(0.001, "weight that keeps the scores of real images near zero", minimum=0)
    channel_base: int = synthkit.param(
        16384, "feature maps at side s: channel_base / s, at most channel_max", minimum=32
    )
    channel_max: int = synthkit.param(512, "most feature maps of a layer, and the size of the latent z", minimum=4)
    ema_kimg: float = synthkit.param(10.0, "half-life of the averaged generator", minimum=0, unit="kimg")
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
        "arithmetic of the four finest resolutions in training; auto: bfloat16 on a GPU that has it",
        choices=("auto", "float32", "bfloat16"),
    )
    seed: int = synthkit.param(0, "seed of training: weights, order of images, latents", minimum=0)
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
    "checkpoint_kimg": 0.016,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.GeneratorDeclaration]:
    """The one generator of this distribution."""
    return [DECLARATION]
