"""Toy plugins that keep every promise: the smallest complete example of each kind, in numpy alone. Declarations only.

They are not entry points, so they are never installed; tests register them. :mod:`synthkit.testing.toys.wrong` holds
plugins that break one promise each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import synthkit
from synthkit.judging import audit_scores

#: Training is quick anyway; fewer passes make it quicker.
CONFORMANCE_PARAMS: dict[str, Any] = {"passes": 2}

_CITATION = synthkit.Citation(text="The conformance suite of synthkit", url="https://example.org/synthkit")


@dataclass(frozen=True)
class TrainedParams:
    """Parameters of the toys that train."""

    passes: int = synthkit.param(4, "how often the training data are read", minimum=1, resume="more")
    seed: int = synthkit.param(0, "seed of training", minimum=0)


@dataclass(frozen=True)
class TumourConditions:
    """What the toy that can be asked offers besides label maps."""

    radius: float | None = synthkit.param(None, "of the tumour", minimum=0.05, maximum=0.4, unit="sides of the image")
    parts: tuple[str, ...] | None = synthkit.param(None, "labels that the tumour has, outside first", choices="labels")


@dataclass(frozen=True)
class AuditParams:
    """Parameters of the toy audit."""

    plants: int = synthkit.param(60, "planted copies, at most one a person; 0 plants none", minimum=0, weaker="lower")


GENERATOR = synthkit.GeneratorDeclaration(
    name="toy-generator",
    summary="draws an ellipse with a round tumour, in the mean grey levels of the training data",
    module="synthkit.testing.toys.generator",
    distribution="synthkit-core",
    params=TrainedParams,
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    imports=("its own model.json",),
    optional_roles=("initial",),
)

CONDITIONAL_GENERATOR = synthkit.GeneratorDeclaration(
    name="toy-conditional-generator",
    summary="the same, with the labels, the radius or the parts of the tumour that it is asked for",
    module="synthkit.testing.toys.conditional",
    distribution="synthkit-core",
    params=TrainedParams,
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    label_maps=True,
    conditions=TumourConditions,
)

SEGMENTER = synthkit.SegmenterDeclaration(
    name="toy-segmenter",
    summary="gives each pixel the label of the nearest mean grey levels",
    module="synthkit.testing.toys.segmenter",
    distribution="synthkit-core",
    params=TrainedParams,
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    optional_roles=("initial",),
)

VOLUME_METRIC = synthkit.MetricDeclaration(
    name="toy-overlap",
    summary="Dice coefficient of the foreground",
    module="synthkit.testing.toys.volume_metric",
    distribution="synthkit-core",
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    roles=("reference", "prediction"),
    scores=(
        synthkit.ScoreDefinition(name="overlap", summary="Dice coefficient of one subject", better="higher"),
        synthkit.ScoreDefinition(name="overlap_mean", summary="mean over subjects", better="higher"),
    ),
)

SLICE_METRIC = synthkit.MetricDeclaration(
    name="toy-shift",
    summary="difference of mean grey levels",
    module="synthkit.testing.toys.slice_metric",
    distribution="synthkit-core",
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    roles=("real", "synthetic"),
    optional_roles=("holdout",),
    scores=(
        synthkit.ScoreDefinition(name="shift", summary="difference of the means", better="lower", unit="grey levels"),
        synthkit.ScoreDefinition(name="floor", summary="the same of real against held-out", better="neither"),
    ),
)

KEEPING_METRIC = synthkit.MetricDeclaration(
    name="toy-distance",
    summary="the same, with what is needed of the real images kept for later runs",
    module="synthkit.testing.toys.keeping_metric",
    distribution="synthkit-core",
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    roles=("real", "synthetic"),
    optional_roles=("kept",),
    scores=(synthkit.ScoreDefinition(name="distance", summary="difference of the means", better="lower"),),
)

SLICE_AUDIT = synthkit.MetricDeclaration(
    name="toy-nearest",
    summary="the nearest training image of each synthetic one",
    module="synthkit.testing.toys.slice_audit",
    distribution="synthkit-core",
    params=AuditParams,
    licence="Apache-2.0",
    citations=(_CITATION,),
    gpu="none",
    reproducible="bitwise",
    roles=("train", "synthetic"),
    optional_roles=("holdout",),
    scores=audit_scores.definitions(
        "n_blank",
        "n_copied_subjects",
        "n_holdout_copies",
        "n_copied_holdout_subjects",
        "cut",
        "least_margin",
        "null_margin",
        "threshold",
        "power",
    ),
    audit=True,
)

TOYS: tuple[synthkit.Declaration, ...] = (
    GENERATOR,
    CONDITIONAL_GENERATOR,
    SEGMENTER,
    VOLUME_METRIC,
    SLICE_METRIC,
    KEEPING_METRIC,
    SLICE_AUDIT,
)


@synthkit.hookimpl
def synthkit_declare() -> tuple[synthkit.Declaration, ...]:
    """All toys."""
    return TOYS
