"""Memorization: which synthetic images copy training images, calibrated on held-out subjects (declaration only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import synthkit
from synthkit import Citation, Declaration, MetricDeclaration, ScoreDefinition, param
from synthkit.judging.audit_scores import definitions

RULES = ("pearson", "brain", "flip", "shift", "inverted", "brain-inverted")
FAMILIES = ("picture", "frame", "warped", "labels", "label-shape", "tumour")
#: Names of :mod:`synthkit_features.published`, which is not there where a declaration is read, and any.
NETWORKS = ("any", "inception", "torch-fidelity", "radimagenet", "radiodino", "medicalnet")


@dataclass(frozen=True)
class Params:
    """What counts as suspicious, what is searched for, and what the search may use."""

    false_fail_rate: float = param(
        0.05,
        "chance, at most, that a synthetic dataset of this size that copies nobody has a copy, over all families and "
        "both sides; its tail is extrapolated",
        minimum=1e-6,
        maximum=0.5,
        weaker="lower",
    )
    families: tuple[str, ...] = param(
        FAMILIES,
        "what is compared: pictures in place, brains in a frame of their own (moved, turned, scaled, cropped), the "
        "same bent to fit, label maps, tumours alone",
        choices=FAMILIES,
        weaker="lower",
    )
    rules: tuple[str, ...] = param(
        RULES,
        "how pictures in place are compared: over all pixels (pearson), inside the brain, mirrored (flip), shifted, as "
        "negatives (inverted), and as negatives inside the brain",
        choices=RULES,
        weaker="lower",
    )
    background: int = param(
        8,
        "a pixel is brain where any contrast is brighter than this",
        minimum=0,
        maximum=254,
        unit="grey level",
        weaker="other",
    )
    shift_px: float = param(
        2.0,
        "distance of the eight shifts of the rule shift, in images 256 pixels wide; at least one pixel",
        minimum=0.5,
        maximum=64,
        unit="px",
        weaker="other",
    )
    plants: int = param(
        60,
        "planted copies of each kind and strength in the power test; 0 leaves it out",
        minimum=0,
        maximum=10_000,
        weaker="lower",
    )
    feature_search: str = param(
        "auto",
        "search also by the features of a network, for copies that pixels miss: auto does on a GPU; on a CPU it takes "
        "minutes a thousand images",
        choices=("auto", "yes", "no"),
    )
    feature_images: int = param(
        2000, "synthetic images, and null images, in that search on a CPU; all on a GPU", minimum=1
    )
    feature_flag_rate: float = param(
        0.001, "share of unrelated images that this search may flag", minimum=1e-6, maximum=0.5
    )
    network: str = param(
        "any", "published network that the file of --features has to be, as --features NAME=FILE says", choices=NETWORKS
    )
    memory_mb: float = param(
        2048.0, "training pixels held in memory at a time; less means more passes", minimum=1, unit="MB"
    )
    seed: int = param(0, "seed of the planted copies and of all choices of subjects", minimum=0)

    def __post_init__(self) -> None:
        if "picture" not in self.families or "pearson" not in self.rules:
            raise ValueError("families must hold picture, and rules pearson, which the other numbers rest on")
        if len(set(self.rules)) != len(self.rules):
            raise ValueError("rules holds one twice")
        if len(set(self.families)) != len(self.families):
            raise ValueError("families holds one twice")


#: Read by nothing outside this package, unlike those that every audit may have.
_OWN = (
    ScoreDefinition(
        name="feature_threshold",
        summary="similarity of features above which an image is flagged by them",
        better="neither",
    ),
)

DECLARATION = MetricDeclaration(
    name="memorization",
    summary="which synthetic images copy training images: exact best matches, calibrated on held-out real images",
    module="synthkit_memorization.metrics",
    distribution="synthkit-memorization",
    params=Params,
    licence="Apache-2.0",
    citations=(
        Citation(
            text="Akbar MU, Wang W, Eklund A. Beware of diffusion models for synthesizing medical images: a comparison "
            "with GANs in terms of memorizing brain MRI and chest x-ray images. Mach Learn: Sci Technol 6, 2025.",
            doi="10.1088/2632-2153/ad9a3a",
        ),
        Citation(
            text="Meehan C, Chaudhuri K, Dasgupta S. A non-parametric test to detect data-copying in generative "
            "models. AISTATS, 2020.",
            url="https://proceedings.mlr.press/v108/meehan20a.html",
        ),
        Citation(
            text="Alaa AM, van Breugel B, Saveliev E, van der Schaar M. How faithful is your synthetic data? "
            "Sample-level metrics for evaluating and auditing generative models. ICML, 2022.",
            url="https://proceedings.mlr.press/v162/alaa22a.html",
        ),
        Citation(
            text="Clopper CJ, Pearson ES. The use of confidence or fiducial limits illustrated in the case of the "
            "binomial. Biometrika 26(4), 1934.",
            doi="10.1093/biomet/26.4.404",
        ),
    ),
    gpu="optional",
    reproducible="bitwise",
    roles=("train", "synthetic"),
    optional_roles=("holdout", "control", "features"),
    scores=(*definitions(), *_OWN),
    audit=True,
)


@synthkit.hookimpl
def synthkit_declare() -> Iterable[Declaration]:
    return [DECLARATION]
