"""What an audit says of images that were asked for with label maps of training people: does somebody come back?

Label maps, and where a tumour lies, agree by request, so these sentences rest on what images show elsewhere: on the
family ``asked`` of :mod:`synthkit.judging.audit_scores`, and on who comes first, beside a control of held-out people.
"""

from __future__ import annotations

import math

from synthkit.judging.audit_scores import AuditScores, ScoreDict
from synthkit.judging.policy import Policy

FAMILY = "asked"

# A dataset of its own, for the holdout of a dataset is never asked for.
CONTROL = (
    "Ask the same generator for label maps of people whom it has never seen (synthkit generate RUN --labels UNSEEN -o "
    "CONTROL), and audit with --holdout UNSEEN --control CONTROL."
)


def n_returning(scores: AuditScores) -> int:
    """Images that bring back whom they were asked for; 0 where none was asked for."""
    return int(scores.by_family("n_copies").get(FAMILY, 0))


def outcome(scores: AuditScores) -> list[str]:
    """Who was asked for and who came back, in at most one line; none where nobody was asked for or nothing is known."""
    asked, returned = scores.get("n_asked"), scores.count("n_returned")
    if not asked or not asked["value"] or returned is None:
        return []
    n, whose = int(asked["value"]), _people(asked.get("n"), "training")
    images = "1 image" if n == 1 else f"{n:,} images"
    margin, cut = (scores.by_family(name).get(FAMILY) for name in ("least_margin", "cut"))
    near = f" (smallest margin {margin:.2f}, cut {cut:.2f})" if margin is not None and cut is not None else ""
    if returned:
        back, of = n_returning(scores), "1 comes" if returned == 1 else f"{returned:,} come"
        what = f"{of} back, in {back:,} of {images}"
    else:
        what = f"nobody comes back in {images}"
    where = "compared where label maps say nothing"
    return [f"Asked for with the label maps of {whose}, {what}, {where}{near}.{_first(scores)}"]


def _first(scores: AuditScores) -> str:
    """To how many their images are nearer than to anybody, beside the control."""
    own, control = scores.get("asked_first_rate"), scores.get("control_first_rate")
    if own is None:
        return ""
    beside = f"; in the control, of {_share(control)} held-out people" if control is not None else ""
    nearer = "Nearer to whom they were asked for than to any other training person"
    return f" {nearer} are the images of {_share(own)}{beside}."


def _counts(score: ScoreDict) -> tuple[int, int]:
    """Of a share of people: how many, of how many."""
    n = int(score["n"])
    return round(float(score["value"]) * n), n


def _share(score: ScoreDict) -> str:
    first, n = _counts(score)
    return f"{first:,} of {n:,}"


def told_apart(scores: AuditScores, policy: Policy) -> list[str]:
    """That most training people are told by label map where held-out ones are not; or better than the policy tolerates.

    By Fisher's exact test over people, one-sided: it holds however few they are and whatever they are like, where no
    cut can be taken from them. The audit's rate of false fails is shared among the families; the cut of this one has a
    half of its share, this test the other.
    """
    own, control, rate = (scores.get(name) for name in ("asked_first_rate", "control_first_rate", "false_fail_rate"))
    lines = []
    if own is not None and control is not None and rate is not None:
        (first, n), others = _counts(own), _counts(control)
        p = fisher(first, n, *others)
        if 2 * first > n and p <= float(rate["value"]) / (2 * max(1, len(scores.by_family("cut")))):
            lines.append(
                f"Most training people are told by asking for their label map: the images of {first:,} of {n:,} are "
                f"nearer to them than to any other training person, outside the labels; in the control, of "
                f"{_share(control)} held-out people (p = {p:.1g}, by person)."
            )
    low, limit = scores.low("asked_auc"), policy.max_membership_auc
    if low is None or low <= limit:
        return lines
    return [
        *lines,
        f"Whether a person was trained on can be told by asking for their label map, with an AUC of at least {low:.3f} "
        f"(chance: 0.5; tolerated: up to {limit:g}).",
    ]


def fisher(a: int, n: int, b: int, m: int) -> float:
    """Chance that of ``a + b`` people who come first among ``n + m``, at least ``a`` are of the ``n``; 0..1."""
    ways = sum(math.comb(n, k) * math.comb(m, a + b - k) for k in range(a, min(n, a + b) + 1))
    return ways / math.comb(n + m, a + b)


def missing(scores: AuditScores, policy: Policy) -> list[str]:
    """What is not known for want of a control, or of people to take a cut from."""
    if not scores.count("n_asked"):
        return []
    lines = []
    own, people = scores.get("asked_first_rate"), (scores.get("n_train") or {}).get("n")
    low = None if own is None else own.get("low")
    if scores.get("control_first_rate") is None and low is not None and people and float(low) > 1 / people:
        lines.append(
            f"The images of {_share(own or {})} people asked for are nearer to them than to any other training person, "
            "outside the labels: more than chance. Whether label maps say as much of anybody, or these people come "
            f"back, a control tells. {CONTROL}"
        )
    if scores.by_family("cut").get(FAMILY) == 0:
        lines.append(
            "How near comes somebody who does not come back cannot be told: people here are too few, or differ too "
            f"much, for a cut above 0 of the family {FAMILY}. Label maps of more people would help, in the control too."
        )
    if policy.max_membership_auc < 1 and scores.low("asked_auc") is None:
        lines.append(
            "The policy limits membership attacks (max_membership_auc), and how well training people are told from "
            "others by their label maps is not known, or has no interval: that takes a control of enough people. "
            f"{CONTROL}"
        )
    return lines


def open_questions(scores: AuditScores) -> list[str]:
    """What was not tried."""
    asked, train = scores.get("n_asked"), scores.get("n_train")
    if not asked or not asked["value"]:
        return [
            "That no patient comes back whose label map a generator is asked for: no image here was asked for with one "
            "of a training person. Where the generator can be asked, `synthkit generate RUN --labels REAL` makes such "
            "images, and an audit of them tells."
        ]
    n, of = asked.get("n"), (train or {}).get("n")
    lines = []
    if n and of and n < of:
        tried = f"{n:,} of {of:,} training people were asked for"
        lines.append(f"That nobody else comes back for their label map: {tried}.")
    lines.append(
        "That nobody comes back moved, turned, mirrored or bent away from their label map: with whom it was asked for, "
        "an image is compared in place alone."
    )
    if not scores.count("n_control"):
        lines.append(
            "That nobody comes back faintly, or by what is inside their label map: how near this generator comes to "
            f"people whom it has never seen, when asked for their label maps, is not known. {CONTROL}"
        )
    return lines


def _people(number: float | None, side: str) -> str:
    return f"{number:,.0f} {side} {'person' if number == 1 else 'people'}" if number else f"{side} people"
