"""Memorization: which synthetic images copy training images, calibrated on held-out subjects (declaration only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import synthkit
from synthkit import Citation, Declaration, MetricDeclaration, ScoreDefinition, param


@dataclass(frozen=True)
class Params:
    """What counts as suspicious, and what the search may use."""

    false_flag_rate: float = param(
        0.001,
        "share of unrelated real images that may be flagged, over all contrasts and the joint image together",
        minimum=1e-6,
        maximum=0.5,
    )
    copy_r: float = param(
        0.99, "a flagged image is a copy if its joint image correlates this much with one", minimum=0.5, maximum=1.0
    )
    memory_mb: float = param(
        2048.0, "training pixels held in memory at a time; less means more passes", minimum=1, unit="MB"
    )
    resamples: int = param(
        1000, "bootstrap resamples of the null's subjects, for intervals", minimum=100, maximum=100_000
    )
    seed: int = param(0, "seed of the bootstrap and of the choice of training subjects for closer_to_train", minimum=0)


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
    _count("false_flag_rate", "the false-flag rate asked for, over all contrasts and the joint image together"),
    _count(
        "explained_flag_rate",
        "share of unrelated real images flagged, as far as this null can tell: the largest of the rate asked for, "
        "1 / (n_null + 1), and the share flagged when each null subject is judged by the thresholds of the others",
    ),
    _count("threshold", "r above which an image is flagged, per contrast; interval by resampling null subjects"),
    _count("n_flagged", "synthetic images above the threshold, in any contrast or (of contrast) in one", "lower"),
    _count("flagged_rate", "share of flagged images, with its Clopper-Pearson interval", "lower"),
    _count("n_copies", "flagged images whose joint image correlates with a training image at least by copy_r", "lower"),
    _count("n_identical", "images equal to a training image up to brightness and contrast (joint r = 1)", "lower"),
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
    _count(
        "closer_to_train",
        "share of synthetic images whose best r with training images exceeds that with as many held-out images; "
        "0.5 without memorization",
        "lower",
    ),
)

DECLARATION = MetricDeclaration(
    name="memorization",
    summary="best-match Pearson r of every synthetic image in the training set, against held-out real images",
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
            text="Clopper CJ, Pearson ES. The use of confidence or fiducial limits illustrated in the case of the "
            "binomial. Biometrika 26(4), 1934.",
            doi="10.1093/biomet/26.4.404",
        ),
    ),
    gpu="none",
    reproducible="bitwise",
    roles=("train", "synthetic"),
    optional_roles=("holdout",),
    scores=_SCORES,
)


@synthkit.hookimpl
def synthkit_declare() -> Iterable[Declaration]:
    return [DECLARATION]
