"""What an audit says of images that were asked for with label maps of training people: does somebody come back?

Label maps, and where a tumour lies, agree by request, so these sentences rest on what images show elsewhere: on the
family ``asked`` of :mod:`synthkit.judging.audit_scores`, and on who comes first, beside a control of held-out people.
"""

from __future__ import annotations

from synthkit.judging.audit_scores import AuditScores
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


def _share(score: object) -> str:
    assert isinstance(score, dict)
    n = int(score["n"])
    return f"{round(float(score['value']) * n):,} of {n:,}"


def told_apart(scores: AuditScores, policy: Policy) -> list[str]:
    """That training people are told from held-out ones by label map, better than the policy tolerates."""
    low, limit = scores.low("asked_auc"), policy.max_membership_auc
    if low is None or low <= limit:
        return []
    return [
        f"Whether a person was trained on can be told by asking for their label map, with an AUC of at least {low:.3f} "
        f"(chance: 0.5; tolerated: up to {limit:g})."
    ]


def missing(scores: AuditScores, policy: Policy) -> list[str]:
    """That the policy limits membership attacks, and the one by label map was not made for want of a control."""
    if policy.max_membership_auc >= 1 or not scores.count("n_asked") or scores.low("asked_auc") is not None:
        return []
    return [
        "The policy limits membership attacks (max_membership_auc), and how well training people are told from others "
        f"by their label maps is not known, or has no interval: that takes a control of enough people. {CONTROL}"
    ]


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
