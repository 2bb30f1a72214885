"""Declaration of the generator random-phase, of a distribution that is not part of synthkit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import synthkit


@dataclass(frozen=True)
class Params:
    """Parameters of training and drawing."""

    texture: float = synthkit.param(1.0, "strength of the texture, 1 for that of the data", minimum=0, maximum=4)
    batch_size: int = synthkit.param(32, "samples read at a time", minimum=1, maximum=1024, unit="samples")


CONFORMANCE_PARAMS = {"batch_size": 8}

DECLARATION = synthkit.GeneratorDeclaration(
    name="random-phase",
    summary="the mean head under a texture with the power spectrum of the data",
    module="random_phase_mri.model",
    distribution="random-phase-mri",
    params=Params,
    licence="MIT",
    citations=(
        synthkit.Citation(
            text="Galerne B, Gousseau Y, Morel JM. Random phase textures: theory and synthesis. "
            "IEEE Trans Image Process 20(1), 2011.",
            doi="10.1109/TIP.2010.2052822",
        ),
    ),
    gpu="none",
)


@synthkit.hookimpl
def synthkit_declare() -> Iterable[synthkit.Declaration]:
    return [DECLARATION]
