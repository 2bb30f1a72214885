"""What an audit says to a data-protection reader: singling out, linkability and inference, one by one.

These are the three risks by which the Article 29 Working Party judges anonymisation (Opinion 05/2014 on anonymisation
techniques, WP 216); data for which all three are excluded is taken as anonymous, and for all else the opinion asks
for an analysis of the risk of identification. The sentences here are material for that analysis and not its result:
whether a dataset is anonymous is a decision of law.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from synthkit.judging.audit_scores import AuditScores, ScoreDict, planted_name, with_interval


def data_protection(
    scores: Iterable[ScoreDict], verdict: Mapping[str, Any], labels_of: str = ""
) -> list[dict[str, Any]]:
    """The three criteria in plain words.

    Parameters
    ----------
    scores, verdict : of the ``result.json`` of an audit.
    labels_of : whose label maps the samples were asked to have, see :func:`synthkit.data.lineage.whose_labels`.

    Returns
    -------
    For singling out, linkability and inference, in this order, a dictionary: ``criterion``, ``meaning`` (what it is
    here), ``measured`` (list of sentences with numbers and intervals), ``conclusion``, ``open`` (what is not covered).
    """
    found = AuditScores(scores)
    outcome = str(verdict.get("outcome", ""))
    lent = _LENT.get(labels_of, "") or str(verdict.get("label_maps") or "")
    sections = [_singling_out(found, outcome, bool(lent)), _linkability(found, bool(lent)), _inference(found)]
    if lent:
        for section in sections[:2]:
            section["measured"] = [lent, *section["measured"]]
            section["conclusion"] = f"{_BY_LABELS} {section['conclusion']}"
    return sections


_ALONE = " among the images, their label maps left out"
_BY_LABELS = "The risk is not excluded: by its label map, a sample can show a patient."
#: What holds before all measures where samples have label maps that were given.
_LENT = {
    "patients": "The label maps of these samples are those of patients, byte for byte, as was asked for: who holds the "
    "label map of one of them finds it here. What follows was measured on images.",
    "masks": "The label maps of these samples are masks that were given, byte for byte, and nobody knows whose: who "
    "holds one of them finds it here. What follows was measured on images.",
}


def _singling_out(found: AuditScores, outcome: str, lent: bool) -> dict[str, Any]:
    measured = []
    copies, searched = found.get("n_copies"), found.get("n_synthetic")
    if copies is not None and searched is not None:
        rate = found.get("copied_rate")
        share = f" ({_share(rate)})" if rate is not None else ""
        measured.append(
            f"Of {_count(searched)} synthetic images{_blank(found)}, {_count(copies)}{share} are nearer to a training "
            "person than chance allows (copies), and "
            f"{found.count('n_identical') or 0:,} are identical to a training image, up to brightness and contrast."
        )
    of_others = found.get("n_holdout_copies")
    if of_others is not None:
        measured.append(f"{_count(of_others)} are nearer to a held-out person than chance allows.")
    for by_features in found.each("n_feature_flagged", "features"):
        measured.append(f"{_count(by_features)} images stand out by the features of a network; these are no copies.")
    authentic = found.get("authenticity")
    if authentic is not None:
        measured.append(
            f"{_share(authentic)} of the synthetic images are no closer to a training image than that "
            "image is to other training images (authenticity)."
        )
    if found.planted:
        recalls = "; ".join(f"{planted_name(score)} {with_interval(score)}" for score in found.planted)
        measured.append(f"Of copies planted among the images to test the audit itself, it found: {recalls}.")
    none = f"no copies{_ALONE}" if lent else "no image that isolates the record of a patient"
    conclusions = {
        "pass": f"The audit found {none}, beyond what the policy tolerates. "
        "That is evidence as far as planted copies were found, and up to the upper bounds above.",
        "fail": "Images may show a training patient's own scan, or more can be told from them than the policy "
        "allows. The risk is not excluded: do not release these images as they are.",
    }
    return {
        "criterion": "Singling out",
        "meaning": "Whether a record that belongs to one person can be isolated. Here: whether a synthetic image "
        "reproduces a scan, a label map or a tumour of one patient.",
        "measured": measured or ["Nothing."],
        "conclusion": conclusions.get(outcome, "The audit has too little evidence for a conclusion."),
        "open": "Copies that were changed in ways, or more strongly, than the audit finds; a rare trait (an unusual "
        "tumour, say) that is shown in an image which is otherwise no copy.",
    }


def _linkability(found: AuditScores, lent: bool) -> dict[str, Any]:
    measured = []
    copied, train = found.get("n_copied_subjects"), (found.get("n_train") or {}).get("n")
    if copied is not None:
        among = f" of {train:,}" if train else ""
        measured.append(f"Copies{_ALONE + ',' if lent else ''} show {_count(copied)}{among} training patients.")
    attack = found.get("membership_auc")
    if attack is not None:
        measured.append(_membership(attack))
    if attack is None:
        conclusion = "Linking a person's scan with the synthetic images was not tried, so nothing is concluded."
    elif _tells(attack):
        conclusion = (
            "Who holds a person's scan can tell better than by guessing whether that person was in the training set. "
            "The risk is not excluded; how much it weighs depends on who can hold such scans."
        )
    elif attack.get("low") is None:
        conclusion = "How well the attack does is not known: its AUC has no interval, since there are too few people."
    else:
        conclusion = "The attack was not shown to do better than guessing. Its interval says how much it could."
    if (copied is not None and copied["value"]) or found.count("n_holdout_copies"):
        conclusion = "Copies can be linked with the scans of the patients whom they show. " + conclusion
    return {
        "criterion": "Linkability",
        "meaning": "Whether two records can be linked as those of one person. Here: whether somebody who holds a scan "
        "of a person can link it with the synthetic images.",
        "measured": measured or ["Nothing."],
        "conclusion": conclusion,
        "open": "Attacks that know the generator (its weights, or images made on demand), or that use several scans "
        "of one person or other records beside the image.",
    }


def _inference(found: AuditScores) -> dict[str, Any]:
    measured = []
    attack, closer, nearer, c_t = map(found.get, ("membership_auc", "closer_to_train", "closer_than_holdout", "c_t"))
    if attack is not None:
        measured.append(_membership(attack) + " Membership may itself tell of a diagnosis.")
    if closer is not None:
        measured.append(
            f"{_share(closer)} of the synthetic images are closer to training than to as many held-out images; "
            "50% would be if they told as much of other patients as of training patients."
        )
    if nearer is not None:
        measured.append(
            f"A synthetic image is nearer to training images than a held-out image is with a probability of "
            f"{_share(nearer)}; 50% without memorization."
        )
    if c_t is not None:
        measured.append(
            f"Data-copying test C_T: {c_t['value']:.2f}; far below 0 if synthetic images lie closer to training images "
            "than held-out images do."
        )
    above = [
        "membership" if attack is not None and _tells(attack) else "",
        "closeness to the training images"
        if any(score is not None and float(score.get("low") or 0) > 0.5 for score in (closer, nearer))
        else "",
    ]
    excess = " and ".join(filter(None, above))
    bounded = any(score is not None and score.get("low") is not None for score in (attack, closer, nearer))
    told = (
        f"The synthetic images tell more about training patients than about others, by {excess}. "
        if excess
        else "That the synthetic images tell more about training patients than about others was not shown. "
        if bounded
        else f"Whether the synthetic images tell more about training patients than about others cannot be told with "
        f"{_people(found)}: no measure has an interval. "
        if measured
        else ""
    )
    return {
        "criterion": "Inference",
        "meaning": "Whether an attribute of a person can be deduced with significant probability. Here: what the "
        "synthetic images tell about training patients beyond what they tell about any patient.",
        "measured": measured or ["Nothing."],
        "conclusion": told
        + "No attack that infers an attribute (age, sex, outcome) was made: the risk is not excluded.",
        "open": "Attributes of persons; what can be learned about a group to which a person is known to belong.",
    }


def _people(found: AuditScores) -> str:
    """ "10 training and 4 held-out people", as far as they were counted."""
    counted = {"training": found.get("n_train"), "held-out": found.get("n_holdout")}
    people = [f"{score['n']:,} {what}" for what, score in counted.items() if score is not None and score.get("n")]
    return f"{' and '.join(people)} people" if people else "so few people"


def _membership(attack: ScoreDict) -> str:
    return (
        "Whether a person was in the training set can be told, by who holds a scan of that person, with an AUC of "
        f"{attack['value']:.3f}{_bounds(attack, '.3f')}; "
        "0.5 is guessing, 1 is certainty, and 0 is certainty the other way round."
    )


def _tells(attack: ScoreDict) -> bool:
    """Whether the attack does better than guessing, in either direction."""
    low, high = attack.get("low"), attack.get("high")
    return bool((low is not None and low > 0.5) or (high is not None and high < 0.5))


def _blank(found: AuditScores) -> str:
    blank = found.count("n_blank")
    return f" ({blank:,} of them blank, which are in no share)" if blank else ""


def _count(score: ScoreDict) -> str:
    return f"{score['value']:,.0f}"


def _share(score: ScoreDict) -> str:
    return f"{score['value']:.2%}{_bounds(score, '.2%')}"


def _bounds(score: ScoreDict, format: str) -> str:
    low, high = score.get("low"), score.get("high")
    return "" if low is None or high is None else f" (95% interval {low:{format}} to {high:{format}})"
