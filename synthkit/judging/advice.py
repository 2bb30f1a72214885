"""What is missing for a conclusion, and what would help: more people held out, more images, or more planted copies.

Each sentence says what is too little, with numbers, and one remedy, with how much of it is needed. That number is an
estimate: a false-flag rate from maxima falls like one over the number of people, or of images, that it rests on.
"""

from __future__ import annotations

import math

from synthkit.judging.audit_scores import AuditScores, ScoreDict
from synthkit.judging.policy import Policy

#: Images from which on the control tells what more images would not change.
_RELIABLE = 1000

# Holding out some of those that a generator has learned from would hide its copies.
HOLD_OUT = (
    "Give real subjects that the generator was never trained on (--holdout DATASET), or train it again with some held "
    "out (synthkit prepare --holdout)."
)
_NEVER_TRAINED_ON = (
    "They must be subjects that the generator was never trained on: give them by --holdout DATASET, or train it again."
)


def few_images(n: int, blank: int, policy: Policy) -> str:
    """That fewer images count as searched than the policy asks for."""
    blanks = f" besides {blank} blank ones, which do not count" if blank else ""
    wanted = policy.min_synthetic - n
    more = f"Audit at least {wanted} more" + (" that are not blank." if blank else ".")
    images = "1 synthetic image was" if n == 1 else f"{n or 'No'} synthetic image{'s were' if n else ' was'}"
    return f"{images} searched{blanks}; the policy asks for {policy.min_synthetic} (min_synthetic). {more}"


def null(scores: AuditScores, policy: Policy) -> list[str]:
    """Why the thresholds say too little, if they do: no people, too few people, or too few images."""
    subjects, explained = scores.count("n_null_subjects"), scores.value("explained_flag_rate")
    if not subjects or scores.count("n_flagged") is None:
        why = "no real subject whose images could be compared with those of other subjects in the training set"
        return [f"There is no valid null: {why}, so no threshold. {HOLD_OUT}"]
    wanted = max(2, policy.min_null_subjects)
    if explained is None:
        return [
            "The thresholds rest on one real subject; how often others exceed them is unknown. "
            f"Give more: at least {wanted}, better 20. {_NEVER_TRAINED_ON}"
        ]
    if subjects < policy.min_null_subjects:
        asked = f"the policy asks for {policy.min_null_subjects} (min_null_subjects)"
        more = policy.min_null_subjects - subjects
        rest = f"The thresholds rest on {subjects} real subject{'s' * (subjects != 1)}; {asked}."
        return [f"{rest} Give {more} more. {_NEVER_TRAINED_ON}"]
    if explained <= policy.max_explained_rate:
        return []
    return [_uncertain(scores, policy, subjects, explained)]


def _uncertain(scores: AuditScores, policy: Policy, subjects: int, explained: float) -> str:
    """That too many flags would be excused; by what, and so what would help."""
    limit, n = policy.max_explained_rate, scores.n_searched
    what = (
        f"Without memorization, {explained:.1%} of the images could be flagged, more than {limit:.0%} "
        "(max_explained_rate): the thresholds are too uncertain."
    )
    by_people, by_images = scores.value("null_flag_rate"), scores.value("control_flag_rate")
    floor = (scores.value("control_floor") or 0.0) if n >= _RELIABLE else 0.0
    people = []
    if by_people is not None and by_people > limit:
        people.append(_enough(subjects, by_people, limit))
    if by_images is not None and floor > limit:
        people.append(_enough(subjects, floor, limit))
    who = (
        f"more real subjects: {subjects}"
        if scores.count("n_holdout")
        else f"real subjects outside the training set: {subjects} in it"
    )
    parts = [f"give {who} are too few, try {max(people)}"] if people else []
    if by_images is not None and by_images > limit:
        # The more are held out, the fewer times as large the training set is: the rest falls with their number, too.
        fewer = subjects / max(people) if people else 1.0
        rest = (by_images - floor) * fewer
        room = max(limit - floor * fewer, limit / 2)
        if rest > room:
            parts.append(f"audit more images: {n} are too few, try {_enough(n, rest, room)}")
    if not parts:  # an audit that does not tell what its rate rests on
        return f"{what} Give more real subjects (the thresholds rest on {subjects}). {_NEVER_TRAINED_ON}"
    helps = f"{what} What would help: {'; and '.join(parts)}."
    return f"{helps} {_NEVER_TRAINED_ON}" if people else helps


def _enough(now: int, rate: float, limit: float) -> int:
    """How many it takes for the limit, with half as many again for safety; two digits, rounded up."""
    wanted = math.ceil(1.5 * now * rate / max(limit, 1e-6))
    step = int(max(1, 10 ** (len(str(wanted)) - 2)))
    return max(now + 1, -(-wanted // step) * step)


def power(score: ScoreDict, policy: Policy) -> str:
    """What would help where too few planted copies were found: more of them, if nearly all were found."""
    if not 0 < policy.min_power < 1 or float(score["value"]) < policy.min_power:
        return "Planting more does not help: changed so, copies stay below the thresholds."
    if float(score["value"]) < 1:
        return "Planting more narrows that interval, and may not raise it enough."
    wanted = math.ceil(math.log(0.05) / math.log(policy.min_power))
    return f"Plant more: {wanted} found of {wanted} would do (for memorization -p plants={max(60, wanted)})."
