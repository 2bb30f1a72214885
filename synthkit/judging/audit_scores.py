"""What an audit yields: the scores and tables that verdict, pages and release read, whichever plugin made them.

An audit is a metric whose declaration says ``audit=True``: ``synthkit audit-memorization --metric NAME`` takes it. It
is given real images that a generator was trained on (role ``train``), its ``synthetic`` images and, where there are
any, real images of people whom it never saw (``holdout``). Names have one meaning, which is here, so that a verdict
does not depend on who measured. The one concept is a *copy*: an image nearer to a real person than anybody is by
chance. Its *margin* says how near it comes, in units of how near unrelated people come; the *cut*, what is too near.

An audit yields every score and table that is *required*, may yield the others, and may add scores, tables and columns
of its own: pages list such scores under all other numbers, and nothing is judged by them.

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

#: What images are compared by, each with a cut of its own; in the order in which they are shown. An audit may know
#: others.
FAMILIES: Mapping[str, str] = {
    "picture": "the picture as it lies, also mirrored, moved a little or inverted",
    "frame": "the head in a common frame, also turned, scaled, cropped or moved",
    "warped": "the head in a finer common frame, bent to fit",
    "labels": "the label map as it lies",
    "label-shape": "the label map around its centre, also turned or mirrored",
    "tumour": "the tumour alone, wherever it lies",
    "asked": "where its label map says nothing, an image with the person whose label map it was asked to have",
}

_WHOLE: tuple[str, ...] = ()
_FAMILY = ("family",)
_SIDE = ("family", "side")
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
        "synthetic images that are constant or show hardly any brain, and are no copies: that says nothing of them, so "
        "they do not count as searched, nor in any share",
        "lower",
    ),
    _score("n_train", "training images searched in; n is their people", required=True),
    _score("n_holdout", "held-out real images; n is their people", required=True),
    _score(
        "n_holdout_twins",
        "held-out people who are training people under another id, as near as scans of one person: they are left out "
        "of the held-out side",
        "lower",
    ),
    _score(
        "n_null_subjects",
        "real people whose images the cut is taken from: training and held-out people, each left out of both sides "
        "(scans of one patient count as one); missing if there is no valid null",
        "higher",
        required=True,
    ),
    _score(
        "false_fail_rate",
        "chance, at most, that a synthetic dataset of this size that copies nobody fails, as asked for; by "
        "extrapolation of the null's tail, not distribution-free",
    ),
    # Who is copied.
    _score(
        "n_identical",
        "images equal to a training image up to brightness and contrast (joint r = 1)",
        "lower",
        required=True,
    ),
    _score(
        "n_copies",
        "synthetic images nearer to a training person than chance allows: their margin is below the cut",
        "lower",
        _WHOLE,
        _FAMILY,
        _COLUMN,
        required=True,
    ),
    _score(
        "copied_rate",
        "share of copies among the images that are not blank, with its Clopper-Pearson interval",
        "lower",
        _WHOLE,
        _COLUMN,
        required=True,
    ),
    _score("n_copied_subjects", "training people whom copies show (scans of one patient count as one)", "lower"),
    _score(
        "n_holdout_copies",
        "synthetic images nearer to a held-out person than chance allows: copies of patients as well",
        "lower",
    ),
    _score("n_copied_holdout_subjects", "held-out people whom these show", "lower"),
    # How near, and how near chance comes.
    _score(
        "cut",
        "margin below which an image is a copy of training people, or (side holdout) of held-out people; 1 is how near "
        "the nearest image of a median unrelated person comes",
        "neither",
        _FAMILY,
        _SIDE,
    ),
    _score(
        "least_margin",
        "smallest margin of a synthetic image to training people, or (side holdout) to held-out people",
        "higher",
        _FAMILY,
        _SIDE,
    ),
    _score(
        "null_margin",
        "margins of real people to others, the smallest of each one's images: quantiles over people",
        "neither",
        ("family", "quantile"),
    ),
    _score(
        "likeness",
        "how near the generator's images come to everybody, 1 as real images do, 0 to 1; the cut is scaled by it",
        "higher",
        _FAMILY,
        _SIDE,
    ),
    _score(
        "threshold",
        "r that an image must exceed to be a copy by this view and rule; it must also be nearer to that person than to "
        "others",
        "neither",
        _COLUMN,
    ),
    _score("best_r_median", "median over synthetic images of the best r with a training image", "neither", _COLUMN),
    _score("best_r_quantile", "a tail quantile of the same", "neither", _TAIL),
    _score("null_median", "median over real images of the best r with another training person", "neither", _COLUMN),
    _score("null_quantile", "a tail quantile of the same", "neither", _TAIL),
    _score("null_max", "largest of the same", "neither", _COLUMN),
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
        "memorization; interval over held-out people and synthetic images",
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
    _score("low_ratio_rate", "share of images whose distance ratio is below the null's 5 % quantile", "lower"),
    _score(
        "membership_auc",
        "how well the training patients are told from held-out ones by their nearest synthetic image; 0.5 is not at "
        "all, far below it is as telling as far above; interval over the people of both sides",
        "neither",
    ),
    # Asked for with label maps of real people.
    _score(
        "n_asked",
        "synthetic images that were asked to have the label map, not empty, of a training person; n is these people",
    ),
    _score(
        "n_returned",
        "training people who come back: an image that was asked to have their label map copies them where that says "
        "nothing",
        "lower",
    ),
    _score(
        "asked_first_rate",
        "share of the people asked for to whom their own images are nearer, outside the labels, than to any training "
        "person",
        "lower",
    ),
    _score("n_control", "images of the control, asked to have label maps of held-out people; n is these people"),
    _score("control_first_rate", "the same share of these people: what label maps say of heads by themselves"),
    _score(
        "asked_auc",
        "how well the training people are told from held-out ones by how near the images with their label maps come to "
        "them; 0.5 is not at all; interval over the people of both sides",
        "neither",
    ),
    # Among the synthetic images themselves.
    _score("n_near_duplicates", "synthetic images with another one above the joint threshold (mode collapse)", "lower"),
    _score("near_duplicate_rate", "share of one half of the synthetic images that has one in the other half", "lower"),
    _score("near_duplicate_baseline", "share of the null images that has one among training images of other patients"),
    _score("n_distinct", "groups of synthetic images that near-duplicates join, single images included", "higher"),
    # By features of a network.
    _score(
        "n_feature_flagged",
        "synthetic images above the threshold of features; these are no copies and count in no other score",
        "lower",
        ("features",),
    ),
    _score("feature_flagged_rate", "their share of the images searched by features", "lower", ("features",)),
    # Of planted copies; the mildest strength of a kind comes first.
    _score(
        "power",
        "share of planted copies of a kind and strength that are found as copies of the person whom they show",
        "higher",
        ("planted", "strength"),
    ),
)

#: Every score that something outside an audit reads, by name.
SCORES: Mapping[str, AuditScore] = {score.name: score for score in _SCORES}


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

    def by_family(self, name: str, **of: str) -> dict[str, float]:
        """The values of this score that are of one family each, and of ``of`` and nothing else, by family."""
        known = SCORES[name].name
        found = [(dict(s["of"]), s) for s in self._parts if s["name"] == known and s.get("value") is not None]
        return {s["of"]["family"]: float(s["value"]) for own, s in found if own.pop("family", None) and own == of}

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
