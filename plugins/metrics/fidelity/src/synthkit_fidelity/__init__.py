"""Fidelity: how far the synthetic images are from the real ones, in features of a network (declarations only).

A number may be called FID, KID or Inception score only if the published Inception-v3 weights made it. The same
computation on other features is called ``fd``, ``kd`` and ``classifier_score``, and always says which features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import synthkit
from synthkit import Citation, Declaration, MetricDeclaration, ScoreDefinition, param

#: Names of :mod:`synthkit_features.published`, which is not there where a declaration is read, and any.
NETWORKS = ("any", "inception", "torch-fidelity", "radimagenet", "radiodino", "medicalnet")


@dataclass(frozen=True)
class Params:
    """Conventions of the scores, and how many images they are computed from."""

    max_images: int = param(
        50_000, "images of each set at most, drawn at random; of real images whole patients", minimum=2
    )
    neighbours: int = param(5, "k of precision, recall, density and coverage", minimum=1)
    splits: int = param(10, "parts that the Inception score is the mean of", minimum=1)
    seed: int = param(0, "seed of every random choice: images, floor, extrapolation", minimum=0)
    network: str = param(
        "any", "published network that the file of --features has to be, as --features NAME=FILE says", choices=NETWORKS
    )


Better = Literal["higher", "lower", "neither"]

_INCEPTION = "with the published Inception weights"
_OTHER = "with another network"


def _named(inception: str, other: str, summary: str, better: Better) -> tuple[ScoreDefinition, ...]:
    """A score under its two names."""
    return (
        ScoreDefinition(name=inception, summary=f"{summary}, {_INCEPTION}", better=better),
        ScoreDefinition(name=other, summary=f"{summary}, {_OTHER}", better=better),
    )


_FRECHET = (
    *_named("fid", "fd", "Frechet distance between the features", "lower"),
    *_named("fid_infinity", "fd_infinity", "the same, extrapolated to infinitely many images", "lower"),
    *_named("fid_floor", "fd_floor", "what an ideal generator would have as its matched distance", "neither"),
    *_named("fid_matched", "fd_matched", "Frechet distance at the sizes of the floor", "lower"),
)

_CLASSIFIER = (
    *_named("inception_score", "classifier_score", "exp of the information of an image on its class", "higher"),
    *_named("inception_score_real", "classifier_score_real", "the same of the real images", "neither"),
)

_KERNEL = (
    *_named("kid", "kd", "squared maximum mean discrepancy, cubic kernel, unbiased", "lower"),
    *_named(
        "kid_between_patients", "kd_between_patients", "the same without pairs of real images of one patient", "lower"
    ),
    *_named("kid_floor", "kd_floor", "what an ideal generator would have as kernel distance over all pairs", "neither"),
)

_SHARES: tuple[tuple[str, str, Better], ...] = (
    ("precision", "share of synthetic images inside the manifold of the real ones", "higher"),
    ("recall", "share of real images inside the manifold of the synthetic ones", "higher"),
    ("density", "real neighbourhoods that hold a synthetic image, over those expected", "higher"),
    ("coverage", "share of real images with a synthetic image in their neighbourhood", "higher"),
)

_MANIFOLD = tuple(
    definition
    for name, summary, better in _SHARES
    for definition in (
        ScoreDefinition(name=name, summary=summary, better=better),
        ScoreDefinition(name=f"{name}_floor", summary=f"{name}_matched of an ideal generator", better="neither"),
        ScoreDefinition(name=f"{name}_matched", summary=f"{name} at the sizes of the floor", better=better),
    )
)


def _metric(name: str, summary: str, scores: tuple[ScoreDefinition, ...], *citations: Citation) -> MetricDeclaration:
    return MetricDeclaration(
        name=name,
        summary=summary,
        module="synthkit_fidelity.metrics",
        distribution="synthkit-fidelity",
        params=Params,
        licence="Apache-2.0",
        citations=citations,
        gpu="optional",
        reproducible="tolerance",
        roles=("real", "synthetic"),
        optional_roles=("holdout", "features", "kept"),
        scores=scores,
    )


_METRICS = (
    _metric(
        "fid",
        "Frechet distance between features of real and synthetic images, with its floor",
        _FRECHET,
        Citation(
            text="Heusel M, Ramsauer H, Unterthiner T, Nessler B, Hochreiter S. GANs trained by a two time-scale "
            "update rule converge to a local Nash equilibrium. NeurIPS 2017.",
            url="https://arxiv.org/abs/1706.08500",
        ),
        Citation(
            text="Chong MJ, Forsyth D. Effectively unbiased FID and Inception score and where to find them. CVPR 2020.",
            doi="10.1109/CVPR42600.2020.00611",
        ),
    ),
    _metric(
        "inception-score",
        "how much the classes that a network sees in an image tell the images apart",
        _CLASSIFIER,
        Citation(
            text="Salimans T, Goodfellow I, Zaremba W, Cheung V, Radford A, Chen X. Improved techniques for training "
            "GANs. NeurIPS 2016.",
            url="https://arxiv.org/abs/1606.03498",
        ),
    ),
    _metric(
        "kid",
        "kernel distance between features of real and synthetic images, unbiased for small sets",
        _KERNEL,
        Citation(
            text="Binkowski M, Sutherland DJ, Arbel M, Gretton A. Demystifying MMD GANs. ICLR 2018.",
            url="https://arxiv.org/abs/1801.01401",
        ),
    ),
    _metric(
        "prdc",
        "precision, recall, density and coverage: fidelity and diversity apart",
        _MANIFOLD,
        Citation(
            text="Naeem MF, Oh SJ, Uh Y, Choi Y, Yoo J. Reliable fidelity and diversity metrics for generative models. "
            "ICML 2020.",
            url="https://arxiv.org/abs/2002.09797",
        ),
        Citation(
            text="Kynkaanniemi T, Karras T, Laine S, Lehtinen J, Aila T. Improved precision and recall metric for "
            "assessing generative models. NeurIPS 2019.",
            url="https://arxiv.org/abs/1904.06991",
        ),
    ),
)

#: Few images, since every check sends them through the network.
CONFORMANCE_PARAMS = {"max_images": 4, "neighbours": 2, "splits": 2}


@synthkit.hookimpl
def synthkit_declare() -> Iterable[Declaration]:
    """The four metrics of this package; asked for together, they share one pass through the network."""
    return _METRICS
