"""Segmenter ``unet``: what it is and what can be set. The method is in :mod:`synthkit_unet.model`."""

from __future__ import annotations

from dataclasses import dataclass

from synthkit_segmentation.params import TrainingParams

import synthkit


@dataclass(frozen=True)
class UnetParams(TrainingParams):
    """Parameters of the U-Net. The study's values are the defaults, but for ``samples`` (3.2e7 there)."""

    samples: int = synthkit.param(
        500_000, "budget: training images shown, with repeats; the study shows 3.2e7", minimum=1, unit="samples"
    )
    depth: int = synthkit.param(
        6, "resolution levels; fewer are used where the smallest map would have under 4 pixels", minimum=3, maximum=8
    )
    filters: int = synthkit.param(
        64, "filters of the first level, doubled each level up to 2048", minimum=1, maximum=2048
    )


DECLARATION = synthkit.SegmenterDeclaration(
    name="unet",
    summary="2-D nnU-Net-style U-Net with deep supervision (MONAI DynUNet)",
    module="synthkit_unet.model",
    distribution="synthkit-unet",
    params=UnetParams,
    licence="Apache-2.0",
    citations=(
        synthkit.Citation(
            text="Isensee, Jaeger, Kohl, Petersen, Maier-Hein. nnU-Net: a self-configuring method for deep "
            "learning-based biomedical image segmentation. Nature Methods 18 (2021)",
            doi="10.1038/s41592-020-01008-z",
        ),
        synthkit.Citation(
            text="Cardoso et al. MONAI: an open-source framework for deep learning in healthcare (2022)",
            doi="10.48550/arXiv.2211.02701",
        ),
        synthkit.Citation(
            text="Akbar, Larsson, Blystad, Eklund. Brain tumor segmentation using synthetic MR images: a comparison "
            "of GANs and diffusion models. Scientific Data 11:259 (2024)",
            doi="10.1038/s41597-024-03073-x",
        ),
    ),
    gpu="optional",
    probabilities=True,
    optional_roles=("validation", "initial"),
    reproducible="tolerance",
)


#: What makes a training of seconds on 32x32 pixels, for the conformance checks.
CONFORMANCE_PARAMS = {"samples": 32, "batch_size": 4, "depth": 3, "filters": 4, "checkpoint_every": 8}


@synthkit.hookimpl
def synthkit_declare() -> list[synthkit.Declaration]:
    return [DECLARATION]
