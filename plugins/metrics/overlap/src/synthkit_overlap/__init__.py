"""Overlap of segmented regions, whole or by lesion, with the reference, as metrics (declaration only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import synthkit
from synthkit import Citation, Declaration, MetricDeclaration, ScoreDefinition, param
from synthkit_overlap.lesion_rules import RULES


@dataclass(frozen=True)
class Params:
    """Conventions that differ between tools, each with the choice of the study or of BraTS as its default."""

    borders: str = param(
        "voxels",
        "HD95, Hausdorff distance and surface Dice: between border voxels, each counting the same (MedPy, MONAI), or "
        "between surface elements, by their area (surface-distance, with hausdorff_rule=directed-max)",
        choices=("voxels", "surfels"),
    )
    hausdorff_rule: str = param(
        "pooled",
        "HD95: percentile of both directions pooled (MedPy, BraTS) or the larger of the two directed percentiles "
        "(MONAI, surface-distance)",
        choices=("pooled", "directed-max"),
    )
    hausdorff_one_empty: str = param(
        "penalty",
        "Hausdorff distance of a missed or false region: the diagonal of the volume in mm, or left out of the mean "
        "(which then improves with every region missed)",
        choices=("penalty", "exclude"),
    )
    hausdorff_percentile: int = param(
        95,
        "95: HD95; 100: the maximum, which one stray voxel decides, as in the study",
        choices=(95, 100),
    )
    nested_regions: bool = param(
        True, "score the nested regions of the label scheme (TC and WT in BraTS) besides the labels"
    )
    surface_tolerance_mm: float = param(
        1.0, "surface Dice: distance within which two borders agree", minimum=0, maximum=1000, unit="mm"
    )
    both_empty: str = param(
        "exclude",
        "a region empty in reference and prediction: not counted, or counted as perfect (either Dice 1, HD95 0)",
        choices=("exclude", "perfect"),
    )
    lesion_rules: str = param(
        "gli2024",
        "scores by lesion: the challenge whose rules say what a lesion is, which ones count, and what a missed or "
        "false one costs; -as-run keeps what its published code does beside its rule",
        choices=tuple(RULES),
    )
    lesion_both_empty: str = param(
        "perfect",
        "scores by lesion of a subject without a lesion that counts on either side: perfect (1, HD95 0), as in the "
        "challenges, or not counted",
        choices=("perfect", "exclude"),
    )
    lesion_tolerance_mm: float = param(
        1.0, "lesion-nsd: distance within which two borders agree", minimum=0, maximum=1000, unit="mm"
    )
    lesion_strict_tolerance_mm: float = param(
        0.5, "lesion-nsd: the same for lesion_nsd_strict", minimum=0, maximum=1000, unit="mm"
    )
    resamples: int = param(2000, "random weights of the patients, for the intervals", minimum=100, maximum=100_000)
    seed: int = param(0, "seed of these weights", minimum=0)


_COUNTS = (
    ScoreDefinition(name="n_missed", summary="subjects whose region was not predicted at all", better="lower"),
    ScoreDefinition(
        name="n_false", summary="subjects with a predicted region that the reference lacks", better="lower"
    ),
    ScoreDefinition(name="n_empty", summary="subjects with the region in neither", better="neither"),
    ScoreDefinition(name="n_unpaired", summary="subjects in only one of the two sets: not scored", better="lower"),
)

_DICE = MetricDeclaration(
    name="dice",
    summary="Dice coefficient of each labelled region, per subject and over subjects",
    module="synthkit_overlap.metrics",
    distribution="synthkit-overlap",
    params=Params,
    licence="Apache-2.0",
    citations=(
        Citation(
            text="Dice LR. Measures of the amount of ecologic association between species. Ecology 26(3), 1945.",
            doi="10.2307/1932409",
        ),
    ),
    gpu="none",
    reproducible="bitwise",
    roles=("reference", "prediction"),
    scores=(
        ScoreDefinition(name="dice", summary="Dice coefficient of one region of one subject", better="higher"),
        ScoreDefinition(
            name="dice_mean", summary="mean Dice over subjects, 95 % interval over patients", better="higher"
        ),
        ScoreDefinition(name="dice_std", summary="standard deviation of Dice over subjects", better="neither"),
        *_COUNTS,
    ),
)

_HAUSDORFF = MetricDeclaration(
    name="hausdorff",
    summary="95th percentile Hausdorff distance (HD95) of each labelled region, per subject and over subjects",
    module="synthkit_overlap.metrics",
    distribution="synthkit-overlap",
    params=Params,
    licence="Apache-2.0",
    citations=(
        Citation(
            text="Huttenlocher DP, Klanderman GA, Rucklidge WJ. Comparing images using the Hausdorff distance. "
            "IEEE Trans Pattern Anal Mach Intell 15(9), 1993.",
            doi="10.1109/34.232073",
        ),
        Citation(
            text="Menze BH et al. The multimodal brain tumor image segmentation benchmark (BRATS). "
            "IEEE Trans Med Imaging 34(10), 2015.",
            doi="10.1109/TMI.2014.2377694",
        ),
    ),
    gpu="none",
    reproducible="bitwise",
    roles=("reference", "prediction"),
    scores=(
        ScoreDefinition(name="hd95", summary="HD95 of one region of one subject", better="lower", unit="mm"),
        ScoreDefinition(
            name="hd95_mean", summary="mean HD95 over subjects, 95 % interval over patients", better="lower", unit="mm"
        ),
        ScoreDefinition(
            name="hd95_std", summary="standard deviation of HD95 over subjects", better="neither", unit="mm"
        ),
        ScoreDefinition(
            name="hausdorff",
            summary="maximum Hausdorff distance of one region of one subject (hausdorff_percentile=100)",
            better="lower",
            unit="mm",
        ),
        ScoreDefinition(
            name="hausdorff_mean",
            summary="mean maximum Hausdorff distance over subjects, 95 % interval over patients",
            better="lower",
            unit="mm",
        ),
        ScoreDefinition(
            name="hausdorff_std",
            summary="standard deviation of the maximum Hausdorff distance over subjects",
            better="neither",
            unit="mm",
        ),
        *_COUNTS,
    ),
)


_SURFACE_DICE = MetricDeclaration(
    name="surface-dice",
    summary="share of the borders of each labelled region within a tolerance, per subject and over subjects",
    module="synthkit_overlap.metrics",
    distribution="synthkit-overlap",
    params=Params,
    licence="Apache-2.0",
    citations=(
        Citation(
            text="Nikolov S et al. Deep learning to achieve clinically applicable segmentation of head and neck "
            "anatomy for radiotherapy. 2018.",
            doi="10.48550/arXiv.1809.04430",
        ),
    ),
    gpu="none",
    reproducible="bitwise",
    roles=("reference", "prediction"),
    scores=(
        ScoreDefinition(name="surface_dice", summary="surface Dice of one region of one subject", better="higher"),
        ScoreDefinition(
            name="surface_dice_mean",
            summary="mean over subjects, 95 % interval over patients",
            better="higher",
        ),
        ScoreDefinition(
            name="surface_dice_std", summary="standard deviation of surface Dice over subjects", better="neither"
        ),
        *_COUNTS,
    ),
)


_LESION_COUNTS = (
    ScoreDefinition(name="lesions_found", summary="lesions of the reference that were found", better="higher"),
    ScoreDefinition(name="lesions_missed", summary="lesions of the reference that were missed", better="lower"),
    ScoreDefinition(name="lesions_false", summary="predicted lesions that the reference lacks", better="lower"),
    ScoreDefinition(
        name="lesions_small", summary="lesions of the reference that are too small to count", better="neither"
    ),
)

_LESION_CITATIONS = (
    Citation(
        text="Saluja R. BraTS 2023 and 2024 performance metrics: code of the challenges.",
        url="https://github.com/rachitsaluja/BraTS-2024-Metrics",
    ),
    Citation(
        text="Moawad AW et al. The brain tumor segmentation - metastases (BraTS-METS) challenge 2023. 2023.",
        doi="10.48550/arXiv.2306.00838",
    ),
)


def _over_subjects(
    score: str, summary: str, better: Literal["higher", "lower"], unit: str
) -> tuple[ScoreDefinition, ...]:
    return (
        ScoreDefinition(name=score, summary=f"of one region of one subject: {summary}", better=better, unit=unit),
        ScoreDefinition(
            name=f"{score}_mean",
            summary=f"mean over subjects, 95 % interval over patients: {summary}",
            better=better,
            unit=unit,
        ),
        ScoreDefinition(
            name=f"{score}_std", summary=f"standard deviation over subjects: {summary}", better="neither", unit=unit
        ),
    )


def _by_lesion(
    name: str, what: str, scores: dict[str, str], better: Literal["higher", "lower"], unit: str = ""
) -> MetricDeclaration:
    """A metric over lesions; ``scores`` are what one subject's are, by name."""
    return MetricDeclaration(
        name=name,
        summary=f"{what} by lesion, as the BraTS challenges rank: false islands and missed lesions count in full",
        module="synthkit_overlap.metrics",
        distribution="synthkit-overlap",
        params=Params,
        licence="Apache-2.0",
        citations=_LESION_CITATIONS,
        gpu="none",
        reproducible="bitwise",
        roles=("reference", "prediction"),
        scores=(
            *(item for score, summary in scores.items() for item in _over_subjects(score, summary, better, unit)),
            *_LESION_COUNTS,
            *_COUNTS,
        ),
    )


_BY_LESION = (
    _by_lesion("lesion-dice", "Dice", {"lesion_dice": "mean Dice of its lesions"}, "higher"),
    _by_lesion("lesion-hd95", "HD95", {"lesion_hd95": "mean HD95 of its lesions"}, "lower", unit="mm"),
    _by_lesion(
        "lesion-nsd",
        "surface Dice (NSD)",
        {
            "lesion_nsd": "mean share of the borders of its lesions within lesion_tolerance_mm",
            "lesion_nsd_strict": "the same within lesion_strict_tolerance_mm",
        },
        "higher",
    ),
    _by_lesion("lesion-f1", "F1", {"lesion_f1": "F1 of its lesions: found, missed, false"}, "higher"),
)


#: What makes the conformance checks quick.
CONFORMANCE_PARAMS = {"resamples": 100}


@synthkit.hookimpl
def synthkit_declare() -> Iterable[Declaration]:
    """The metrics of this package; asked for together, they share one pass over the volumes."""
    return [_DICE, _HAUSDORFF, _SURFACE_DICE, *_BY_LESION]
