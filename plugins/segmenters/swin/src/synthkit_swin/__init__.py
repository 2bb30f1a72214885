"""Segmenter ``swin``: what it is and what can be set. The method is in :mod:`synthkit_swin.model`."""

from __future__ import annotations

from dataclasses import dataclass

from synthkit_segmentation.params import TrainingParams

import synthkit


@dataclass(frozen=True)
class SwinParams(TrainingParams):
    """Parameters of the Swin transformer with its UPerNet head. The study's values are the defaults, but the budget."""

    samples: int = synthkit.param(
        500_000, "budget: training images shown, with repeats, in whole batches", minimum=1, unit="samples"
    )
    epochs: int = synthkit.param(
        0,
        "budget in passes over the training images instead, where not 0; 25 in the study. Arms of different size then "
        "have different budgets",
        minimum=0,
    )
    batch_size: int = synthkit.param(8, "images of one training step, over all GPUs", minimum=2, unit="samples")
    learning_rate: float = synthkit.param(
        6e-5, "learning rate after the warm-up; decays linearly to 0", minimum=1e-8, maximum=10
    )
    warmup_steps: int = synthkit.param(
        1500, "steps in which the learning rate rises; at most half the training", minimum=0, unit="steps"
    )
    backbone: str = synthkit.param("base", "size of the Swin transformer", choices=("base", "small", "tiny", "nano"))
    drop_path: float = synthkit.param(
        0.3, "chance of leaving out a block, largest in the last one", minimum=0, maximum=0.9
    )
    head_channels: int = synthkit.param(512, "channels of the UPerNet head", minimum=8, maximum=1024)


DECLARATION = synthkit.SegmenterDeclaration(
    name="swin",
    summary="Swin transformer with a UPerNet head (Hugging Face transformers)",
    module="synthkit_swin.model",
    distribution="synthkit-swin",
    params=SwinParams,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Liu et al. Swin Transformer: hierarchical vision transformer using shifted windows. ICCV (2021)",
            doi="10.1109/ICCV48922.2021.00986",
        ),
        synthkit.Citation(
            text="Xiao, Liu, Zhou, Jiang, Sun. Unified perceptual parsing for scene understanding. ECCV (2018)",
            doi="10.1007/978-3-030-01228-1_26",
        ),
        synthkit.Citation(
            text="Akbar, Larsson, Blystad, Eklund. Brain tumor segmentation using synthetic MR images: a comparison "
            "of GANs and diffusion models. Scientific Data 11:259 (2024)",
            doi="10.1038/s41597-024-03073-x",
        ),
    ),
    gpu="optional",
    probabilities=True,
    optional_roles=("validation", "pretrained", "initial"),
    reproducible="tolerance",
)


#: What makes a training of seconds on 32x32 pixels, for the conformance checks.
CONFORMANCE_PARAMS = {
    "backbone": "nano",
    "head_channels": 16,
    "samples": 32,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "checkpoint_every": 8,
}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.Declaration]:
    return [DECLARATION]
