"""The numbers of an audit, as declared: each with its interval, its baseline and what it was computed from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from synthkit import Score
from synthkit.judging.intervals import clopper_pearson
from synthkit_memorization.audit import Audit
from synthkit_memorization.estimate import Estimate, distance
from synthkit_memorization.numbers import authenticity, closeness
from synthkit_memorization.numbers.duplicates import near_duplicates, share_of_real
from synthkit_memorization.numbers.membership import membership_auc
from synthkit_memorization.search.pixels import Float64

TAILS = (0.9, 0.99, 0.999)

#: Cells of C_T: at most so many, and held-out images that each should have.
MOST_CELLS, IMAGES_A_CELL = 20, 50

#: Quantile of the null above which two synthetic images are near-duplicates.
NEAR = 0.99

#: r of identical images is exactly 1; images equal up to brightness and contrast may miss it by rounding.
IDENTICAL = 1.0 - 1e-12

NO_NULL = "no null: nothing to compare with"
ALL_BLANK = "all images are blank"
NO_HOLDOUT = "no held-out images to compare with"
NOBODY_ASKED = "no image was asked for with the label map of a training person"
NO_CONTROL = "no control: no images that were asked for with label maps of enough held-out people"


def scores(audit: Audit) -> Iterator[Score]:
    """All but the power test and the search by features."""
    yield from _sizes(audit)
    yield from _copies(audit)
    yield from _by_family(audit)
    yield from _asked(audit)
    yield from _by_column(audit)
    yield from _nearness(audit)
    yield from _ratios(audit)
    yield from _authenticity(audit)
    yield from _membership(audit)
    yield from _near_duplicates(audit)


def undefined(note: str, *names: str) -> Iterator[Score]:
    """These scores cannot be had, and why."""
    for name in names:
        yield Score(name=name, value=None, note=note)


def _sizes(audit: Audit) -> Iterator[Score]:
    n, holdout = len(audit.synthetic), audit.holdout
    yield Score(name="n_synthetic", value=n, n=n)
    yield Score(name="n_blank", value=int((~audit.counted).sum()), n=n)
    yield Score(name="n_train", value=len(audit.train.samples), n=audit.train.n)
    n_holdout, n_people = (0, 0) if holdout is None else (len(holdout.samples), holdout.n)
    yield Score(name="n_holdout", value=n_holdout, n=n_people)
    yield Score(name="n_holdout_twins", value=len(audit.twins), n=n_people + len(audit.twins))
    people = audit.n_null_people
    note = "training and held-out people" if holdout is not None else "training people, compared with each other"
    yield Score(name="n_null_subjects", value=people or None, note=note if people else NO_NULL)
    note = "shared equally by the families that see training people, and by the sides"
    yield Score(name="false_fail_rate", value=audit.params.false_fail_rate, n=people, note=note)


def _copies(audit: Audit) -> Iterator[Score]:
    n = int(audit.counted.sum())
    yield from _copy_scores({}, audit.copies if audit.has_null else None, n)
    missing = "" if audit.has_null else NO_NULL
    copied = len(audit.copied("train")) if audit.has_null else None
    yield Score(name="n_copied_subjects", value=copied, n=audit.train.n, note=missing)
    yield Score(name="n_identical", value=int((audit.nearest.r[:, 0] >= IDENTICAL).sum()), n=n)
    names = ("n_holdout_copies", "n_copied_holdout_subjects")
    if audit.holdout is None or audit.side("picture", "holdout") is None:
        yield from undefined(NO_HOLDOUT, *names)
        return
    people = audit.copied("holdout")
    yield Score(name=names[0], value=len(set().union(*people.values())), n=n)
    yield Score(name=names[1], value=len(people), n=audit.holdout.n)


def _copy_scores(of: dict[str, str], copies: NDArray[np.bool_] | None, n: int) -> Iterator[Score]:
    """Count and share of the copies among n images, with the exact interval."""
    if copies is None:
        yield Score(name="n_copies", value=None, of=of, n=n, note=NO_NULL)
        yield Score(name="copied_rate", value=None, of=of, n=n, note=NO_NULL)
        return
    count = int(copies.sum())
    if n == 0:
        yield Score(name="n_copies", value=count, of=of, n=n, note=ALL_BLANK)
        yield Score(name="copied_rate", value=None, of=of, n=n, note=ALL_BLANK)
        return
    low, high = clopper_pearson(count, n)
    bound = f"none of {n}: at most {high:.3%} of what the generator makes (95 %)" if count == 0 else ""
    yield Score(name="n_copies", value=count, of=of, n=n, note=bound)
    yield Score(name="copied_rate", value=count / n, of=of, low=low, high=high, n=n, note=bound)


def _by_family(audit: Audit) -> Iterator[Score]:
    """What a family calls a copy, and how near to it images and people come."""
    for each in audit.judgements:
        of, n = {"family": each.family.name}, len(each.rows)
        train, holdout = each.sides.get("train"), each.sides.get("holdout")
        if train is None:
            yield from (Score(name=name, value=None, of=of, note=NO_NULL) for name in ("n_copies", "cut"))
            continue
        yield Score(name="n_copies", value=int(train.copy.any(axis=1).sum()), of=of, n=n)
        people = f"{train.rule.n_people} people"
        yield Score(name="cut", value=train.cut, of=of, n=train.rule.n_people, note=f"by {people}, for {n} images")
        yield Score(name="likeness", value=train.likeness, of=of, n=n)
        if holdout is not None:
            yield Score(name="likeness", value=holdout.likeness, of={**of, "side": "holdout"}, n=n)
        yield Score(name="least_margin", value=_finite(train.least.min()), of=of, n=n)
        if holdout is not None:
            opposite = {**of, "side": "holdout"}
            yield Score(name="cut", value=holdout.cut, of=opposite, n=holdout.rule.n_people)
            yield Score(name="least_margin", value=_finite(holdout.least.min()), of=opposite, n=n)
        for quantile in (0.0, 0.5):
            value = float(np.nanquantile(train.rule.people, quantile))
            yield Score(name="null_margin", value=value, of={**of, "quantile": f"{quantile:g}"}, n=train.rule.n_people)


def _asked(audit: Audit) -> Iterator[Score]:
    """Whether training people come back for their label maps, and how near the generator comes to others for theirs."""
    leak, names = audit.leak, ("n_control", "control_first_rate", "asked_auc")
    if leak is None:
        yield Score(name="n_asked", value=0, n=0)
        yield from undefined(NOBODY_ASKED, "n_returned", "asked_first_rate", *names)
        return
    yield Score(name="n_asked", value=len(leak.own), n=leak.n_people)
    returned = leak.n_returned
    yield Score(name="n_returned", value=returned, n=leak.n_people, note="" if returned is not None else NO_NULL)
    yield _score("asked_first_rate", leak.first.share)
    if leak.control is None:
        yield from undefined(NO_CONTROL, *names)
        return
    yield Score(name="n_control", value=leak.control.n_images, n=leak.control.n_people)
    yield _score("control_first_rate", leak.control.first.share)
    yield _score("asked_auc", leak.control.auc)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _by_column(audit: Audit) -> Iterator[Score]:
    """What each view and rule found, and what real images of other people find beside it."""
    described, start = audit.described, 0
    for each in audit.judgements:
        train = each.sides.get("train")
        for position, (view, rule) in enumerate(each.family.columns):
            c, of = start + position, {"contrast": view, "rule": rule}
            yield from _copy_scores(of, audit.copy[:, c] if train is not None else None, int(audit.counted.sum()))
            r = audit.r[described, c]
            if (r := r[~np.isnan(r)]).size:
                yield _median_score(r, of)
                yield from _tail("best_r_quantile", r, of, len(r))
            if train is None:
                yield Score(name="threshold", value=None, of=of, note=NO_NULL)
                continue
            n = train.rule.n_people
            yield Score(name="threshold", value=float(train.thresholds[position]), of=of, n=n)
            null_r = audit.null_r[:, c, 0]
            if (null_r := null_r[~np.isnan(null_r)]).size:
                yield Score(name="null_median", value=float(np.median(null_r)), of=of, n=audit.null.n)
                yield Score(name="null_max", value=float(null_r.max()), of=of, n=audit.null.n)
                yield from _tail("null_quantile", null_r, of, audit.null.n)
        start += len(each.family.columns)


def _tail(name: str, r: Float64, of: dict[str, str], n: int | None) -> Iterator[Score]:
    for tail in TAILS:
        yield Score(name=name, value=float(np.quantile(r, tail)), of={**of, "quantile": f"{tail:g}"}, n=n)


def _median_score(r: Float64, of: dict[str, str]) -> Score:
    return _score("best_r_median", authenticity.quantile_estimate(r.astype(np.float64), 0.5), **of)


# ------------------------------------------------------------------------------------------ beside held-out images


def _nearness(audit: Audit) -> Iterator[Score]:
    """Nearer to training than to held-out images; nearer to training images than held-out images are."""
    names = ("closer_to_train", "closer_than_holdout", "c_t")
    null_r = audit.null_r[:, audit.primary, 0]
    if audit.halves is None or audit.holdout is None or np.isnan(null_r).all():
        yield from undefined(NO_HOLDOUT, *names)
        return
    params, (own, held, size), described = audit.params, audit.halves, audit.described
    yield _score(
        "closer_to_train", closeness.closer_to_train(own[described], held[described]), f"{size} images of each"
    )
    r, shown = audit.nearest.r[described, 0], ~np.isnan(null_r)
    person = audit.holdout.person[shown]
    nearer = closeness.closer_than_holdout(r, null_r[shown], person)
    yield _score("closer_than_holdout", nearer)
    train, synthetic, held_out = map(closeness.embedding, (audit.train.images, audit.synthetic, audit.holdout.images))
    n_cells = max(1, min(MOST_CELLS, len(person) // IMAGES_A_CELL))
    distances = distance(r), distance(null_r[shown])
    cells = closeness.cells(train, (synthetic[described], held_out[shown]), n_cells, params.seed)
    yield _score("c_t", closeness.c_t(*distances, *cells))


def _score(name: str, found: Estimate, note: str = "", **of: str) -> Score:
    notes = "; ".join(filter(None, (note, found.note)))
    return Score(name=name, value=found.value, of=of, low=found.low, high=found.high, n=found.n, note=notes)


def _ratios(audit: Audit) -> Iterator[Score]:
    """Distance to the best match over that to the best match of another patient."""
    names = ("distance_ratio", "null_distance_ratio", "low_ratio_rate")
    c = audit.primary
    found = audit.nearest.r
    null_r = audit.null_r[:, c, :2]
    known = ~np.isnan(null_r).any(axis=1)
    if audit.holdout is None or np.isnan(found).any() or not known.any():
        yield from undefined(NO_HOLDOUT if audit.holdout is None else "there is one training patient", *names)
        return
    described = audit.described
    summary = authenticity.summarise_ratios(
        authenticity.distance_ratio(found[described, 0], found[described, 1]),
        authenticity.distance_ratio(null_r[known, 0], null_r[known, 1]),
        audit.holdout.person[known],
    )
    yield _score(names[0], summary.low_quantile, quantile="0.05")
    yield _score(names[0], summary.median, quantile="0.5")
    yield _score(names[1], summary.null_low_quantile, quantile="0.05")
    yield _score(names[1], summary.null_median, quantile="0.5")
    yield _score(names[2], summary.below_null)


def _authenticity(audit: Audit) -> Iterator[Score]:
    described = audit.described
    for name, train_r, alone in (
        ("authenticity", audit.train_other, "there is one training image"),
        ("authenticity_other_patients", audit.train_other_patient, "the training images are of one patient"),
    ):
        if train_r is None or np.isnan(train_r).any():
            yield from undefined(alone, name)
            continue
        kept = authenticity.authentic(audit.nearest.r[described, 0], audit.nearest.index[described, 0], train_r)
        low, high = clopper_pearson(int(kept.sum()), len(kept))
        yield Score(name=name, value=float(kept.mean()), low=low, high=high, n=len(kept))


def _membership(audit: Audit) -> Iterator[Score]:
    if audit.train_seen is None or audit.holdout_seen is None or audit.holdout is None:
        yield from undefined(NO_HOLDOUT, "membership_auc")
        return
    seen = (audit.train_seen, audit.train.person, audit.holdout_seen, audit.holdout.person)
    yield _score("membership_auc", membership_auc(*seen))


def _near_duplicates(audit: Audit) -> Iterator[Score]:
    """Against the line that one in a hundred unrelated real images reaches."""
    names = ("n_near_duplicates", "near_duplicate_rate", "near_duplicate_baseline", "n_distinct")
    null_r = audit.null_r[:, audit.primary, 0]
    known = ~np.isnan(null_r)
    if audit.neighbours is None or not known.any():
        yield from undefined(NO_NULL, *names)
        return
    line = float(np.quantile(null_r[known], NEAR))
    found = near_duplicates(audit.neighbours, line)
    note = f"joint r of {line:.4f}, the null's {NEAR:.0%} quantile; the largest group has {found.largest} images"
    n = len(audit.synthetic)
    yield Score(name="n_near_duplicates", value=found.n_images, n=n, note=note)
    yield _score("near_duplicate_rate", found.across_halves)
    yield _score("near_duplicate_baseline", share_of_real(null_r[known], line))
    yield Score(name="n_distinct", value=found.n_groups, n=n)
