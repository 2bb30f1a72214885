"""The numbers of an audit, as declared: each with its interval, its baseline and what it was computed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

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

_CONTROL = ("control_flag_rate", "control_floor")

NO_NULL = "no null: nothing to compare with"
ONLY_FLAGGED = "only matches above the thresholds were asked for (only_flagged)"
ALL_BLANK = "all images are blank"
NO_HOLDOUT = "no held-out images to compare with"


def scores(audit: Audit) -> Iterator[Score]:
    """All but the power test and the search by features."""
    yield from _sizes(audit)
    yield from _flags(audit)
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
    n_holdout = 0 if audit.holdout is None else len(audit.holdout)
    n_subjects = None if audit.null is None else audit.null.n_subjects
    yield Score(name="n_synthetic", value=len(audit.synthetic), n=len(audit.synthetic))
    yield Score(name="n_blank", value=int((~audit.counted).sum()), n=len(audit.synthetic))
    yield Score(name="n_train", value=len(audit.train), n=_count(audit.train_patient))
    yield Score(name="n_holdout", value=n_holdout, n=_count(audit.null_patient) if n_holdout else 0)
    n_null = 0 if audit.null is None else len(audit.null.r)
    yield Score(name="n_null", value=n_null, n=n_subjects or 0, note=audit.null_kind)
    yield Score(name="n_null_subjects", value=n_subjects, note="" if audit.null is not None else NO_NULL)
    rate, note = audit.params.false_flag_rate, f"shared equally by {len(audit.columns)} views and rules"
    if audit.null is None:
        yield Score(name="false_flag_rate", value=rate, note=note)
    else:
        note += f"; guaranteed on average for any real subjects: {audit.null.guaranteed_rate(rate):.2g}"
        high = max(rate, audit.null.rate_bound(rate))
        yield Score(name="false_flag_rate", value=rate, low=0.0, high=high, n=n_subjects, note=note)
    yield from _explained(audit)
    yield from _control(audit)
    yield _smoothness(audit)


def _explained(audit: Audit) -> Iterator[Score]:
    """The larger of what the null and the control can vouch for, and what the null can."""
    names = ("explained_flag_rate", "null_flag_rate")
    if audit.null is None:
        yield from undefined(NO_NULL, *names)
        return
    rate, n = audit.params.false_flag_rate, audit.null.n_subjects
    by_null = audit.null.explained_rate(rate)
    if by_null is None:
        note = "one null subject: its rate among subjects is unknown"
        yield from undefined(note, *names)
        return
    by_control = None if audit.control is None else audit.control.rate(rate)
    note = f"real images of unrelated subjects: {by_null:.2%}"
    if by_control is not None:
        note += f"; synthetic images among subjects that the generator never saw: {by_control:.2%}"
    yield Score(name=names[0], value=max(by_null, by_control or 0.0), n=n, note=note)
    yield Score(name=names[1], value=by_null, n=n)


def _control(audit: Audit) -> Iterator[Score]:
    """What the synthetic images among held-out ones can vouch for, and what more of them could."""
    control, rate = audit.control, audit.params.false_flag_rate
    if control is None or control.rate(rate) is None:
        yield from undefined(NO_HOLDOUT if control is None else "one held-out patient", *_CONTROL)
        return
    for name, value in zip(_CONTROL, (control.rate(rate), control.floor(rate)), strict=True):
        yield Score(name=name, value=value, n=int(control.counted.sum()))


def _smoothness(audit: Audit) -> Score:
    if audit.null is None or audit.null_plain is None:
        return Score(name="smoothness_gain", value=None, note=NO_NULL)
    c = audit.primary
    gain = float(np.median(audit.null.r[:, c]) - np.median(audit.null_plain.r[:, c]))
    note = ""
    if audit.null is audit.null_plain:
        by_control = "the control takes its place" if audit.holdout is not None else "not asked for"
        note = by_control if audit.holdout is not None or not audit.params.match_smoothness else "they are not smoother"
    return Score(name="smoothness_gain", value=gain, n=audit.null.n_subjects, note=note)


def _flags(audit: Audit) -> Iterator[Score]:
    n, missing = int(audit.counted.sum()), "" if audit.flagged is not None else NO_NULL
    yield from _flag_scores({}, None if audit.flagged is None else audit.flagged.any(axis=1), n)
    copies = None if audit.copies is None else int(audit.copies.sum())
    yield Score(name="n_copies", value=copies, n=n, note=missing)
    copied = None if audit.copies is None else _count(audit.train_patient[audit.copied[audit.copies]])
    yield Score(name="n_copied_subjects", value=copied, n=_count(audit.train_patient), note=missing)
    yield Score(name="n_identical", value=int((audit.found.r[:, audit.primary] >= IDENTICAL).sum()), n=n)
    note = "" if audit.control is not None else NO_HOLDOUT
    yield Score(name="n_holdout_copies", value=audit.n_holdout_copies, n=n, note=note)
    memorized = None if audit.flagged is None else len(_matched_patients(audit))
    yield Score(name="n_memorized_subjects", value=memorized, n=_count(audit.train_patient), note=missing)


def _matched_patients(audit: Audit) -> set[int]:
    return {int(audit.train_patient[i]) for i in audit.found.index[audit.flagged]}


def _by_column(audit: Audit) -> Iterator[Score]:
    """What each view and rule found, and the null beside it."""
    null, n, described = audit.null, int(audit.counted.sum()), audit.described
    n_subjects = None if null is None else null.n_subjects
    intervals = by_null = None
    if null is not None:
        intervals = null.intervals(audit.params.false_flag_rate, audit.params.resamples, audit.params.seed)
        by_null = null.thresholds(audit.params.false_flag_rate)
    for c, (view, rule) in enumerate(audit.columns):
        of = {"contrast": view, "rule": rule}
        yield from _flag_scores(of, None if audit.flagged is None else audit.flagged[:, c], n)
        if audit.params.only_flagged and audit.thresholds is not None:
            yield Score(name="best_r_median", value=None, of=of, note=ONLY_FLAGGED)
        else:
            yield _median_score(audit.found.r[described, c], of)
            yield from _tail("best_r_quantile", audit.found.r[described, c], of, n)
        if null is None or by_null is None or audit.thresholds is None:
            yield Score(name="threshold", value=None, of=of, note=NO_NULL)
            continue
        ends: list[tuple[float | None, float | None]] = [(None, None)] * 2
        if intervals is not None:
            ends = [(float(part[c][0]), float(part[c][1])) for part in intervals]
        note = "" if intervals is not None else "no interval: one null subject"
        threshold = float(audit.thresholds[c])
        if threshold > by_null[c]:
            ends[0], note = (None, None), "set by the control: synthetic images among held-out ones"
        for name, value, (low, high) in (
            ("threshold", threshold, ends[0]),
            ("null_median", float(np.median(null.r[:, c])), ends[1]),
        ):
            if low is not None and high is not None:  # resampled quantiles may just miss the value
                low, high = min(low, value), max(high, value)
            yield Score(name=name, value=value, of=of, low=low, high=high, n=n_subjects, note=note)
        yield Score(name="null_max", value=float(null.r[:, c].max()), of=of, n=n_subjects)
        yield from _tail("null_quantile", null.r[:, c], of, n_subjects)
        if audit.control is not None:
            yield Score(name="control_median", value=float(np.median(audit.control.r[described, c])), of=of, n=n)
            yield Score(name="control_max", value=float(audit.control.r[:, c].max()), of=of, n=n)


def _tail(name: str, r: Float64, of: dict[str, str], n: int | None) -> Iterator[Score]:
    for tail in TAILS:
        yield Score(name=name, value=float(np.quantile(r, tail)), of={**of, "quantile": f"{tail:g}"}, n=n)


def _median_score(r: Float64, of: dict[str, str]) -> Score:
    """Median with its distribution-free interval: order statistics at n/2 -+ 1.96 sqrt(n)/2."""
    n, ordered = len(r), np.sort(r)
    half = 1.96 * np.sqrt(n) / 2
    low, high = ordered[max(0, int(n / 2 - half) - 1)], ordered[min(n - 1, int(np.ceil(n / 2 + half)))]
    return Score(name="best_r_median", value=float(np.median(r)), of=of, low=float(low), high=float(high), n=n)


def _count(numbers: Any) -> int:
    return len(np.unique(numbers))


def _flag_scores(of: dict[str, str], flagged: Any, n: int) -> Iterator[Score]:
    """Count and share of the flagged among n, with the exact interval."""
    if flagged is None:
        yield Score(name="n_flagged", value=None, of=of, n=n, note=NO_NULL)
        yield Score(name="flagged_rate", value=None, of=of, n=n, note=NO_NULL)
        return
    count = int(flagged.sum())
    if n == 0:
        yield Score(name="n_flagged", value=count, of=of, n=n, note=ALL_BLANK)
        yield Score(name="flagged_rate", value=None, of=of, n=n, note=ALL_BLANK)
        return
    low, high = clopper_pearson(count, n)
    bound = f"0 of {n} flagged: at most {high:.3%} of what the generator makes (95 %)" if count == 0 else ""
    yield Score(name="n_flagged", value=count, of=of, n=n, note=bound)
    yield Score(name="flagged_rate", value=count / n, of=of, low=low, high=high, n=n, note=bound)


# ------------------------------------------------------------------------------------------ beside held-out images


def _nearness(audit: Audit) -> Iterator[Score]:
    """Nearer to training than to held-out images; nearer to training images than held-out images are."""
    names = ("closer_to_train", "closer_than_holdout", "c_t")
    if audit.halves is None or audit.holdout is None or audit.null_plain is None:
        yield from undefined(ONLY_FLAGGED if audit.params.only_flagged else NO_HOLDOUT, *names)
        return
    params, (own, held, size), described = audit.params, audit.halves, audit.described
    yield _score(
        "closer_to_train", closeness.closer_to_train(own.of(described), held.of(described)), f"{size} images of each"
    )
    r, null_r = audit.found.r[described, audit.primary], audit.null_plain.r[:, audit.primary]
    nearer = closeness.closer_than_holdout(r, null_r, audit.null_patient, params.resamples, params.seed)
    yield _score("closer_than_holdout", nearer)
    train, synthetic, held_out = map(closeness.embedding, (audit.train, audit.synthetic, audit.holdout))
    n_cells = max(1, min(MOST_CELLS, len(audit.holdout) // IMAGES_A_CELL))
    distances = distance(r), distance(null_r)
    yield _score(
        "c_t",
        closeness.c_t(*distances, *closeness.cells(train, (synthetic[described], held_out), n_cells, params.seed)),
    )


def _score(name: str, found: Estimate, note: str = "", **of: str) -> Score:
    notes = "; ".join(filter(None, (note, found.note)))
    return Score(name=name, value=found.value, of=of, low=found.low, high=found.high, n=found.n, note=notes)


def _ratios(audit: Audit) -> Iterator[Score]:
    """Distance to the best match over that to the best match of another patient."""
    names = ("distance_ratio", "null_distance_ratio", "low_ratio_rate")
    if audit.elsewhere is None or audit.null_elsewhere is None or audit.null_plain is None:
        yield from undefined(ONLY_FLAGGED if audit.params.only_flagged else NO_HOLDOUT, *names)
        return
    params, c, described = audit.params, audit.primary, audit.described
    found = authenticity.summarise_ratios(
        authenticity.distance_ratio(audit.found.r[described, c], audit.elsewhere[described]),
        authenticity.distance_ratio(audit.null_plain.r[:, c], audit.null_elsewhere),
        audit.null_patient,
        params.resamples,
        params.seed,
    )
    yield _score(names[0], found.low_quantile, quantile="0.05")
    yield _score(names[0], found.median, quantile="0.5")
    yield _score(names[1], found.null_low_quantile, quantile="0.05")
    yield _score(names[1], found.null_median, quantile="0.5")
    yield _score(names[2], found.below_null)


def _authenticity(audit: Audit) -> Iterator[Score]:
    c, described = audit.primary, audit.described
    for name, train_r, alone in (
        ("authenticity", audit.train_other, "there is one training image"),
        ("authenticity_other_patients", audit.train_other_patient, "the training images are of one patient"),
    ):
        if train_r is None or np.isnan(train_r).any():
            yield from undefined(ONLY_FLAGGED if train_r is None else alone, name)
            continue
        kept = authenticity.authentic(audit.found.r[described, c], audit.found.index[described, c], train_r)
        low, high = clopper_pearson(int(kept.sum()), len(kept))
        yield Score(name=name, value=float(kept.mean()), low=low, high=high, n=len(kept))


def _membership(audit: Audit) -> Iterator[Score]:
    if audit.train_seen is None or audit.holdout_seen is None:
        yield from undefined(ONLY_FLAGGED if audit.params.only_flagged else NO_HOLDOUT, "membership_auc")
        return
    seen = (audit.train_seen, audit.train_patient, audit.holdout_seen, audit.null_patient)
    yield _score("membership_auc", membership_auc(*seen, audit.params.resamples, audit.params.seed))


def _near_duplicates(audit: Audit) -> Iterator[Score]:
    """Against the line that one in a hundred unrelated real images reaches."""
    names = ("n_near_duplicates", "near_duplicate_rate", "near_duplicate_baseline", "n_distinct")
    if audit.neighbours is None or audit.null_plain is None:
        yield from undefined(ONLY_FLAGGED if audit.params.only_flagged else NO_NULL, *names)
        return
    null_r = audit.null_plain.r[:, audit.primary]
    line = float(np.quantile(null_r, NEAR))
    found = near_duplicates(audit.neighbours, line)
    note = f"joint r of {line:.4f}, the null's {NEAR:.0%} quantile; the largest group has {found.largest} images"
    n = len(audit.synthetic)
    yield Score(name="n_near_duplicates", value=found.n_images, n=n, note=note)
    yield _score("near_duplicate_rate", found.across_halves)
    params = audit.params
    real = share_of_real(null_r, audit.null_patient, line, params.resamples, params.seed)
    yield _score("near_duplicate_baseline", real)
    yield Score(name="n_distinct", value=found.n_groups, n=n)
