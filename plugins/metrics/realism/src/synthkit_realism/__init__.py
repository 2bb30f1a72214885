"""Labels and contrasts that look real to no feature network: metrics for synthkit (declaration only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import synthkit
from synthkit import Citation, Declaration, MetricDeclaration, ScoreDefinition, param


@dataclass(frozen=True)
class Params:
    """How uncertainty is measured, and how many images the contrasts are judged by."""

    resamples: int = param(
        400,
        "ideal generators that make the floors, and resamples that a contrast is judged by",
        minimum=50,
        maximum=10_000,
    )
    identity_images: int = param(
        1000, "images of each dataset, evenly spaced, that contrast-identity looks at", minimum=10, maximum=100_000
    )
    seed: int = param(0, "seed of these draws", minimum=0)


@dataclass(frozen=True)
class ObedienceParams:
    """How many images are looked at."""

    images: int = param(
        2000, "images of each dataset, evenly spaced, that are learned from or read", minimum=10, maximum=1_000_000
    )


_KS = Citation(
    text="Massey FJ. The Kolmogorov-Smirnov test for goodness of fit. J Am Stat Assoc 46(253), 1951.",
    doi="10.1080/01621459.1951.10500769",
)
_CLIFF = Citation(
    text="Cliff N. Dominance statistics: ordinal analyses to answer ordinal questions. Psychol Bull 114(3), 1993.",
    doi="10.1037/0033-2909.114.3.494",
)
_WASSERSTEIN = Citation(
    text="Vallender SS. Calculation of the Wasserstein distance between probability distributions on the line. "
    "Theory Probab Appl 18(4), 1974.",
    doi="10.1137/1118101",
)
_BRATS = Citation(
    text="Menze BH et al. The multimodal brain tumor image segmentation benchmark (BRATS). "
    "IEEE Trans Med Imaging 34(10), 2015.",
    doi="10.1109/TMI.2014.2377694",
)
_SPEARMAN = Citation(
    text="Spearman C. The proof and measurement of association between two things. Am J Psychol 15(1), 1904.",
    doi="10.2307/1412159",
)

_DISCRIMINANT = Citation(
    text="Hastie T, Tibshirani R, Friedman J. The elements of statistical learning, 2nd edition, section 4.3. "
    "Springer, 2009.",
    doi="10.1007/978-0-387-84858-7",
)

_LABELS = MetricDeclaration(
    name="label-realism",
    summary="size, number, place, shape, borders and intensity of labels in synthetic slices, against real ones",
    module="synthkit_realism.metrics",
    distribution="synthkit-realism",
    params=Params,
    licence="Apache-2.0",
    citations=(_KS, _CLIFF, _WASSERSTEIN),
    gpu="none",
    reproducible="bitwise",
    roles=("real", "synthetic"),
    optional_roles=("holdout",),
    scores=(
        ScoreDefinition(
            name="ks", summary="Kolmogorov-Smirnov distance of a property, 0 alike to 1 apart", better="lower"
        ),
        ScoreDefinition(
            name="floor_ks",
            summary="the same of an ideal generator, one that draws images of new people: median, and 95 % of them",
            better="neither",
        ),
        ScoreDefinition(
            name="excess",
            summary="ks less floor_ks: what to rank properties by; about 0 for images of new people",
            better="lower",
        ),
        ScoreDefinition(
            name="floor_share",
            summary="share of ideal generators that are at least ks apart (the observed one counted)",
            better="higher",
        ),
        ScoreDefinition(
            name="effect",
            summary="Cliff's delta: P(synthetic larger than real) - P(smaller), 0 if alike; 95 % interval over "
            "real patients and synthetic images",
            better="neither",
        ),
        ScoreDefinition(
            name="wasserstein", summary="Wasserstein-1 distance in the unit of the property", better="lower"
        ),
        ScoreDefinition(
            name="wasserstein_sd", summary="the same in standard deviations of the real values", better="lower"
        ),
        ScoreDefinition(
            name="misplaced",
            summary="share of the synthetic slices whose labels would fit their image clearly better 3 pixels away or "
            "more; the note has that of the real slices",
            better="lower",
        ),
        ScoreDefinition(
            name="holdout_ks",
            summary="Kolmogorov-Smirnov distance of held-out real patients from the real ones: a yardstick for ks",
            better="neither",
        ),
    ),
)

_CONTRASTS = MetricDeclaration(
    name="contrast-identity",
    summary="whether each synthetic channel looks like the real contrast whose name it carries",
    module="synthkit_realism.metrics",
    distribution="synthkit-realism",
    params=Params,
    licence="Apache-2.0",
    citations=(_BRATS, _SPEARMAN),
    gpu="none",
    reproducible="bitwise",
    roles=("real", "synthetic"),
    optional_roles=("holdout",),
    scores=(
        ScoreDefinition(
            name="n_mismatched", summary="synthetic channels that look like another real contrast", better="lower"
        ),
        ScoreDefinition(
            name="margin",
            summary="how much farther the channels are from the real contrasts, at best, if this one is given another "
            "name: below 0 it looks like another one",
            better="higher",
            unit="standard deviations",
        ),
        ScoreDefinition(
            name="keeps_name",
            summary="share of the resamples of real patients and synthetic images in which the channel keeps its name",
            better="higher",
        ),
        ScoreDefinition(
            name="distance",
            summary="mean distance of the channel's features from those of the real contrast of its name",
            better="lower",
            unit="standard deviations",
        ),
        ScoreDefinition(
            name="n_misnamed",
            summary="channels whose physics contradicts their name (bright CSF in T2 and the like), by dataset: needs "
            "no comparison, and so finds a mistake that both datasets share",
            better="lower",
        ),
    ),
)

_OBEDIENCE = MetricDeclaration(
    name="obedience",
    summary="whether synthetic images show the labels that they were asked for, read as in held-out real images",
    module="synthkit_realism.obedience",
    distribution="synthkit-realism",
    params=ObedienceParams,
    licence="Apache-2.0",
    citations=(_DISCRIMINANT,),
    gpu="none",
    reproducible="bitwise",
    roles=("real", "synthetic"),
    optional_roles=("holdout",),
    scores=(
        ScoreDefinition(
            name="obedience",
            summary="read_dice of the synthetic images over that of held-out real ones: 1 if they show it as well",
            better="higher",
        ),
        ScoreDefinition(
            name="read_dice",
            summary="Dice, over all slices together, of the labels with what a segmenter that has learned from real "
            "images reads in the images",
            better="higher",
        ),
        ScoreDefinition(
            name="read_area_r",
            summary="Pearson correlation, over slices, of the area labelled with the area read",
            better="higher",
        ),
        ScoreDefinition(
            name="n_asked", summary="synthetic images that were asked for a given label map", better="neither"
        ),
    ),
)

#: What makes the conformance checks quick.
CONFORMANCE_PARAMS = {"resamples": 50, "identity_images": 20, "images": 20}


@synthkit.hookimpl
def synthkit_declare() -> Iterable[Declaration]:
    """The metrics of this package; the first two, asked for together, are computed in one call."""
    return [_LABELS, _CONTRASTS, _OBEDIENCE]
