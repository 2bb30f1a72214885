"""Wrong declarations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synthkit.contract import Citation, Samples
from synthkit.testing.toys import GENERATOR, SEGMENTER, SLICE_METRIC, VOLUME_METRIC, TrainedParams, generator
from synthkit.testing.toys.wrong.wrong import Wrong, declared, method


@dataclass(frozen=True)
class _WithoutHelp(TrainedParams):
    width: int = 3


def _train_with_other_names(data: Samples, folder: Path, params: Any) -> None:
    generator.train(data, folder, params)


WRONG: tuple[Wrong, ...] = (
    declared("declaration_is_valid", "a name with capitals", GENERATOR, name="Toy_Generator"),
    declared("declaration_is_valid", "no known reproducibility", SEGMENTER, reproducible="mostly"),
    declared("declaration_is_valid", "a summary of two lines", VOLUME_METRIC, summary="Dice\ncoefficient"),
    Wrong(
        "declaration_is_free_to_import",
        "its package imports numpy",
        replace(GENERATOR, module="synthkit.testing.toys.wrong.heavy.generator"),
    ),
    declared("licence_and_citation_are_declared", "no licence", GENERATOR, licence=""),
    declared("licence_and_citation_are_declared", "no citation", SEGMENTER, citations=()),
    declared(
        "licence_and_citation_are_declared",
        "a resolver before the DOI",
        VOLUME_METRIC,
        citations=(Citation(text="Dice", doi="https://doi.org/10.2307/1932409"),),
    ),
    declared("parameters_are_documented", "a parameter without help", SEGMENTER, params=_WithoutHelp),
    Wrong(
        "presets_are_parameters",
        "a preset with a parameter that it has not",
        replace(GENERATOR, module="synthkit.testing.toys.wrong.misset.generator"),
    ),
    declared("dockerfile_is_in_the_package", "no Dockerfile", GENERATOR, dockerfile="Containerfile"),
    declared("dockerfile_is_in_the_package", "a fixed base", SEGMENTER, dockerfile="Dockerfile.fixed-base"),
    declared(
        "scores_are_described",
        "a score without summary",
        SLICE_METRIC,
        scores=tuple(replace(score, summary=" ") for score in SLICE_METRIC.scores),
    ),
    declared(
        "scores_are_described",
        "an unknown direction",
        VOLUME_METRIC,
        scores=tuple(replace(score, better="bigger") for score in VOLUME_METRIC.scores),  # type: ignore[arg-type]
    ),
    method(
        "module_has_its_functions",
        "other argument names",
        replace(GENERATOR, optional_roles=()),
        train=_train_with_other_names,
    ),
)
