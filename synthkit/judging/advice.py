"""What is missing for a conclusion, and what would help: more people held out, more images, or more planted copies.

Each sentence says what is too little, with numbers, and one remedy, with how much of it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from synthkit.judging.audit_scores import AuditScores, ScoreDict, planted_name, with_interval
from synthkit.judging.intervals import FEW_SUBJECTS, MIN_PATIENTS
from synthkit.judging.policy import Policy

# Holding out some of those that a generator has learned from would hide its copies.
HOLD_OUT = (
    "Give real subjects that the generator was never trained on (--holdout DATASET), or train it again with some held "
    "out (synthkit prepare --holdout)."
)


def few_images(n: int, blank: int, policy: Policy) -> str:
    """That fewer images count as searched than the policy asks for."""
    blanks = f" besides {blank} blank ones, which do not count" if blank else ""
    wanted = policy.min_synthetic - n
    more = f"Audit at least {wanted} more" + (" that are not blank." if blank else ".")
    images = "1 synthetic image was" if n == 1 else f"{n or 'No'} synthetic image{'s were' if n else ' was'}"
    return f"{images} searched{blanks}; the policy asks for {policy.min_synthetic} (min_synthetic). {more}"


def null(scores: AuditScores, policy: Policy) -> list[str]:
    """Why there is no cut, or why it says too little: no people, too few, or none outside the training set."""
    subjects, likeness = scores.count("n_null_subjects"), scores.by_family("likeness").get("picture")
    lines = []
    if not subjects:
        why = "no real person whose images could be compared with those of others"
        lines.append(f"How near chance comes is not known: there is {why}. {HOLD_OUT}")
    elif scores.count("n_copies") is None:
        lines.append("The copies were not counted.")
    elif subjects < policy.min_null_subjects:
        people = "1 real person" if subjects == 1 else f"{subjects} real people"
        lines.append(
            f"The cut rests on {people}, training and held-out together; the policy asks for "
            f"{policy.min_null_subjects} (min_null_subjects). At least {policy.min_null_subjects - subjects} more held "
            f"out would do. {HOLD_OUT}"
        )
    if scores.count("n_holdout"):
        return lines
    if policy.require_holdout:
        lines.append(f"The policy asks for held-out people (require_holdout) and there are none. {HOLD_OUT}")
    if likeness is not None and likeness < policy.min_likeness:
        lines.append(
            f"These images come nearer to every training person than real images do (likeness {likeness:.2f}; the "
            f"policy asks for {policy.min_likeness:.2f}, min_likeness). Whether a smooth generator or a mass of weak "
            "copies does that, only people outside the training set can tell, and nobody is held out. At least "
            f"{max(1, policy.min_null_subjects)} would do, {FEW_SUBJECTS} are better. {HOLD_OUT}"
        )
    return lines


def label_maps(lent: Mapping[str, Any] | None) -> str:
    """Whose label maps the images have by request, and what is not said of these; empty where they have none such."""
    if not lent:
        return ""
    n = lent.get("n_people")
    people = "1 real person" if n == 1 else f"{n:,} real people" if n else "real people"
    whose = people if lent.get("whose") == "people" else "nobody knows whom"
    return (
        f"The label maps of these images are those of {whose}, by request: what is said of copies here speaks of the "
        "images alone."
    )


def lent_label_maps(told: str) -> str:
    """The same where the policy does not allow it, and what would help."""
    return (
        f"{told} The policy allows no such label maps (allow_lent_label_maps). Ask for those of phantoms or of "
        "generated samples instead (generate --labels), or allow these by a policy: allow_lent_label_maps = true."
    )


def membership(scores: AuditScores) -> str:
    """That the membership attack was not made, or says too little for want of people."""
    wanted = "The policy limits the membership attack (max_membership_auc)"
    if scores.get("membership_auc") is None:
        return f"{wanted}, and it was not made: it needs held-out people. {HOLD_OUT}"
    return (
        f"{wanted}, and its AUC has no interval: that takes {MIN_PATIENTS} training people and as many held-out ones. "
        f"{HOLD_OUT}"
    )


def power(score: ScoreDict, scores: AuditScores, policy: Policy) -> str:
    """That too few planted copies were found, and what would help: more of them, more people, or nothing of both."""
    found = (
        f"Of planted copies ({planted_name(score)}) the audit found {with_interval(score)}; the policy asks for a "
        f"lower bound of {policy.min_power:.0%} (min_power)."
    )
    share, subjects = float(score["value"]), scores.count("n_null_subjects") or 0
    if share == 1 and policy.min_power < 1:
        wanted = math.ceil(math.log(0.05) / math.log(policy.min_power))
        more = f"{wanted} found of {wanted} would do (for memorization -p plants={max(60, wanted)})"
        return f"{found} Plant more: {more}."
    if 0 < subjects < FEW_SUBJECTS:
        return (
            f"{found} The cut rests on {subjects} real people; with more held out, {FEW_SUBJECTS} in all, it can be "
            f"higher and find more. {HOLD_OUT}"
        )
    if policy.min_power <= share < 1:
        return f"{found} Planting more narrows that interval, and may not raise it enough."
    return f"{found} More people or images would hardly help: changed so, copies come no nearer than chance does."
