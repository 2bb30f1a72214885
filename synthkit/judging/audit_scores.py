"""What an audit yields: the scores and tables that verdict, pages and release read, whichever plugin made them.

An audit is a metric whose declaration says ``audit=True``: ``synthkit audit-memorization --metric NAME`` takes it. It
is given real images that a generator was trained on (role ``train``), its ``synthetic`` images and, where there are
any, real images of people whom it never saw (``holdout``). Names have one meaning, which is here, so that a verdict
does not depend on who measured. An audit yields every score and table that is *required*, may yield the others, and may
add scores, tables and columns of its own: pages list such scores under all other numbers, and nothing is judged by
them.

The conformance suite tries an audit on planted copies. This module costs nothing to import: declarations take their
definitions from :func:`definitions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthkit.contract import ScoreDefinition

#: A score as it is in ``result.json``.
ScoreDict = Mapping[str, Any]

_WHOLE: tuple[str, ...] = ()
_COLUMN = ("contrast", "rule")
_TAIL = ("contrast", "rule", "quantile")


@dataclass(frozen=True, kw_only=True)
class AuditScore:
    """One score of the seam.

    Attributes
    ----------
    definition : its name, meaning and direction.
    required : whether every audit yields it, of the whole dataset; None with a note where it is undefined.
    forms : the keys that its ``of`` may have, in any order. A score without a value may have none of them.
    """

    definition: ScoreDefinition
    required: bool = False
    forms: tuple[tuple[str, ...], ...] = (_WHOLE,)

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass(frozen=True, kw_only=True)
class AuditTable:
    """One table of the seam: its name, what a line is, and what each column holds; more columns may follow.

    ``required`` is whether every audit yields it. Others are complete where they are there.
    """

    name: str
    summary: str
    columns: Mapping[str, str]
    required: bool = False

    @property
    def file(self) -> str:
        """Name of the file in ``outputs/`` of a run."""
        return f"{self.name}.csv"


def _score(
    name: str,
    summary: str,
    better: Literal["higher", "lower", "neither"] = "neither",
    *forms: tuple[str, ...],
    required: bool = False,
) -> AuditScore:
    definition = ScoreDefinition(name=name, summary=summary, better=better)
    return AuditScore(definition=definition, required=required, forms=forms or (_WHOLE,))


_SCORES = (
    # What was compared.
    _score("n_synthetic", "synthetic images searched", required=True),
    _score(
        "n_blank",
        "synthetic images that are constant or show hardly any brain, and are not flagged: that they are no copies "
        "says nothing, so they do not count as searched, nor in any share",
        "lower",
    ),
    _score("n_train", "training images searched in; n is their subjects", required=True),
    _score("n_holdout", "held-out real images; n is their subjects", required=True),
    _score("n_null", "real images behind the thresholds (held-out, or else training images); n is their subjects"),
    _score(
        "n_null_subjects",
        "subjects behind the thresholds (scans of one patient count as one); missing if there is no valid null",
        "higher",
        required=True,
    ),
    _score(
        "false_flag_rate",
        "the rate asked for, over all views and rules together; the upper end is a worst case for this null (95 %)",
    ),
    _score(
        "explained_flag_rate",
        "share of images flagged without memorization, as far as null and control can tell: the largest of the rate "
        "asked for, 1 / (n_null + 1), the share flagged when each null subject is judged by the thresholds of the "
        "others, and that of synthetic images among one half of the held-out subjects judged by the other half",
        required=True,
    ),
    _score(
        "null_flag_rate", "of these: the share flagged when each null subject is judged by thresholds of the others"
    ),
    _score(
        "control_flag_rate",
        "of these: the share of synthetic images flagged among one half of the held-out subjects, judged by the other",
    ),
    _score(
        "control_floor",
        "what of it would remain with many more synthetic images; the rest is for want of images",
    ),
    _score(
        "threshold",
        "r above which an image is flagged, per view and rule; interval by resampling null subjects",
        "neither",
        _COLUMN,
    ),
    # What is close, and to whom.
    _score(
        "n_flagged",
        "synthetic images above the threshold in any view by any rule, or (of one) in this",
        "lower",
        _WHOLE,
        _COLUMN,
        required=True,
    ),
    _score(
        "flagged_rate",
        "share of flagged images among those that are not blank, with its Clopper-Pearson interval",
        "lower",
        _WHOLE,
        _COLUMN,
        required=True,
    ),
    _score(
        "n_copies",
        "flagged images whose joint image, in place, mirrored or shifted, correlates with a training image by copy_r",
        "lower",
        required=True,
    ),
    _score("n_copied_subjects", "training subjects that copies match (scans of one patient count as one)", "lower"),
    _score(
        "n_identical",
        "images equal to a training image up to brightness and contrast (joint r = 1)",
        "lower",
        required=True,
    ),
    _score(
        "n_holdout_copies",
        "images that would count as copies, were the held-out ones training images; the generator has seen these",
        "lower",
    ),
    _score(
        "n_memorized_subjects",
        "training subjects that flagged images match (scans of one patient count as one)",
        "lower",
    ),
    _score("best_r_median", "median over synthetic images of the best r with a training image", "neither", _COLUMN),
    _score("best_r_quantile", "a tail quantile of the same", "neither", _TAIL),
    _score(
        "null_median",
        "median over null images of the best r with a training image of another subject",
        "neither",
        _COLUMN,
    ),
    _score("null_quantile", "a tail quantile of the same", "neither", _TAIL),
    _score("null_max", "largest of the same", "neither", _COLUMN),
    _score("smoothness_gain", "how much the null's median rises when its images are made as smooth as the synthetic"),
    # Closer to training images than to others.
    _score(
        "closer_to_train",
        "share of synthetic images whose best r with training images exceeds that with as many held-out images; "
        "0.5 without memorization",
        "lower",
    ),
    _score(
        "c_t",
        "z-score of the distances to training images, synthetic against held-out (Meehan et al. 2020); far below 0 "
        "is copying; slices count as independent",
        "higher",
    ),
    _score(
        "closer_than_holdout",
        "probability that a synthetic image is nearer to training images than a held-out one is; 0.5 without "
        "memorization; interval by resampling held-out subjects",
        "lower",
    ),
    _score(
        "authenticity",
        "share of synthetic images farther from their training match than that is from the nearest other training "
        "image (AuthPct, Alaa et al. 2022)",
        "higher",
    ),
    _score("authenticity_other_patients", "the same with the nearest training image of another patient", "higher"),
    _score(
        "distance_ratio",
        "quantile of the distance to the best match over that to the best match of another patient; near 0 is a copy",
        "higher",
        ("quantile",),
    ),
    _score("null_distance_ratio", "the same for real images of other subjects", "neither", ("quantile",)),
    _score(
        "low_ratio_rate", "share of synthetic images whose distance ratio is below the null's 5 % quantile", "lower"
    ),
    _score(
        "membership_auc",
        "how well the training patients are told from held-out ones by their nearest synthetic image; 0.5 is not at "
        "all; interval by resampling patients",
        "lower",
    ),
    # Among the synthetic images themselves.
    _score("n_near_duplicates", "synthetic images with another one above the joint threshold (mode collapse)", "lower"),
    _score("near_duplicate_rate", "share of one half of the synthetic images that has one in the other half", "lower"),
    _score("near_duplicate_baseline", "share of the null images that has one among training images of other patients"),
    _score("n_distinct", "groups of synthetic images that near-duplicates join, single images included", "higher"),
    # By features of a network.
    _score(
        "n_feature_flagged",
        "synthetic images above the threshold of features; these count in no other score",
        "lower",
        ("features",),
    ),
    _score("feature_flagged_rate", "their share of the images searched by features", "lower", ("features",)),
    # Of planted copies; the mildest strength of a kind comes first.
    _score(
        "power",
        "share of planted copies of a kind and strength that are flagged by a match with their source subject",
        "higher",
        ("planted", "strength"),
    ),
)

#: Every score that something outside an audit reads, by name.
SCORES: Mapping[str, AuditScore] = {score.name: score for score in _SCORES}

MATCHES = AuditTable(
    name="matches",
    summary="the best training match of a synthetic image in a view by a rule",
    required=True,
    columns={
        "synthetic_id": "id of the synthetic image; images without a match above a threshold may be left out",
        "contrast": "the view: a contrast, or joint for all contrasts as one image",
        "rule": "how images were compared; pearson is r over all pixels in place",
        "train_id": "id of the training image",
        "train_subject": "its subject, empty where there is none",
        "r": "how similar they are; 1 is identical",
        "r_null_quantile": "share of null images with a smaller best r; empty without a null",
        "flagged": "True or False: whether r is above the threshold; empty without one",
    },
)
NULL = AuditTable(
    name="null",
    summary="the best training match of a real image that cannot have been copied",
    columns={
        "holdout_id": "id of the real image",
        "contrast": "the view",
        "rule": "the rule",
        "train_id": "id of the training image",
        "r": "how similar they are",
    },
)
PAIRS = AuditTable(
    name="pairs",
    summary="one of the pairs that stand out most in a view",
    columns={
        "contrast": "the view",
        "rule": "the rule",
        "synthetic_id": "id of the synthetic image",
        "train_id": "id of the training image",
        "r": "how similar they are",
        "threshold": "r above which an image is flagged; empty without a null",
        "r_null_quantile": "as in matches",
        "holdout_id": "the held-out image that is most similar to the synthetic one, empty where nothing is held out",
        "r_holdout": "how similar",
    },
)
SUBJECTS = AuditTable(
    name="subjects",
    summary="a training subject",
    columns={
        "train_subject": "its name",
        "n_train": "its training images",
        "n_flagged": "flagged images that match it; empty without a null",
        "n_copies": "copies that match it; empty without a null",
        "best_r": "largest r of a synthetic image with one of its images",
    },
)

#: Every table that something outside an audit reads, by name.
TABLES: Mapping[str, AuditTable] = {table.name: table for table in (MATCHES, NULL, PAIRS, SUBJECTS)}

#: Columns that name a real person or image, in whichever table they are.
NAMES_OF_REAL = ("train_id", "train_subject", "holdout_id")


def definitions(*names: str) -> tuple[ScoreDefinition, ...]:
    """Definitions for a declaration, in the order of the seam: of these scores, or of all; required ones always."""
    unknown = set(names) - set(SCORES)
    if unknown:
        raise KeyError(f"no scores of an audit: {', '.join(sorted(unknown))}")
    return tuple(s.definition for s in _SCORES if not names or s.required or s.name in names)


# ------------------------------------------------------------------------------------------------- reading them


class AuditScores:
    """The scores of one audit, by name. A name that no audit declares raises :class:`KeyError`."""

    def __init__(self, scores: Iterable[ScoreDict]) -> None:
        scores = list(scores)
        self._whole = {str(score["name"]): score for score in scores if not score.get("of")}
        self._parts = [score for score in scores if score.get("of")]

    def get(self, name: str) -> ScoreDict | None:
        """The score of the whole dataset; None where it was not measured or is undefined."""
        score = self._whole.get(SCORES[name].name)
        return None if score is None or score.get("value") is None else score

    def value(self, name: str) -> float | None:
        score = self.get(name)
        return None if score is None else float(score["value"])

    def count(self, name: str) -> int | None:
        score = self.get(name)
        return None if score is None else int(score["value"])

    @property
    def n_searched(self) -> int:
        """Synthetic images that count as searched: without the blank ones. 0 where they were not counted."""
        return max(0, (self.count("n_synthetic") or 0) - (self.count("n_blank") or 0))

    def low(self, name: str) -> float | None:
        """The lower bound of its interval; None where it has none."""
        low = (self.get(name) or {}).get("low")
        return None if low is None else float(low)

    def each(self, name: str, key: str) -> list[ScoreDict]:
        """The scores of this name that are of one ``key`` each and have a value, in the order of the audit."""
        known = SCORES[name].name
        return [s for s in self._parts if s["name"] == known and key in s["of"] and s.get("value") is not None]

    @property
    def planted(self) -> list[ScoreDict]:
        """Recalls of planted copies: the mildest strength of a kind comes first."""
        return self.each("power", "planted")


def planted_name(score: ScoreDict) -> str:
    """What a score ``power`` is of, as policies and sentences name it: "noise sd 5"."""
    return f"{score['of']['planted']} {score['of'].get('strength', '')}".strip()


def with_interval(score: ScoreDict) -> str:
    """A share with its interval: "92% (95% interval 81% to 97%)"."""
    low, high = score.get("low"), score.get("high")
    bounds = "" if low is None or high is None else f" (95% interval {low:.0%} to {high:.0%})"
    return f"{score['value']:.0%}{bounds}"
