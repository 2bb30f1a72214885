"""The metric ``memorization``: scores and tables from the exact search and its null.

Views are the contrasts and, if there are several, ``joint``: all contrasts as one long image. The rule is ``pearson``:
r over all pixels, background included, in place (the definition of Akbar et al. 2025).

Scans of one patient are no more independent than slices of one subject. So the null, its intervals, the choice for
``closer_to_train`` and every number of subjects among the scores count patients (:func:`synthkit.splits.patient_of`);
the tables keep the subjects as the dataset names them, one row a scan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import synthkit
from synthkit import Row, Score
from synthkit.audit import FEW_SUBJECTS, clopper_pearson
from synthkit.contract import Sample, Samples
from synthkit.errors import DataError
from synthkit.splits import patient_of
from synthkit_memorization.null import Null
from synthkit_memorization.pixels import Float64, Int64
from synthkit_memorization.search import Groups, Matches, best_matches, every_rule

RULE = "pearson"
TAILS = (0.9, 0.99, 0.999)
N_PAIRS = 12

#: r of identical images is exactly 1; images equal up to brightness and contrast may miss it by rounding.
IDENTICAL = 1.0 - 1e-12


def score(
    *, metrics: Sequence[str], params: Any, train: Samples, synthetic: Samples, holdout: Samples | None = None
) -> Iterator[Score | Row]:
    """Scores and rows as declared; tables ``matches``, ``pairs``, ``subjects`` and ``null``.

    Parameters
    ----------
    train : what the generator was trained on. holdout : real images of other subjects that it never saw.

    Raises
    ------
    DataError : an empty dataset, contrasts or sizes that differ, or a patient in both train and holdout.
    """
    if holdout is not None and len(holdout) == 0:
        holdout = None
    _check(train, synthetic, holdout)
    audit = _search(params, train, synthetic, holdout)
    yield from _scores(audit, params)
    yield from _tables(audit)


def _check(train: Samples, synthetic: Samples, holdout: Samples | None) -> None:
    for name, data in (("train", train), ("synthetic", synthetic)):
        if len(data) == 0:
            raise DataError(f"The {name} dataset is empty.", "There is nothing to compare.", "Give another dataset.")
    for name, data in (("synthetic", synthetic), ("holdout", synthetic if holdout is None else holdout)):
        if data.contrasts != train.contrasts or data.size != train.size:
            raise DataError(
                f"The {name} and the train dataset cannot be compared.",
                f"{name} has {', '.join(data.contrasts)} at {data.size}, train has {', '.join(train.contrasts)} at "
                f"{train.size} pixels.",
                "Prepare both with the same contrasts, in the same order, and the same size.",
            )
    if holdout is not None:
        shared = sorted(_patients(train) & _patients(holdout))
        if shared:
            raise DataError(
                f"{len(shared)} subjects are in both the train and the holdout dataset.",
                "A null from patients that the generator has seen, be it in another scan, would hide its copies.",
                "Split by subject: `synthkit prepare` does.",
                shared[:20],
            )


def _patients(data: Samples) -> set[str]:
    return {patient_of(sample.subject) for sample in data.samples if sample.subject is not None}


# ---------------------------------------------------------------------------------------------------- the search


@dataclass(frozen=True)
class _Audit:
    """All that was found. Arrays are float64 or int64 ``(image, view)``; the last view is the primary one."""

    views: tuple[str, ...]
    train: Samples
    synthetic: Samples
    holdout: Samples | None
    r: Float64
    index: Int64
    null_samples: Sequence[Sample]
    null: Null | None
    null_index: Int64
    null_kind: str
    thresholds: Float64 | None
    copy_r: float
    closer: Float64 | None  # (image,): 1 closer to train, 0 closer to holdout, 0.5 as close
    holdout_r: Float64 | None
    holdout_index: Int64 | None

    @property
    def flagged(self) -> Any:
        """Boolean ``(image, view)``, or None without a null."""
        return None if self.thresholds is None else self.r > self.thresholds

    @property
    def copies(self) -> Any:
        """Boolean ``(image,)``: flagged, and the joint image correlates with a training image at least by copy_r."""
        return None if self.flagged is None else self.flagged.any(axis=1) & (self.r[:, -1] >= self.copy_r)


def _search(params: Any, train: Samples, synthetic: Samples, holdout: Samples | None) -> _Audit:
    rules = every_rule(train.contrasts)
    views = tuple(rules)
    primary = {views[-1]: rules[views[-1]]}
    null_source = train if holdout is None else holdout
    total = len(null_source) + len(synthetic) * (3 if holdout is not None else 1)
    done = 0

    def find(queries: Samples, among: Any, **options: Any) -> dict[str, Matches]:
        nonlocal done
        start, done = done, done + len(queries)

        def report(share: float) -> None:
            synthkit.progress(start + round(share * len(queries)), total, unit="image")

        return best_matches(queries, among, memory_mb=params.memory_mb, report=report, **options)

    groups = _subject_numbers(null_source)
    exclude = Groups(groups, groups) if holdout is None else None
    null_found = find(null_source, train, rules=rules, exclude=exclude)
    null_r, null_index = _stacked(null_found, views)
    null = None if np.isnan(null_r).any() else Null(null_r, groups)
    thresholds = None if null is None else null.thresholds(params.false_flag_rate)
    _warn(params, null, holdout, thresholds)

    found = find(synthetic, train, rules=rules)
    r, index = _stacked(found, views)
    closer = holdout_r = holdout_index = None
    if holdout is not None:
        rng = np.random.default_rng(params.seed)
        size = min(len(train), len(holdout))
        own, other = _whole_subjects(train, size, rng), _whole_subjects(holdout, size, rng)
        own_r = find(synthetic, _Part(train, own), rules=primary)[views[-1]].r[:, 0]
        held = find(synthetic, _Part(holdout, other), rules=primary)[views[-1]]
        holdout_r, holdout_index = held.r[:, 0], other[held.index[:, 0]]
        closer = (own_r > holdout_r) + 0.5 * (own_r == holdout_r)
    synthkit.progress(total, total, unit="image")
    kind = "held-out subjects" if holdout is not None else "leave-subject-out within the training set, a weaker null"
    return _Audit(
        views=views,
        train=train,
        synthetic=synthetic,
        holdout=holdout,
        r=r,
        index=index,
        null_samples=null_source.samples,
        null=null,
        null_index=null_index,
        null_kind=kind,
        thresholds=thresholds,
        copy_r=params.copy_r,
        closer=closer,
        holdout_r=holdout_r,
        holdout_index=holdout_index,
    )


class _Part:
    """Some rows of a dataset, as the search reads them."""

    def __init__(self, source: Samples, rows: Int64) -> None:
        self._source = source
        self._rows = rows
        self.contrasts = source.contrasts
        self.size = source.size

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, indices: Any) -> Any:
        return self._source.read(self._rows[np.asarray(indices, dtype=np.int64)])


def _subject_numbers(data: Samples) -> Int64:
    """0, 1, ... for each patient, int64 ``(image,)``. Images without a subject count as one: they may be one person."""
    names = [patient_of(sample.subject or "") for sample in data.samples]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _whole_subjects(data: Samples, size: int, rng: np.random.Generator) -> Int64:
    """Rows of ``size`` images: whole patients in random order, the last one cut; ascending."""
    numbers = _subject_numbers(data)
    place = rng.permutation(int(numbers.max()) + 1)
    return np.sort(np.argsort(place[numbers], kind="stable")[:size])


def _stacked(found: dict[str, Matches], views: tuple[str, ...]) -> tuple[Float64, Int64]:
    r = np.stack([found[view].r[:, 0] for view in views], axis=1)
    return r, np.stack([found[view].index[:, 0] for view in views], axis=1)


def _warn(params: Any, null: Null | None, holdout: Samples | None, thresholds: Float64 | None) -> None:
    if holdout is None:
        synthkit.message(
            "No held-out subjects: thresholds come from comparing training subjects with each other, which is weaker.",
            level="warning",
        )
    if null is None or thresholds is None:
        synthkit.message(
            "All training images are of one subject (or of none named) and nothing is held out: no threshold.",
            level="warning",
        )
        return
    n, views = null.r.shape
    if n + 1 < views / params.false_flag_rate:
        synthkit.message(
            f"The null has {n} images: thresholds are its maxima, at a false-flag rate of about {views / (n + 1):.2g} "
            f"instead of {params.false_flag_rate:g}.",
            level="warning",
        )
    if null.n_subjects < FEW_SUBJECTS:
        synthkit.message(f"The null has {null.n_subjects} subjects: its tail is poorly known.", level="warning")
    if thresholds[-1] >= params.copy_r:
        synthkit.message(
            f"Unrelated real images correlate up to {thresholds[-1]:.4f}, more than copy_r = {params.copy_r:g}: "
            "near copies cannot be told from coincidence.",
            level="warning",
        )


# ---------------------------------------------------------------------------------------------------- the numbers


def _scores(audit: _Audit, params: Any) -> Iterator[Score]:
    null, flagged, n = audit.null, audit.flagged, len(audit.synthetic)
    no_null = "" if null is not None else "no null: nothing to compare with"
    n_train_subjects, n_holdout = (
        len(set(_subject_numbers(audit.train))),
        0 if audit.holdout is None else len(audit.holdout),
    )
    yield Score(name="n_synthetic", value=n, n=n)
    yield Score(name="n_train", value=len(audit.train), n=n_train_subjects)
    yield Score(
        name="n_holdout",
        value=n_holdout,
        n=0 if audit.holdout is None else len(set(_subject_numbers(audit.holdout))),
    )
    subjects = None if null is None else null.n_subjects
    yield Score(name="n_null", value=0 if null is None else len(null.r), n=subjects or 0, note=audit.null_kind)
    yield Score(name="n_null_subjects", value=subjects, note=no_null)
    yield Score(
        name="false_flag_rate", value=params.false_flag_rate, note=f"shared equally by {len(audit.views)} views"
    )
    explained = None if null is None else null.explained_rate(params.false_flag_rate)
    note = no_null or ("one null subject: its rate among subjects is unknown" if explained is None else "")
    yield Score(name="explained_flag_rate", value=explained, n=subjects, note=note)

    any_view = None if flagged is None else flagged.any(axis=1)
    yield from _flag_scores({}, any_view, n, no_null)
    yield Score(name="n_copies", value=None if audit.copies is None else int(audit.copies.sum()), n=n, note=no_null)
    yield Score(name="n_identical", value=int((audit.r[:, -1] >= IDENTICAL).sum()), n=n)
    memorized = None if flagged is None else len({patient_of(subject) for subject in _memorized(audit)})
    yield Score(name="n_memorized_subjects", value=memorized, n=n_train_subjects, note=no_null)
    yield _closer_score(audit)

    intervals = None if null is None else null.intervals(params.false_flag_rate, params.resamples, params.seed)
    for v, view in enumerate(audit.views):
        of = {"contrast": view}
        yield from _flag_scores(of, None if flagged is None else flagged[:, v], n, no_null)
        yield _median_score(audit.r[:, v], of)
        for tail in TAILS:
            yield Score(
                name="best_r_quantile",
                value=float(np.quantile(audit.r[:, v], tail)),
                of={**of, "quantile": f"{tail:g}"},
                n=n,
            )
        if null is None or audit.thresholds is None:
            yield Score(name="threshold", value=None, of=of, note=no_null)
            continue
        ends = [(None, None)] * 2 if intervals is None else [tuple(map(float, part[v])) for part in intervals]
        note = "" if intervals is not None else "no interval: one null subject"
        for name, value, (low, high) in (
            ("threshold", float(audit.thresholds[v]), ends[0]),
            ("null_median", float(np.median(null.r[:, v])), ends[1]),
        ):
            if low is not None and high is not None:  # resampled quantiles may just miss the value
                low, high = min(low, value), max(high, value)
            yield Score(name=name, value=value, of=of, low=low, high=high, n=subjects, note=note)
        yield Score(name="null_max", value=float(null.r[:, v].max()), of=of, n=subjects)
        for tail in TAILS:
            value = float(np.quantile(null.r[:, v], tail))
            yield Score(name="null_quantile", value=value, of={**of, "quantile": f"{tail:g}"}, n=subjects)


def _flag_scores(of: dict[str, str], flagged: Any, n: int, note: str) -> Iterator[Score]:
    """Count and share of the flagged among n, with the exact interval."""
    if flagged is None:
        yield Score(name="n_flagged", value=None, of=of, n=n, note=note)
        yield Score(name="flagged_rate", value=None, of=of, n=n, note=note)
        return
    count = int(flagged.sum())
    low, high = clopper_pearson(count, n)
    bound = f"0 of {n} flagged: at most {high:.3%} of what the generator makes (95 %)" if count == 0 else ""
    yield Score(name="n_flagged", value=count, of=of, n=n, note=bound)
    yield Score(name="flagged_rate", value=count / n, of=of, low=low, high=high, n=n, note=bound)


def _median_score(r: Float64, of: dict[str, str]) -> Score:
    """Median with its distribution-free interval: order statistics at n/2 -+ 1.96 sqrt(n)/2."""
    n, ordered = len(r), np.sort(r)
    half = 1.96 * np.sqrt(n) / 2
    low, high = ordered[max(0, int(n / 2 - half) - 1)], ordered[min(n - 1, int(np.ceil(n / 2 + half)))]
    return Score(name="best_r_median", value=float(np.median(r)), of=of, low=float(low), high=float(high), n=n)


def _closer_score(audit: _Audit) -> Score:
    if audit.closer is None or audit.holdout is None:
        return Score(name="closer_to_train", value=None, note="no held-out images to compare with")
    n, closer = len(audit.closer), float(audit.closer.sum())
    low, high = clopper_pearson(round(closer), n)
    size = min(len(audit.train), len(audit.holdout))
    note = f"{size} images of each; interval over synthetic images, given these subjects"
    return Score(name="closer_to_train", value=closer / n, low=low, high=high, n=n, note=note)


def _memorized(audit: _Audit) -> dict[str, set[int]]:
    """Synthetic images flagged by a match with each training subject ("" where the subject is not named)."""
    subjects: dict[str, set[int]] = {}
    for i, v in zip(*np.nonzero(audit.flagged), strict=True):
        sample = audit.train.samples[int(audit.index[i, v])]
        subjects.setdefault(sample.subject or "", set()).add(int(i))
    return subjects


# ----------------------------------------------------------------------------------------------------- the tables


def _tables(audit: _Audit) -> Iterator[Row]:
    flagged = audit.flagged
    quantile = None if audit.null is None else audit.null.quantile_of(audit.r)
    train, synthetic = audit.train.samples, audit.synthetic.samples
    for i in range(len(synthetic)):
        for v, view in enumerate(audit.views):
            match = train[int(audit.index[i, v])]
            values = {
                "synthetic_id": synthetic[i].id,
                "contrast": view,
                "rule": RULE,
                "train_id": match.id,
                "train_subject": match.subject,
                "train_slice": match.slice,
                "r": float(audit.r[i, v]),
                "r_null_quantile": None if quantile is None else float(quantile[i, v]),
                "flagged": None if flagged is None else bool(flagged[i, v]),
            }
            yield Row(table="matches", values=values)
    for i in np.argsort(-audit.r[:, -1], kind="stable")[:N_PAIRS]:
        pair: dict[str, Any] = {
            "synthetic_id": synthetic[int(i)].id,
            "train_id": train[int(audit.index[i, -1])].id,
            "r": float(audit.r[i, -1]),
            "holdout_id": None,
            "r_holdout": None,
        }
        if audit.holdout is not None and audit.holdout_r is not None and audit.holdout_index is not None:
            pair["holdout_id"] = audit.holdout.samples[int(audit.holdout_index[i])].id
            pair["r_holdout"] = float(audit.holdout_r[i])
        yield Row(table="pairs", values=pair)
    yield from _subject_table(audit)
    if audit.null is not None:
        for i, sample in enumerate(audit.null_samples):
            for v, view in enumerate(audit.views):
                matched = train[int(audit.null_index[i, v])].id
                values = {
                    "holdout_id": sample.id,
                    "contrast": view,
                    "train_id": matched,
                    "r": float(audit.null.r[i, v]),
                }
                yield Row(table="null", values=values)


def _subject_table(audit: _Audit) -> Iterator[Row]:
    """One row a training subject (a scan): its images, the flagged synthetic images that match it, its best match."""
    flagged = None if audit.flagged is None else _memorized(audit)
    matched = [audit.train.samples[int(i)].subject or "" for i in audit.index[:, -1]]
    n_matched = Counter(matched)
    n_copies = None
    if audit.copies is not None:
        n_copies = Counter(subject for subject, copy in zip(matched, audit.copies, strict=True) if copy)
    best: dict[str, float] = {}
    for subject, r in zip(matched, audit.r[:, -1], strict=True):
        best[subject] = max(best.get(subject, -1.0), float(r))
    images = Counter(sample.subject or "" for sample in audit.train.samples)
    for subject in sorted(images):
        yield Row(
            table="subjects",
            values={
                "train_subject": subject or None,
                "n_train": images[subject],
                "n_matched": n_matched[subject],
                "n_flagged": None if flagged is None else len(flagged.get(subject, ())),
                "n_copies": None if n_copies is None else n_copies[subject],
                "best_r": best.get(subject),
            },
        )
