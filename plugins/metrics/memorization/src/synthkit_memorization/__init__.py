"""Memorization: which synthetic images copy training images, calibrated on held-out subjects (declaration only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import synthkit
from synthkit import Citation, Declaration, MetricDeclaration, ScoreDefinition, param

RULES = ("pearson", "brain", "flip", "shift")


@dataclass(frozen=True)
class Params:
    """What counts as suspicious, what is searched for, and what the search may use."""

    false_flag_rate: float = param(
        0.001,
        "share of unrelated images that may be flagged, over all contrasts, the joint image and all rules together",
        minimum=1e-6,
        maximum=0.5,
    )
    copy_r: float = param(
        0.99,
        "a flagged image is a copy if its joint image, in place, mirrored or shifted, correlates this much with one",
        minimum=0.5,
        maximum=1.0,
    )
    rules: tuple[str, ...] = param(
        RULES,
        "how images are compared: over all pixels (pearson), inside the brain, mirrored (flip), shifted",
        choices=RULES,
    )
    background: int = param(
        8, "a pixel is brain where any contrast is brighter than this", minimum=0, maximum=254, unit="grey level"
    )
    shift_px: float = param(
        2.0,
        "distance of the eight shifts of the rule shift, in images 256 pixels wide; at least one pixel",
        minimum=0.5,
        maximum=64,
        unit="px",
    )
    match_smoothness: bool = param(
        True, "without held-out images: take the null also from images made as smooth as the synthetic ones"
    )
    plants: int = param(
        60, "planted copies of each kind and strength in the power test; 0 leaves it out", minimum=0, maximum=10_000
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
    only_flagged: bool = param(
        False, "search only for matches above the thresholds: faster, but without the numbers that need every match"
    )
    memory_mb: float = param(
        2048.0, "training pixels held in memory at a time; less means more passes", minimum=1, unit="MB"
    )
    resamples: int = param(1000, "bootstrap resamples of subjects, for intervals", minimum=100, maximum=100_000)
    seed: int = param(0, "seed of the bootstrap, of the planted copies and of all choices of subjects", minimum=0)

    def __post_init__(self) -> None:
        if "pearson" not in self.rules:
            raise ValueError("rules must hold pearson, which the other numbers rest on")
        if len(set(self.rules)) != len(self.rules):
            raise ValueError("rules holds one twice")


def _count(name: str, summary: str, better: str = "neither") -> ScoreDefinition:
    return ScoreDefinition(name=name, summary=summary, better=better, unit="")  # type: ignore[arg-type]


_SCORES = (
    _count("n_synthetic", "synthetic images searched"),
    _count("n_train", "training images searched in; n is their subjects"),
    _count("n_holdout", "held-out real images; n is their subjects"),
    _count("n_null", "real images behind the thresholds (held-out, or else training images); n is their subjects"),
    _count(
        "n_null_subjects",
        "subjects behind the thresholds (scans of one patient count as one); missing if there is no valid null",
        "higher",
    ),
    _count(
        "false_flag_rate",
        "the rate asked for, over all views and rules together; the upper end is a worst case for this null (95 %)",
    ),
    _count(
        "explained_flag_rate",
        "share of images flagged without memorization, as far as null and control can tell: the largest of the rate "
        "asked for, 1 / (n_null + 1), the share flagged when each null subject is judged by the thresholds of the "
        "others, and that of synthetic images among one half of the held-out subjects judged by the other half",
    ),
    _count("threshold", "r above which an image is flagged, per view and rule; interval by resampling null subjects"),
    _count("n_flagged", "synthetic images above the threshold in any view by any rule, or (of one) in this", "lower"),
    _count("flagged_rate", "share of flagged images, with its Clopper-Pearson interval", "lower"),
    _count(
        "n_copies",
        "flagged images whose joint image, in place, mirrored or shifted, correlates with a training image by copy_r",
        "lower",
    ),
    _count("n_copied_subjects", "training subjects that copies match (scans of one patient count as one)", "lower"),
    _count("n_identical", "images equal to a training image up to brightness and contrast (joint r = 1)", "lower"),
    _count(
        "n_holdout_copies",
        "images that would count as copies, were the held-out ones training images; the generator has seen these",
        "lower",
    ),
    _count(
        "n_memorized_subjects",
        "training subjects that flagged images match (scans of one patient count as one)",
        "lower",
    ),
    _count("best_r_median", "median over synthetic images of the best r with a training image"),
    _count("best_r_quantile", "a tail quantile of the same"),
    _count("null_median", "median over null images of the best r with a training image of another subject"),
    _count("null_quantile", "a tail quantile of the same"),
    _count("null_max", "largest of the same"),
    _count("control_median", "median over synthetic images of the best r with a held-out image"),
    _count("control_max", "largest of the same"),
    _count("smoothness_gain", "how much the null's median rises when its images are made as smooth as the synthetic"),
    _count(
        "closer_to_train",
        "share of synthetic images whose best r with training images exceeds that with as many held-out images; "
        "0.5 without memorization",
        "lower",
    ),
    _count(
        "c_t",
        "z-score of the distances to training images, synthetic against held-out (Meehan et al. 2020); far below 0 "
        "is copying; slices count as independent",
        "higher",
    ),
    _count(
        "closer_than_holdout",
        "probability that a synthetic image is nearer to training images than a held-out one is; 0.5 without "
        "memorization; interval by resampling held-out subjects",
        "lower",
    ),
    _count(
        "authenticity",
        "share of synthetic images farther from their training match than that is from the nearest other training "
        "image (AuthPct, Alaa et al. 2022)",
        "higher",
    ),
    _count("authenticity_other_patients", "the same with the nearest training image of another patient", "higher"),
    _count(
        "distance_ratio",
        "quantile of the distance to the best match over that to the best match of another patient; near 0 is a copy",
        "higher",
    ),
    _count("null_distance_ratio", "the same for real images of other subjects"),
    _count(
        "low_ratio_rate", "share of synthetic images whose distance ratio is below the null's 5 % quantile", "lower"
    ),
    _count(
        "membership_auc",
        "how well the training patients are told from held-out ones by their nearest synthetic image; 0.5 is not at "
        "all; interval by resampling patients",
        "lower",
    ),
    _count("n_near_duplicates", "synthetic images with another one above the joint threshold (mode collapse)", "lower"),
    _count("near_duplicate_rate", "share of one half of the synthetic images that has one in the other half", "lower"),
    _count("near_duplicate_baseline", "share of the null images that has one among training images of other patients"),
    _count("n_distinct", "groups of synthetic images that near-duplicates join, single images included", "higher"),
    _count("feature_threshold", "similarity of features above which an image is flagged by them"),
    _count("n_feature_flagged", "synthetic images above it; these count in no other score", "lower"),
    _count("feature_flagged_rate", "their share of the images searched by features", "lower"),
    _count(
        "power",
        "share of planted copies of a kind and strength that are flagged by a match with their source subject",
        "higher",
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
    optional_roles=("holdout", "features"),
    scores=_SCORES,
)


@synthkit.hookimpl
def synthkit_declare() -> Iterable[Declaration]:
    return [DECLARATION]
